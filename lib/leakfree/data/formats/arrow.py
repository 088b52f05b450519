"""Data sets of Hugging Face on disk: Parquet and Arrow files with a column of encoded images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from leakfree.data.formats.base import FormatError
from leakfree.data.held import opened
from leakfree.data.raw import Item, Problem
from leakfree.data.reading.tables import ALIASES, plain

if TYPE_CHECKING:  # imported where a file is read
    import pyarrow as pa

NAME, SUFFIXES, PACKAGE = "a data set of Hugging Face", (".arrow", ".parquet"), "pyarrow"


def _table(path: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.endswith(".parquet"):
        return pq.read_table(path, use_threads=False)
    with pa.memory_map(path) as source:
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()


def _pictures(schema: pa.Schema) -> str:
    """Name the column of images: a structure with ``bytes``, or plain bytes."""
    import pyarrow as pa

    for column in schema:
        if pa.types.is_struct(column.type) and "bytes" in [part.name for part in column.type]:
            return column.name
    return next(
        (c.name for c in schema if pa.types.is_binary(c.type) or pa.types.is_large_binary(c.type)), ""
    )


def holds_images(path: str) -> bool:
    """Whether a Parquet file has a column of images; one without is a plain table."""
    import pyarrow.parquet as pq

    return bool(_pictures(pq.read_schema(path)))


def items(path: str, file: str) -> list[Item]:
    """List the rows of a file."""
    try:
        table = opened(_table, path)
    except Exception as error:  # pyarrow raises many types
        raise FormatError(f"cannot be read by pyarrow: {' '.join(str(error).split())}") from error
    if not _pictures(table.schema):
        return []
    names: dict[str, list[str]] = {}
    for what in ("label", "patient", "part"):
        column = next((c for c in table.column_names if plain(c) in ALIASES[what]), "")
        values = table[column].to_pylist() if column else [""] * len(table)
        classes = _classes(table.schema, column)
        names[what] = [
            "" if v is None else classes[v] if isinstance(v, int) and 0 <= v < len(classes) else str(v)
            for v in values
        ]
    return [
        Item(f"{file}/{k}", path, "arrow", str(k), names["part"][k], names["label"][k], names["patient"][k])
        for k in range(len(table))
    ]


def _classes(schema: pa.Schema, column: str) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return []


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the bytes of each row's image."""
    table = opened(_table, path)
    column = table[_pictures(table.schema)]
    for key in keys:
        value = column[int(key)].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        yield data or Problem(key, "unreadable: the row has no image inside")
