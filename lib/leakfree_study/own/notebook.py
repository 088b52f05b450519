"""The notebooks of the compendium as a study on own images runs them: what is not theirs is left out."""

from __future__ import annotations

from collections.abc import Mapping

import nbformat

#: Tag of cells that are about chest X-rays, the reference study or the published run.
CHEST = "chest-xray"
#: Tag of cells that need patients with several images, see `leakfree_study.own.limits.no_siblings`.
SIBLINGS = "needs-siblings"


def adapted(
    notebook: nbformat.NotebookNode, left_out: Mapping[str, str], note: str = ""
) -> nbformat.NotebookNode:
    """Return the notebook that a study runs.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        As the compendium has it; it stays as it is.
    left_out : mapping of str to str
        Further tags whose cells are left out, with the reason, which stands once in their place.
    note : str
        Stands under the title; none if empty.
    """
    made = nbformat.from_dict({**notebook, "cells": []})
    told = set()
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if CHEST in tags:
            continue
        lacking = next((tag for tag in tags if tag in left_out), None)
        if lacking is not None:
            if lacking not in told:
                made.cells.append(_markdown(left_out[lacking], f"left-out-{lacking}"))
                told.add(lacking)
            continue
        made.cells.append(nbformat.from_dict(cell))
        if number == 0 and note:
            made.cells.append(_markdown(f"> **{note}**", "own-note"))
    return made


def _markdown(text: str, name: str) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_markdown_cell(text)
    cell.id = name  # not a random one
    return cell
