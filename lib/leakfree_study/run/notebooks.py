"""Execute one notebook with papermill, and keep the executed copy clean."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import replacing, write_text
from leakfree_study.run.kernels import Kernels

#: A kernel answers when it has imported what its notebook imports: from a cold disk that takes a minute.
_START_SECONDS = 600
_TABLE_ID = re.compile(r'<table id="T_([0-9a-f]+)"')
_ADDRESS = re.compile(r" at 0x[0-9a-f]+(?=>)")
_FIGURE = re.compile(r'<figure class="leakfree-figure"[^>]* data-figure="([^"]+)"')


class NotebookError(LeakfreeError):
    """A notebook cannot be run, or failed; the message is one line with notebook, cell and error."""


def known_parameters(path: Path) -> dict[str, str]:
    """Return the parameters that a notebook declares: name to default, as Python source.

    Raises
    ------
    NotebookError
        If the notebook does not exist.
    """
    import papermill

    if not path.is_file():
        raise NotebookError(f"{path}: no such notebook")
    return {name: found["default"] for name, found in papermill.inspect_notebook(str(path)).items()}


def source_digest(path: Path) -> str:
    """Return a SHA-256 over the source of a notebook's cells; outputs and metadata do not count."""
    notebook = nbformat.read(path, as_version=4)
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    kernels: Kernels,
    adapt: Callable[[nbformat.NotebookNode], nbformat.NotebookNode] | None = None,
) -> None:
    """Run a notebook and write its executed copy, and the copy as HTML beside it.

    The copy appears only when every cell ran. A failed one is left as ``<name>.failed.ipynb``.

    Parameters
    ----------
    source, target : pathlib.Path
        Notebook, and where its executed copy goes.
    parameters : dict
        Values for its ``parameters`` cell; an unknown name is refused (papermill would only warn).
    kernels : leakfree_study.run.kernels.Kernels
        Where it takes its kernel from.
    adapt : callable, optional
        Makes of the notebook the one that is run, as `leakfree_study.own.notebook.adapted` does.

    Raises
    ------
    NotebookError
        If a parameter is unknown or a cell fails.
    """
    import papermill

    unknown = sorted(set(parameters) - set(known_parameters(source)))
    if unknown:
        raise NotebookError(f"{source.name}: unknown parameter {', '.join(unknown)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    working = target.with_name(f".{target.stem}.running.ipynb")
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)
    shown = target.with_name(f".{target.stem}.source.ipynb")
    if adapt is not None:
        with replacing(shown) as temporary:
            nbformat.write(adapt(nbformat.read(source, as_version=4)), temporary)
    kernel = kernels.take(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # papermill and nbclient warn about their own event loops
            papermill.execute_notebook(
                os.path.relpath(source if adapt is None else shown, Path.cwd()),
                os.path.relpath(working, Path.cwd()),
                parameters=parameters,
                km=kernel.manager,
                start_timeout=_START_SECONDS,
                log_output=True,
                progress_bar={"desc": source.stem},
            )
    except papermill.PapermillExecutionError as error:
        os.replace(working, failed)
        value = " ".join(str(error.evalue).split())
        raise NotebookError(
            f"{source.name}: cell {error.exec_count} failed: {error.ename}: {value} (see {failed.name})"
        ) from error
    except Exception as error:
        raise NotebookError(f"{source.name}: could not be run: {' '.join(str(error).split())}") from error
    else:
        _finish(working, target)
    finally:
        kernel.close()
        working.unlink(missing_ok=True)
        shown.unlink(missing_ok=True)


def _finish(working: Path, target: Path) -> None:
    """Drop progress bars, times, paths, pieces and random ids, then put notebook and HTML in place."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    together = CoalesceStreamsPreprocessor()
    notebook = nbformat.read(working, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
            # In how many pieces a kernel sends what is printed depends on how busy the machine is.
            together.preprocess_cell(cell, {}, 0)
            tags = cell.metadata.setdefault("tags", [])
            if "injected-parameters" in tags:
                tags.append("hide-input")
                cell.id = "injected-parameters"  # papermill's own is a random one
            _forget_chance(cell)
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    notebook.metadata.pop("papermill", None)
    with replacing(target) as temporary:
        nbformat.write(notebook, temporary)
    exporter = HTMLExporter()
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": target.stem}})
    write_text(target.with_suffix(".html"), re.sub(r"[ \t]+\n", "\n", html))


def _forget_chance(cell: nbformat.NotebookNode) -> None:
    """Give tables ids by their place in the cell instead of random ones, and objects no address in memory."""
    for place, output in enumerate(cell.outputs):
        if text := output.get("data", {}).get("text/plain"):
            output["data"]["text/plain"] = _ADDRESS.sub("", text)
        page = output.get("data", {}).get("text/html", "")
        for number, found in enumerate(dict.fromkeys(_TABLE_ID.findall(page))):
            page = page.replace(f"T_{found}", f"T_{cell.id}_{place}_{number}")
        if page:
            output["data"]["text/html"] = page


def figure_cells(path: Path) -> dict[str, int]:
    """Return the figures that an executed notebook shows, each with the execution count of its cell."""
    shown = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", ()):
            for name in _FIGURE.findall(output.get("data", {}).get("text/html", "")):
                shown[name] = cell.execution_count
    return shown
