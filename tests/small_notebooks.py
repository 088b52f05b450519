"""Notebooks of a few cells for tests that run them, and whether a process has ended."""

import os


def write(path, *cells):
    """Write a notebook with the parameter ``given`` and code cells."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    parameters = new_code_cell("given = 1", metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[parameters, *map(new_code_cell, cells)], metadata=metadata), path)
    return path


def gone(pid):
    """Whether no process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
