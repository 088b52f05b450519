"""Linked groups: images that must stay together, joined by patient or by being copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def linked_groups(*keys: Sequence[str] | np.ndarray) -> np.ndarray:
    """Join images that share a value in any of the keys, transitively.

    Parameters
    ----------
    *keys : array-like of str, shape (n,)
        For instance the patients and the SHA-256 of the files.

    Returns
    -------
    numpy.ndarray of int64, shape (n,)
        Group of each image, numbered by first appearance.

    Raises
    ------
    ValueError
        If no key is given or their lengths differ.
    """
    if not keys or len({len(key) for key in keys}) != 1:
        raise ValueError("linked_groups needs at least one key, all of one length")
    n = len(keys[0])
    rows, columns, offset = [], [], n
    for key in keys:
        codes, values = pd.factorize(np.asarray(key, dtype=object), use_na_sentinel=False)
        rows.append(np.arange(n))
        columns.append(codes + offset)  # one extra node for each value of the key
        offset += len(values)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(offset, offset))
    component = connected_components(graph, directed=False)[1][:n]
    return pd.factorize(component)[0].astype(np.int64)
