"""Execute one notebook with papermill, and keep the executed copy clean."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import nbformat

from leakfree.files import file_hash, replacing, write_text


class NotebookError(Exception):
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


def execute(source: Path, target: Path, parameters: dict[str, Any], *, cwd: Path) -> None:
    """Run a notebook and write its executed copy, and the copy as HTML beside it.

    The copy appears only when every cell ran. A failed one is left as ``<name>.failed.ipynb``.

    Parameters
    ----------
    source, target : pathlib.Path
        Notebook, and where its executed copy goes.
    parameters : dict
        Values for its ``parameters`` cell; an unknown name is refused (papermill would only warn).
    cwd : pathlib.Path
        Working directory of the kernel.

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # papermill and nbclient warn about their own event loops
            papermill.execute_notebook(
                os.path.relpath(source, Path.cwd()),
                os.path.relpath(working, Path.cwd()),
                parameters=parameters,
                cwd=str(cwd),
                log_output=True,
                progress_bar=True,
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
        working.unlink(missing_ok=True)


def _finish(working: Path, target: Path) -> None:
    """Drop progress bars, times and paths, then put notebook and HTML in place."""
    from nbconvert import HTMLExporter

    notebook = nbformat.read(working, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
            tags = cell.metadata.setdefault("tags", [])
            if "injected-parameters" in tags:
                tags.append("hide-input")
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    notebook.metadata.pop("papermill", None)
    with replacing(target) as temporary:
        nbformat.write(notebook, temporary)
    exporter = HTMLExporter()
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": target.stem}})
    write_text(target.with_suffix(".html"), re.sub(r"[ \t]+\n", "\n", html))


def output_hashes(folder: Path, outputs: list[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a run folder, ``missing`` where one is not there."""
    return {
        name: file_hash(folder / name) if (folder / name).is_file() else "missing" for name in sorted(outputs)
    }
