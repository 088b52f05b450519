"""How the study is cited, and what a run holds, as machines read it: BibTeX, CodeMeta, RO-Crate, Croissant.

All of it is made from ``CITATION.cff`` and from the record of a run; nothing is said twice by hand. In the
built book stand a crate and a croissant of the files that are there; of a whole run, for an archive::

    python -m leakfree_study.book.citing ro-crate-metadata.json artifacts/chest_xray
    python -m leakfree_study.book.citing croissant.json artifacts/chest_xray
    python -m leakfree_study.book.citing codemeta.json > codemeta.json

"""

from __future__ import annotations

import json
import mimetypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import Arguments, say
from leakfree.base.paths import project_root
from leakfree.base.sums import NAME as SUMS

#: Of files that the standard library does not know.
_KINDS = {
    ".safetensors": "application/octet-stream",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".gz": "application/gzip",
    ".md": "text/markdown",
}
_LICENCES = {
    "MIT": "https://spdx.org/licenses/MIT",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}
#: The context that Croissant 1.0 asks for.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{
        term: f"cr:{term}"
        for term in (
            "citeAs", "column", "extract", "field", "fileObject", "fileProperty", "fileSet", "format",
            "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip
_TYPES = {"i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}


def citation() -> dict[str, Any]:
    """Read ``CITATION.cff`` of the compendium that this package was installed from."""
    project = project_root(Path(__file__).parent)
    return yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))


def bibtex(cited: dict[str, Any]) -> str:
    """Write the BibTeX of the software and of the images that it was made with.

    Parameters
    ----------
    cited : dict
        As `citation`.
    """
    entries = [("software", _key(cited), cited, {"version": cited["version"], "license": cited["license"]})]
    for one in cited["references"]:
        if one["type"] == "data":
            more = {"publisher": one["publisher"]["name"], "version": one["version"], "doi": one["doi"]}
            entries.append(("dataset", _key(one), one, more))
    return "\n\n".join(_entry(*entry) for entry in entries)


def _entry(kind: str, key: str, cited: dict[str, Any], more: dict[str, str]) -> str:
    authors = " and ".join(_author(author) for author in cited["authors"])
    year = cited["year"] if "year" in cited else cited["date-released"][:4]
    fields = {"author": authors, "title": f"{{{cited['title']}}}", "year": year, **more}
    return f"@{kind}{{{key},\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items()) + "}"


def _author(author: dict[str, str]) -> str:
    # Braces: the name of a group is no first and last name.
    return (
        f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
    )


def _key(cited: dict[str, Any]) -> str:
    first = cited["authors"][0]
    word = first.get("family-names", cited["title"].split(":")[0]).lower()
    return f"{word}{cited['year'] if 'year' in cited else cited['date-released'][:4]}"


def codemeta(cited: dict[str, Any]) -> dict[str, Any]:
    """Return the CodeMeta 2.0 description of the software; ``codemeta.json`` of the compendium is this."""
    return {
        "@context": "https://doi.org/10.5063/schema/codemeta-2.0",
        "@type": "SoftwareSourceCode",
        "name": cited["title"].split(":")[0],
        "description": " ".join(cited["abstract"].split()),
        "version": cited["version"],
        "datePublished": cited["date-released"],
        "license": _LICENCES[cited["license"]],
        "author": [{"@type": "Organization", "name": one["name"]} for one in cited["authors"]],
        "keywords": cited["keywords"],
        "programmingLanguage": "Python",
        "referencePublication": [
            {"@type": "ScholarlyArticle", "name": one["title"], "@id": f"https://doi.org/{one['doi']}"}
            for one in cited["references"]
            if one["type"] == "article"
        ],
    }


def ro_crate(run: Path, cited: dict[str, Any], within: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Return the RO-Crate 1.1 metadata of a run: each file of its record with hash, size and kind.

    Parameters
    ----------
    run : pathlib.Path
        A finished run.
    cited : dict
        As `citation`.
    within : tuple of str
        What the names of the files begin with; all of them by default.

    Raises
    ------
    OSError, ValueError, KeyError
        If the run has no provenance or no list of hashes.
    """
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    index = run / "figures" / "index.json"
    captions = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    captions = {f"figures/{file}": one["caption"] for one in captions.values() for file in one["files"]}
    files = [_file(run, name, digest) for name, digest in _listed(run) if name.startswith(within)]
    files = [{**file, "description": captions.get(file["@id"], file["name"])} for file in files]
    author = {"@id": "#authors", "@type": "Organization", "name": cited["authors"][0]["name"]}
    (data,) = (one for one in cited["references"] if one["type"] == "data")
    images = {"@id": f"https://doi.org/{data['doi']}", "@type": "CreativeWork", "name": data["title"],
              "license": _LICENCES[data["license"]]}  # fmt: skip
    software = {"@id": "#leakfree", "@type": "SoftwareApplication", "name": "leakfree",
                "softwareVersion": provenance["versions"]["leakfree"], "license": _LICENCES[cited["license"]],
                "identifier": provenance["git"]["commit"]}  # fmt: skip
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Run on the cohort {provenance['data']['name']}",
        "description": " ".join(cited["abstract"].split()),
        "datePublished": cited["date-released"],
        "license": {"@id": _LICENCES[cited["license"]]},
        "author": {"@id": author["@id"]},
        "hasPart": [{"@id": file["@id"]} for file in files],
    }
    made = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"run_all.py, profile {provenance['settings']['profile']}",
        "instrument": {"@id": software["@id"]},
        "object": {"@id": images["@id"]},
        "result": {"@id": root["@id"]},
    }
    if provenance["data"]["name"] != "chest_xray":  # the phantom, and other people's images
        made["object"] = {"@id": "#images"}
        images = {"@id": "#images", "@type": "CreativeWork", "name": f"Cohort {provenance['data']['name']}"}
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [descriptor, root, made, software, images, author, *files],
    }


def _listed(run: Path) -> list[tuple[str, str]]:
    lines = (run / SUMS).read_text(encoding="utf-8").splitlines()
    found = ((name, digest) for digest, _, name in (line.partition("  ") for line in lines))
    # A copy of a run may lack files that its sums name: what is not there is not described.
    return [(name, digest) for name, digest in found if (run / name).is_file()]


def _file(run: Path, name: str, digest: str) -> dict[str, Any]:
    suffix = Path(name).suffix
    kind = _KINDS.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    size = (run / name).stat().st_size
    return {"@id": name, "@type": "File", "name": Path(name).name, "encodingFormat": kind,
            "contentSize": str(size), "sha256": digest}  # fmt: skip


def croissant(run: Path, cited: dict[str, Any], within: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Return the Croissant 1.0 metadata of the tables of a run: files, records and types of their columns.

    Parameters and errors are those of `ro_crate`.
    """
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    files, records = [], []
    for name, digest in _listed(run):
        if not (name.startswith("tables/") and name.startswith(within) and name.endswith(".csv")):
            continue
        told, stem = _file(run, name, digest), Path(name).stem
        files.append({"@type": "cr:FileObject", "@id": name, "name": told["name"], "contentUrl": name,
                      "encodingFormat": "text/csv", "contentSize": f"{told['contentSize']} B",
                      "sha256": digest})  # fmt: skip
        columns = pd.read_csv(run / name, nrows=2000).dtypes if int(told["contentSize"]) > 1 else {}
        fields = [
            {
                "@type": "cr:Field",
                "@id": f"{stem}/{re.sub(r'[^0-9A-Za-z_.-]', '_', column)}",
                "name": column,
                "dataType": _TYPES.get(dtype.kind, "sc:Text"),
                "source": {"fileObject": {"@id": name}, "extract": {"column": column}},
            }
            for column, dtype in columns.items()
        ]
        if fields:
            records.append({"@type": "cr:RecordSet", "@id": stem, "name": stem, "field": fields})
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"leakfree-{provenance['data']['name']}",
        "description": f"Tables of a run on the cohort {provenance['data']['name']}. "
        + " ".join(cited["abstract"].split()),
        "citeAs": bibtex(cited).partition("\n\n")[0],
        "version": cited["version"],
        "datePublished": cited["date-released"],
        "license": _LICENCES[cited["license"]],
        "creator": {"@type": "sc:Organization", "name": cited["authors"][0]["name"]},
        "distribution": files,
        "recordSet": records,
    }


#: What stands in the built book beside the files that it names.
DESCRIBED: dict[str, Callable[..., dict[str, Any]]] = {
    "ro-crate-metadata.json": ro_crate,
    "croissant.json": croissant,
}


def as_json(described: dict[str, Any]) -> str:
    """Write a description as JSON."""
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def section(name: str, run: Path) -> str:
    """Return a section of the page on citing: ``bibtex``."""
    return {"bibtex": lambda: f"```bibtex\n{bibtex(citation())}\n```\n"}[name]()


def main() -> int:
    """Write a description to standard output; see the module."""
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["codemeta.json", *DESCRIBED])
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder; codemeta needs none")
    given = parser.parse_args()
    try:
        if given.name == "codemeta.json":
            described = codemeta(citation())
        elif given.run is None:
            raise LeakfreeError(f"{given.name} is about a run: name its folder")
        else:
            described = DESCRIBED[given.name](given.run, citation())
    except (LeakfreeError, OSError, ValueError, KeyError) as error:
        say(f"citing: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(as_json(described))
    return 0


if __name__ == "__main__":
    sys.exit(main())
