"""The book of a study on the user's own images: its title, landing page and contents, from its run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from leakfree.base.escape import code, markdown
from leakfree.base.files import write_text
from leakfree.data.patients import DECLARED, SUBJECT
from leakfree.data.study_file import OwnStudy
from leakfree_study.figures.tables import bracketed
from leakfree_study.own.limits import UNKNOWN, limits
from leakfree_study.run.config import NOTEBOOKS

#: Pages beside the notebooks; all others of the compendium are about its own study.
PAGES = ("intro", "limits", "words")
#: The cohort as a run records it, see `leakfree.data.record`.
COHORT = "cohort.csv"


def stage(source: Path, run: Path, study: OwnStudy) -> None:
    """Make the staged sources of the book those of a study: contents, title, and pages of its own.

    Parameters
    ----------
    source : pathlib.Path
        A copy of the compendium's ``book/``, which is changed.
    run : pathlib.Path
        Run folder with tables and the record of the cohort.
    study : OwnStudy
    """
    for page in source.rglob("*.md"):
        page.unlink()
    contents = {
        "format": "jb-book",
        "root": "intro",
        "parts": [
            {
                "caption": "The study, step by step",
                "chapters": [{"file": f"run/{name}"} for name in NOTEBOOKS],
            },
            {"caption": "How to read it", "chapters": [{"file": "limits"}, {"file": "words"}]},
        ],
    }
    write_text(source / "_toc.yml", yaml.safe_dump(contents, sort_keys=False))
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    config |= {"title": study.title, "author": "", "copyright": ""}
    write_text(source / "_config.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_text(source / "intro.md", _intro(run, study))
    write_text(source / "limits.md", _limits(run, study))
    write_text(source / "words.md", _WORDS)


def _intro(run: Path, study: OwnStudy) -> str:
    cohort, (one, many) = _cohort(run), _image(study)
    development = cohort[cohort["part"].isin(["train", "unsplit"])]
    classes = _read(run, "01_classes")
    lines = [
        f"# {markdown(study.title)}",
        "",
        f"Do scores on these {many} say what a model does for patients who are new? If {many} of one "
        "patient stand in training and in test, a score can rise because the model knows the patient. This "
        "book counts such leaks, trains with and without them, and says how sure each number is.",
        "",
        ":::{admonition} The cohort",
        ":class: note",
        f"**{markdown(study.name)}**: {len(cohort):,} {many}, of which {len(development):,} may be trained "
        f"and tested on. {_patients(cohort, study, one)} {_profile(run)}".rstrip(),
        ":::",
        "",
        *_table(
            ["part", "label", many],
            [[row.part, row.label, f"{row.images:,}"] for row in classes.itertuples()],
        ),
        "",
        "## What the audit found",
        "",
        *_audit(run),
        "",
        "## What is answered",
        "",
        *_table(["question", "answer", "shown in"], list(_answers(run, study, many)), links=("shown in",)),
        "",
        f"In brackets: 95 % intervals from a bootstrap over {_unit(study, many)}. [](limits.md) says what "
        f"these {many} cannot support, and [](words.md) what the words mean.",
        "",
        "## How to check it",
        "",
        "Every number on this page is read from a table of the run, and every score there names the file of "
        "predictions that it can be computed from. `leakfree verify` checks a run folder; the study file "
        "and the same images give the same splits.",
        "",
    ]
    return "\n".join(lines)


def _patients(cohort: pd.DataFrame, study: OwnStudy, one: str) -> str:
    named = cohort.loc[cohort[SUBJECT] != "", SUBJECT]
    if not study.patients_known or named.empty:
        return UNKNOWN
    rest = len(cohort) - len(named)
    alone = f" {rest:,} name none and count as a patient each." if rest else ""
    return (
        f"They name {named.nunique():,} patients (scope `{DECLARED}`, by the rule of the study file).{alone}"
    )


def _profile(run: Path) -> str:
    """Say which profile ran, and that the smallest one proves nothing but that it runs."""
    profile = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["settings"]["profile"]
    caution = (
        ": it shows that every step runs, and no number here means anything" if profile == "smoke" else ""
    )
    return f"Profile {code(profile)}{caution}."


def _unit(study: OwnStudy, many: str) -> str:
    return "patients" if study.patients_known else f"{many}, since patients are unknown"


def _audit(run: Path) -> Iterator[str]:
    found = _read(run, "02_audit")
    splits = list(dict.fromkeys(found["split"]))
    rows = [
        [check, *(f"{r.status} ({r.count})" if r.count else r.status for r in rows.itertuples())]
        for check, rows in found.groupby("check", sort=False)
    ]
    yield from _table(["check", *splits], rows)
    yield ""
    official = found[(found["split"] == splits[0]) & found["status"].isin(["FAIL", "WARN"])]
    yield from (f"- {markdown(f'{splits[0]}, {row.check}: {row.summary}')}" for row in official.itertuples())
    yield ""
    yield "Each check and split is in [](run/02_leakage_analysis.ipynb)."


def _answers(run: Path, study: OwnStudy, many: str) -> Iterator[list[str]]:
    overlap = _read(run, "02_overlap")
    page = "[](run/02_leakage_analysis.ipynb)"
    for row in overlap[(overlap["scope"] == DECLARED) & study.patients_known].itertuples():
        yield [
            f"Patients on both sides of a {row.split} random 80/20 split of {many}",
            f"{row.shared:.1f} (mean of {row.seeds} draws, {row.shared_min} to {row.shared_max})",
            page,
        ]
    leaky, page = _read(run, "03_scores"), "[](run/03_leaky_cnn.ipynb)"
    first = leaky[(leaky["metric"] == "roc_auc") & (leaky["seed"] == leaky["seed"].iloc[0])]
    for row, text in zip(first.itertuples(), bracketed(first), strict=True):
        split = f"split of {many}" if row.protocol == "image-level" else "split of linked groups"
        yield [f"Small network, {row.task}, {split}: ROC AUC", text or "undefined", page]
    for name, table, notebook in (
        ("Best model on pixels", "04_scores", "04_leakfree_classical"),
        ("Selected network", "05_scores", "05_leakfree_deep"),
    ):
        scores = _read(run, table)
        chosen = scores[scores["selected"] & scores["metric"].isin(["roc_auc", "macro_f1"])]
        for row, text in zip(chosen.itertuples(), bracketed(chosen), strict=True):
            metric = {"roc_auc": "ROC AUC", "macro_f1": "macro F1"}[row.metric]
            model = str(row.model).replace("_", " ")
            yield [f"{name}, {row.task}, {model}: {metric}", text or "undefined", f"[](run/{notebook}.ipynb)"]
    yield from _inflation(run, many)


def _inflation(run: Path, many: str) -> Iterator[list[str]]:
    page = "[](run/06_inflation.ipynb)"
    path = run / "tables" / "inflation.csv"
    if not path.is_file():
        yield ["What a leak is worth", "cannot be measured on this cohort", page]
        return
    rows = pd.read_csv(path)
    rows = rows[rows["primary"] & (rows["metric"] == "roc_auc") & (rows["dose"] == 1.0)]
    for protocol, what in (
        ("siblings", "Same patient on both sides, all tested patients leaked"),
        ("exact", f"Copies of the test {many} in training"),
    ):
        of_leak = rows[rows["protocol"] == protocol].dropna(subset=["estimate"])
        if len(of_leak):
            most = of_leak.loc[[of_leak["estimate"].idxmax()]]
            row = most.iloc[0]
            what = f"{what}: largest inflation of ROC AUC ({row['model']}, {row['task']})"
            yield [what, bracketed(most, signed=True).iloc[0], page]


def _limits(run: Path, study: OwnStudy) -> str:
    one, many = _image(study)
    lines = [
        "# Limits",
        "",
        "## What these images cannot support".replace("images", many),
        "",
        *(f"- {markdown(line)}" for line in limits(_cohort(run), patients_known=study.patients_known)),
        *_left_out(run),
        "",
        "## What no run can tell",
        "",
        f"- Whether the rule of patients is right: it takes names at their word. Two {many} that share "
        "neither name nor picture can still show one patient.",
        f"- Whether the labels are right: only copies of one {one} are compared.",
        f"- How a model does on {many} from elsewhere: all of these have one origin.",
        "- Colour: models here see grey levels, squashed to a square.",
        "- Nothing was decided before this run: margins and levels are those of the compendium's study.",
        "",
    ]
    return "\n".join(lines)


def _left_out(run: Path) -> Iterator[str]:
    about = json.loads((run / "cohort.json").read_text(encoding="utf-8"))
    if problems := about.get("problems"):
        first = problems[0]
        named = f"{code(first['file'])} ({markdown(first['reason'])})"
        yield f"- Files left out: {len(problems):,}, such as {named}."


_WORDS = """# Words

patient
: Who the study file says is one patient: the first group of its pattern in the path, or a column of its
  table. What names nobody is its own patient.

linked group
: Images joined by patient, or as copies whose pixels agree. A clean split never divides one.

split manifest
: Which image is in which part, with a hash of the content. Everything trains and is tested from one.

ledger
: The images that a stage really consumed, with hashes of their pixels. A score counts only where the ledger
  agrees with the manifest.

clean, leaky
: A clean arm shares nothing between training and test. A leaky one has one leak switched on, with as many
  training images of each class, and is scored on the same images.

inflation
: Score of the leaky arm minus that of the clean one.

dose
: Share of the tested patients of whom something leaks.

sealed
: Labels of the official test part, which no notebook reads. A plan that was committed before opens them once.
"""


def _cohort(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / COHORT, dtype=str, keep_default_na=False)


def _read(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "tables" / f"{name}.csv")


def _image(study: OwnStudy) -> tuple[str, str]:
    return study.image, plural(study.image)


def plural(word: str) -> str:
    """Return the plural of what a study calls one image."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"


def _table(head: list[str], rows: list[list[str]], links: tuple[str, ...] = ()) -> Iterator[str]:
    """Write a table; cells are text, but for the columns that hold links of this module's making."""
    yield f"| {' | '.join(map(markdown, head))} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        cells = zip(head, row, strict=True)
        yield f"| {' | '.join(str(cell) if name in links else markdown(cell) for name, cell in cells)} |"
