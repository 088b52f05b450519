"""Ids of patients as people mean them: words for unknown, and one patient that is spelled in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

#: What tables write where nobody knows, in small letters and without spaces, dots, slashes and brackets.
_UNKNOWN_WORDS = """
    nan na none null nil unknown unk unkn unspecified undefined missing notavailable notknown notapplicable
    anonymous anonymized anonymised anon deidentified removed redacted blank empty tbd tba xxx nat notgiven
    notstated noid noname k.a unbekannt inconnu desconocido
"""
UNKNOWN = frozenset(_UNKNOWN_WORDS.split())
_TOKENS = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"[+]?(\d+)(?:[.,]0+)?")


def is_unknown(value: str) -> bool:
    """Tell whether a value says that nobody knows: empty, ``nan``, ``N/A``, ``unknown``, ``-1``, ``?``."""
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if re.fullmatch(r"-\s*\d+(?:\.0+)?", text):
        return True  # -1, -99, -999.0
    plain = re.sub(r"[\s_./\\<>()\[\]{}'\"#*-]", "", text)
    return not plain or set(plain) <= set("?") or plain in UNKNOWN


def canonical(value: str) -> str:
    """Reduce an id to what does not depend on case, leading zeros, ``.0``, dashes, spaces or wide digits.

    Examples
    --------
    >>> [canonical(text) for text in ("007", "7.0", "P-07", "p7", "TCGA_01", "1-11", "11-1")]
    ['7', '7', 'p7', 'p7', 'tcga1', '1-11', '11-1']
    """
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if number := _NUMBER.fullmatch(text):
        return number[1].lstrip("0") or "0"
    out = ""
    for token in _TOKENS.findall(text):
        token = (token.lstrip("0") or "0") if token.isdigit() else token
        # Two numbers, or two words, stay apart: 1-11 is not 11-1.
        apart = out and (out[-1].isdigit() == token[-1].isdigit())
        out += f"-{token}" if apart else token
    return out or text


@dataclass(frozen=True)
class Ids:
    """Patients of images, read from a column or from names.

    Attributes
    ----------
    patient : tuple of str
        One of each image, empty where it is not known.
    unknown : dict of str to int
        Words that were taken for unknown, and how often.
    merged : tuple of tuple of str
        Spellings that were taken for one patient.
    doubtful : tuple of tuple of str
        Spellings that may be one patient and were left apart, since one part uses both.
    """

    patient: tuple[str, ...]
    unknown: dict[str, int]
    merged: tuple[tuple[str, ...], ...] = ()
    doubtful: tuple[tuple[str, ...], ...] = ()


def read_ids(values: Sequence[str], parts: Sequence[str] = ()) -> Ids:
    """Read ids as people mean them.

    Two spellings are one patient if they differ in nothing but case, zeros in front, ``.0``, dashes or
    spaces. Where one and the same part writes both, as one table does not do for one patient, they are left
    apart unless they are equal as numbers, and are named.

    Parameters
    ----------
    values : sequence of str
        As they were given.
    parts : sequence of str
        Part of each image; may be empty.

    Examples
    --------
    >>> read_ids(["12", "12.0", "unknown"]).patient
    ('12', '12', '')
    """
    parts = parts or [""] * len(values)
    clean: list[str] = []
    unknown: dict[str, int] = defaultdict(int)
    known: dict[str, bool] = {}
    for value in values:
        if value not in known:
            known[value] = not is_unknown(value)
        if not known[value] and value.strip():
            unknown[value.strip()] += 1
        clean.append(" ".join(value.split()) if known[value] else "")
    spelled: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for value, part in zip(clean, parts, strict=True):
        if value:
            spelled[value][""].add(part)
    groups: dict[str, list[str]] = defaultdict(list)
    for value in spelled:
        groups[canonical(value)].append(value)
    merged, doubtful, title = [], [], {}
    for group in groups.values():
        if len(group) == 1:
            continue
        group = sorted(group)
        same_number = all(_NUMBER.fullmatch(unicodedata.normalize("NFKC", value)) for value in group)
        counts: dict[str, int] = defaultdict(int)
        for value in group:
            for part in spelled[value][""]:
                counts[part] += 1
        together = max(counts.values()) > 1 and any(part for part in counts)
        if together and not same_number:
            doubtful.append(tuple(group))
            continue
        merged.append(tuple(group))
        short = min(group, key=lambda value: (len(value), value))
        title.update(dict.fromkeys(group, short))
    return Ids(
        tuple(title.get(value, value) for value in clean), dict(unknown), tuple(merged), tuple(doubtful)
    )
