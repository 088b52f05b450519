"""What a run rests on and left behind, as Markdown: every word of it read from the files of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from architecture_page import openings
from markdown_tables import code, duration, short_hash, size, table

from leakfree.base.escape import markdown

#: Folders of a run, in the order in which a run fills them; others follow by name.
_ORDER = (
    "notebooks",
    "tables",
    "figures",
    "manifests",
    "audit",
    "ledgers",
    "cells",
    "predictions",
    "models",
)


def provenance_of(run: Path) -> dict:
    """Return the content of a run's ``provenance.json``.

    Raises
    ------
    ValueError
        The file is missing or cannot be read; the message is one line.
    """
    file = run / "provenance.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"the run {run.name} has no provenance.json") from None
    except ValueError as error:
        raise ValueError(f"provenance.json of the run {run.name} is not JSON: {error}") from None


def data_section(run: Path) -> str:
    """Return what was read: the cohort, its checksum, and the files that were left out."""
    data = provenance_of(run)["data"]
    left_out = data.get("left_out", [])
    rows = [
        ("cohort", code(data["name"])),
        ("images", f"{data['images']:,}"),
        ("checksum over all images", f'<code class="hash">{data["checksum"]}</code>'),
        ("files left out as unusable", f"{len(left_out):,}"),
    ]
    text = table(("what", "value"), rows)
    if left_out:
        text += "\n" + table(("file left out", "reason"), [_problem(problem) for problem in left_out])
    return text


def _problem(problem: dict) -> tuple[str, str]:
    """Return the file and the reason of a problem, whatever else its source noted."""
    name = problem.get("name") or problem.get("file") or problem.get("path") or "?"
    reason = "; ".join(str(v) for k, v in problem.items() if v and v != name)
    return code(PurePosixPath(str(name)).name), markdown(reason)


def notebooks_section(run: Path) -> str:
    """Return one row a notebook: code it ran with, duration, files it wrote."""
    rows = []
    for name, notebook in provenance_of(run)["notebooks"].items():
        git = notebook.get("git", {})
        rows.append(
            (
                code(name),
                duration(notebook.get("seconds")),
                short_hash(git.get("commit", "unknown")),
                _changed(git.get("changed_files", "unknown")),
                f"{len(notebook.get('outputs', ())):,}",
            )
        )
    return table(("notebook", "time", "commit", "changed since", "files"), rows)


def _changed(files: object) -> str:
    if isinstance(files, str):
        return markdown(files)
    return ", ".join(code(name) for name in files) or "nothing"


def settings_section(run: Path) -> str:
    """Return how the run was last called, and the parameters of each notebook."""
    content = provenance_of(run)
    rows = [
        (code(name), _setting(name, value))
        for name, value in sorted(content.get("settings", {}).items())
        if value not in ({}, [], "", None)
    ]
    lines = [table(("setting", "value"), rows)]
    for name, notebook in content["notebooks"].items():
        parameters = [(code(k), _setting(k, v)) for k, v in sorted(notebook.get("parameters", {}).items())]
        lines.append(
            f":::{{dropdown}} Parameters of {name}\n{table(('parameter', 'value'), parameters)}:::\n"
        )
    return "\n".join(lines)


def _setting(name: str, value: object) -> str:
    # Where the data stood on that machine says nothing to a reader.
    if name in ("data", "out") and isinstance(value, str) and "://" not in value:
        value = PurePosixPath(value.replace("\\", "/")).name
    if value == "" or value == []:
        return "none"
    return code(value if isinstance(value, str) else json.dumps(value))


def machine_section(run: Path) -> str:
    """Return the machine and how long the last call took."""
    content = provenance_of(run)
    rows = [(markdown(name), markdown(value)) for name, value in content.get("machine", {}).items()]
    total = sum(notebook.get("seconds") or 0 for notebook in content["notebooks"].values())
    rows.append(("all notebooks together", duration(total)))
    rows.append(("last call of the study", duration(content.get("seconds"))))
    return table(("what", "value"), rows)


def versions_section(run: Path) -> str:
    """Return the versions of Python and of every package that can change a number."""
    versions = provenance_of(run).get("versions", {})
    first = [name for name in ("python", "leakfree") if name in versions]
    names = first + sorted(set(versions) - set(first))
    return table(("package", "version"), [(code(name), markdown(versions[name])) for name in names])


def files_section(run: Path) -> str:
    """Return how many files the run holds by folder, their size, and of how many provenance has a hash."""
    listed = {
        name for notebook in provenance_of(run)["notebooks"].values() for name in notebook.get("outputs", {})
    }
    listed |= {name for opening in openings(run) for name in opening.get("predictions", {})}
    found = list(_files(run))
    folders = {name.partition("/")[0] for name, _ in found if "/" in name}
    order = [name for name in dict.fromkeys(_ORDER) if name in folders]
    rows = []
    for folder in order + sorted(folders - set(order)):
        inside = [(name, octets) for name, octets in found if name.startswith(f"{folder}/")]
        hashed = sum(name in listed for name, _ in inside)
        rows.append((code(f"{folder}/"), f"{len(inside):,}", size(sum(o for _, o in inside)), f"{hashed:,}"))
    rest = [(name, octets) for name, octets in found if "/" not in name]
    rows.append(("beside the folders", f"{len(rest):,}", size(sum(o for _, o in rest)), ""))
    text = table(("folder", "files", "size", "hash in provenance"), rows)
    sums = run / "SHA256SUMS"
    if sums.is_file():
        lines = len(sums.read_text(encoding="utf-8").splitlines())
        text += f"\n`SHA256SUMS` lists the SHA-256 of {lines:,} files; `leakfree verify` compares them.\n"
    return text


def _files(run: Path) -> Iterable[tuple[str, int]]:
    """Yield name and size of the files of a run, without caches and without the book built from it."""
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        built = name.startswith("book/") or (name.startswith("notebooks/") and path.suffix == ".html")
        if (
            path.is_file()
            and not built
            and not any(part.startswith(".") for part in PurePosixPath(name).parts)
        ):
            yield name, path.stat().st_size


def manifests_section(run: Path) -> str:
    """Return the split manifests: kind, scope, seed, images of each part, content hash."""
    rows = []
    for path in sorted((run / "manifests").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = ", ".join(f"{part} {len(ids):,}" for part, ids in content["parts"].items())
        rows.append(
            (
                code(content["name"]),
                content["scope"],
                str(content["seed"]),
                parts,
                short_hash(content["hash"]),
            )
        )
    if not rows:
        return "This run holds no split manifest.\n"
    return (
        f":::{{dropdown}} {len(rows)} manifests\n"
        + table(("manifest", "scope", "seed", "images", "content hash"), rows)
        + ":::\n"
    )


def weights_section(run: Path) -> str:
    """Return the published weights with what they were trained on."""
    rows = []
    for path in sorted((run / "models").glob("*preprocessing.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        file = run / "models" / content["weights"]
        rows.append(
            (
                code(content["weights"]),
                f"{content['model']}, {content['task']}, {content['image_size']} px, seed {content['seed']}",
                size(file.stat().st_size) if file.is_file() else "missing",
                short_hash(content["weights_sha256"]),
                short_hash(content["manifest_hash"]),
            )
        )
    if not rows:
        return "This run publishes no weights.\n"
    return table(("weights", "model", "size", "SHA-256 of what was trained", "manifest"), rows)


def sealed_section(run: Path) -> str:
    """Return every opening of the sealed test, or that there was none."""
    opened = openings(run)
    if not opened:
        return "The log of this run names no opening of the sealed test.\n"
    rows = [
        (
            str(entry["opening"]),
            entry["date"].replace("T", " ").partition("+")[0],
            short_hash(entry["plan"]),
            short_hash(entry["plan_commit"]),
            short_hash(entry["git"]["commit"]),
            f"{len(entry['predictions']):,}",
        )
        for entry in opened
    ]
    head = (
        "opening",
        "date (UTC)",
        "plan",
        "commit of the plan",
        "commit of the code",
        "files of predictions",
    )
    return table(head, rows)


SECTIONS = {
    "data": data_section,
    "notebooks": notebooks_section,
    "settings": settings_section,
    "machine": machine_section,
    "versions": versions_section,
    "files": files_section,
    "manifests": manifests_section,
    "weights": weights_section,
    "sealed": sealed_section,
}
