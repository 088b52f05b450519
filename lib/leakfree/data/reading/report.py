"""How parts, labels and patients were read, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_EXAMPLES, _SHOWN = 3, 8


@dataclass(frozen=True)
class Field:
    """How parts, labels or patients were read.

    Attributes
    ----------
    source : str
        Which folder, column, pattern or names, in words; empty if nothing told it.
    images : int
        Images that have a value.
    of : int
        All images.
    values : mapping of str to int
        Values with their images; for patients only their number is kept, in `different`.
    different : int
        Number of different values.
    examples : tuple of (str, str)
        Three images with their values.
    without : tuple of str
        Three images without one.
    """

    source: str
    images: int
    of: int
    values: Mapping[str, int]
    different: int
    examples: tuple[tuple[str, str], ...]
    without: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return JSON content."""
        return {
            "from": self.source,
            "images": self.images,
            "of": self.of,
            "different": self.different,
            "values": dict(self.values),
            "examples": [{"file": file, "value": value} for file, value in self.examples],
            "without": list(self.without),
        }

    def line(self) -> str:
        """Return one line for the terminal."""
        if not self.images:
            return "not read"
        some = ""
        if self.values:
            shown = [f"{value} {n:,}" for value, n in list(self.values.items())[:_SHOWN]]
            more = f", and {self.different - len(shown)} more" if self.different > len(shown) else ""
            some = f": {', '.join(shown)}{more}"
        elif self.different:
            some = f": {self.different:,} different"
        count = (
            f"all {self.of:,} images" if self.images == self.of else f"{self.images:,} of {self.of:,} images"
        )
        return f"from {self.source}, for {count}{some}"


def make_field(source: str, files: Sequence[str], values: Sequence[str], *, listed: bool = True) -> Field:
    """Describe the values of images; `listed` is False where values are many, such as patients."""
    counts = Counter(value for value in values if value)
    examples: dict[str, str] = {}
    without: list[str] = []
    for file, value in zip(files, values, strict=True):
        if value and value not in examples and len(examples) < _EXAMPLES:
            examples[value] = file
        elif not value and len(without) < _EXAMPLES:
            without.append(file)
    shown = [(file, value) for value, file in examples.items()]
    for file, value in zip(files, values, strict=True):
        if len(shown) >= _EXAMPLES:
            break
        if value and (file, value) not in shown:
            shown.append((file, value))
    return Field(
        source if counts else "",
        counts.total(),
        len(files),
        dict(counts.most_common(30)) if listed else {},
        len(counts),
        tuple(shown),
        tuple(without),
    )


@dataclass(frozen=True)
class Reading:
    """How an input was understood.

    Attributes
    ----------
    parts, labels, patients : Field
    scopes : mapping of str to int
        Further columns that group images, with their number of groups.
    notes : tuple of str
        What was decided on the way: spellings joined, words taken for unknown, what was left out.
    unclear : tuple of str
        What was not understood, each with what to declare; nothing may be cleared then.
    partial : tuple of str
        What was understood for some of the images only; the user may accept it.
    left_out : mapping of str to int
        Files that are no images of this input, by kind.
    """

    parts: Field
    labels: Field
    patients: Field
    scopes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON content."""
        return {
            "parts": self.parts.as_json(),
            "labels": self.labels.as_json(),
            "patients": self.patients.as_json(),
            "scopes": dict(self.scopes),
            "notes": list(self.notes),
            "unclear": list(self.unclear),
            "partial": list(self.partial),
            "left_out": dict(self.left_out),
        }


def reading_lines(reading: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write a reading, as in the JSON report, as pairs of what and how, for people."""
    lines = []
    for what in ("parts", "labels", "patients"):
        entry = reading.get(what)
        if not isinstance(entry, Mapping):
            continue
        known = Field(
            str(entry["from"]), int(entry["images"]), int(entry["of"]), dict(entry["values"]),
            int(entry["different"]),
            (), (),
        )  # fmt: skip
        text = known.line()
        if entry["examples"]:
            text += "; " + ", ".join(f"{one['file']} is {one['value']}" for one in entry["examples"])
        if 0 < known.images < known.of and entry["without"]:
            text += f"; not {', '.join(entry['without'])}"
        lines.append((what, text))
    scopes = reading.get("scopes") or {}
    if scopes:
        lines.append(("scopes", ", ".join(f"{name} ({n:,} groups)" for name, n in scopes.items())))
    left_out = reading.get("left_out") or {}
    if left_out:
        lines.append(("not read", ", ".join(f"{n:,} x {kind}" for kind, n in left_out.items())))
    lines += [("note", str(note)) for note in reading.get("notes", ())]
    lines += [("UNCLEAR", str(one)) for one in (*reading.get("unclear", ()), *reading.get("partial", ()))]
    return lines
