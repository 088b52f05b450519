"""The architecture of the library as the book shows it, from its imports and from the files of a run."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import api_page
from markdown_tables import code as code_span
from markdown_tables import table
from rooms import Room, first_line

from leakfree_study.run.config import NOTEBOOKS

#: Who writes predictions after the notebooks, on the record.
UNSEAL = "leakfree unseal"


def rooms_tables(found: list[Room]) -> str:
    """Return for each room a folded table of its modules and what each is for, as Markdown."""
    lines = []
    for room in found:
        rows = []
        for module in room.modules:
            address = f"api/{room.page}.html#{api_page.anchor(module)}"
            link = f'<a href="{address}">{code_span(api_page.title_of(module))}</a>'
            rows.append((link, first_line(module).replace("``", "`")))
        modules = ":::{dropdown} " + f"{len(rows)} modules" if len(rows) != 1 else ":::{dropdown} 1 module"
        lines += [f"### {room.name}", "", room.purpose, "", modules]
        lines += [table(("module", "what it does"), rows), ":::", ""]
    return "\n".join(lines)


def shown(counted: Counter[tuple[int, int]]) -> Counter[tuple[int, int]]:
    """Return the pairs of rooms that the figure shows: without the first room, which all others use."""
    return Counter({pair: count for pair, count in counted.items() if pair[1] != 0})


def flow_alt(found: list[Room], counted: Counter[tuple[int, int]]) -> str:
    """Return the text that stands for the figure of the flow."""
    heaviest = ", ".join(
        f"{found[here].name} to {found[there].name} ({count})"
        for (here, there), count in counted.most_common(3)
    )
    return (
        f"{len(found)} rooms from top to bottom, from {found[0].name} to {found[-1].name}. "
        f"Arcs on the right lead from a room up to those that it imports from: {len(counted)} pairs of "
        f"rooms, without {found[0].name}. The heaviest: {heaviest}."
    )


def written(run: Path) -> dict[str, Counter[str]]:
    """Count the files that each notebook wrote, by folder of the run.

    Parameters
    ----------
    run : Path
        Folder of a run.

    Returns
    -------
    dict of str to Counter
        Writer, in the order in which they ran, to folder and number of files. What opened the sealed test
        comes last.
    """
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    found = {
        name: Counter(
            output.partition("/")[0]
            for output in provenance["notebooks"][name].get("outputs", {})
            if "/" in output
        )
        for name in _in_order(provenance["notebooks"])
    }
    opened = {name for opening in openings(run) for name in opening.get("predictions", {})}
    if opened:
        found[UNSEAL] = Counter(name.partition("/")[0] for name in opened)
    return found


def _in_order(notebooks: dict[str, dict]) -> list[str]:
    """Return notebooks in the order in which they run; the file has them in that of the alphabet."""
    return sorted(notebooks, key=lambda name: (NOTEBOOKS.index(name) if name in NOTEBOOKS else -1, name))


def openings(run: Path) -> list[dict]:
    """Return what the log of the sealed test holds, one entry an opening; nothing where there is no log."""
    log = run / "sealed_test.jsonl"
    if not log.is_file():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]


def tables_read(run: Path) -> dict[str, dict[str, list[str]]]:
    """Return which notebook names tables of which other notebook in its code.

    Parameters
    ----------
    run : Path
        Folder of a run with executed notebooks.

    Returns
    -------
    dict of str to dict of str to list of str
        Reader to writer to the names of the tables.
    """
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    writer = {
        Path(output).stem: name
        for name, notebook in provenance["notebooks"].items()
        for output in notebook.get("outputs", {})
        if output.startswith("tables/")
    }
    order = _in_order(provenance["notebooks"])
    found: dict[str, dict[str, list[str]]] = {}
    for position, reader in enumerate(order):
        file = run / "notebooks" / f"{reader}.ipynb"
        for text in sorted(_strings(file)) if file.is_file() else ():
            # A name of a table that is written later, or here, is a word that means something else.
            if writer.get(text) in order[:position]:
                found.setdefault(reader, {}).setdefault(writer[text], []).append(text)
    return found


def _strings(notebook: Path) -> set[str]:
    """Return the string constants in the code of a notebook."""
    found = set()
    for entry in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if entry["cell_type"] != "code":
            continue
        lines = "".join(entry["source"]).splitlines()
        # Magics of IPython are no Python.
        source = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def reads_table(run: Path) -> str:
    """Return which notebook reads tables of which other one, as Markdown."""
    reads = tables_read(run)
    if not reads:
        return "In this run no notebook reads a table of another one.\n"
    rows = [
        (code_span(reader), code_span(writer), ", ".join(map(code_span, names)))
        for reader, writers in reads.items()
        for writer, names in writers.items()
    ]
    return table(("notebook", "reads tables of", "which"), rows)


def files_alt(counts: dict[str, Counter[str]]) -> str:
    """Return the text that stands for the figure of the files."""
    lines = [
        f"{name}: {', '.join(f'{n} in {folder}' for folder, n in counter.most_common())}"
        for name, counter in counts.items()
    ]
    return "Files written to the folders of the run. " + "; ".join(lines) + "."
