"""Ten figures of a run as slides for a talk or a lesson: one HTML file that needs nothing else.

``python -m leakfree_study.book.slides artifacts/chest_xray slides.html`` writes it; the book has it beside
its pages. No figure that shows images of the cohort is among them.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import sys
from pathlib import Path

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import Arguments, html, say
from leakfree.base.files import write_text
from leakfree.data.study_file import kept_study
from leakfree_study.book.citing import citation
from leakfree_study.figures.pages import page

#: The figures in the order of a talk, each with the question that it answers.
FIGURES = {
    "01_images_per_patient": "How many images does a patient have?",
    "02_overlap": "How many test images have their patient in training?",
    "03_scores": "What does a small network score with and without the leak?",
    "results_answer": "What does each leak add to a score?",
    "06_dose_response": "Does the difference grow with the share of patients who leak?",
    "06_control": "Does the method find what is there, and nothing where nothing is?",
    "05_scores_binary": "How good are networks on patients that they have not seen?",
    "results_tests": "And on the official test?",
    "05_framing_curves": "What happens when images are cut out in another way?",
    "05_hidden": "What is left of the score when a region of the images is hidden?",
}


def slides(run: Path) -> str:
    """Return the slides of a run as HTML; a figure that it lacks is left out.

    Parameters
    ----------
    run : pathlib.Path
        Folder of the run.

    Raises
    ------
    LeakfreeError
        If the run has none of the figures.
    """
    try:
        index = json.loads((run / "figures" / "index.json").read_text(encoding="utf-8"))
        data = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError) as error:
        raise LeakfreeError(f"{run}: not a finished run: {error}") from error
    shown = []
    for name, title in FIGURES.items():
        entry = index.get(name)
        if entry is None or entry["films"]:
            continue
        # A drawing, not dots, where there is one for a desk.
        files = sorted(entry["files"], key=lambda file: (Path(file).stem != name, not file.endswith(".svg")))
        tables = ", ".join(Path(table).name for table in entry["tables"]) or Path(entry["source"]).name
        shown.append(
            {
                "title": title,
                "alt": html(entry["alt"]),
                "caption": html(entry["caption"]),
                "file": html(files[0]),
                "tables": html(tables),
                "kind": mimetypes.guess_type(files[0])[0],
                "data": base64.b64encode((run / "figures" / files[0]).read_bytes()).decode(),
            }
        )
    if not shown:
        raise LeakfreeError(f"{run}: has none of the figures that the slides show")
    cited = citation()
    study = kept_study(run)
    values = {
        "title": html(study.title if study else cited["title"]),
        "cohort": html(data["name"]),
        "images": f"{data['images']:,}",
        "cite": html(f"{cited['title']}, version {cited['version']}, {cited['license']} licence."),
    }
    return page("leakfree_study.book", "slides.html.j2", slides=shown, **values)


def main(arguments: list[str] | None = None) -> int:
    """Write the slides; see the module."""
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("out", type=Path, metavar="FILE", help="HTML file to write")
    given = parser.parse_args(arguments)
    try:
        write_text(given.out, slides(given.run))
    except (LeakfreeError, OSError) as error:
        say(f"slides: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
