"""What sources and formats hand over: images, not yet decoded, with what their origin says about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from leakfree.base.errors import LeakfreeError

#: Labels that a source may give. ``pneumonia`` is pneumonia whose etiology the source does not tell.
LABELS = ("normal", "bacterial", "viral", "pneumonia")
#: Parts that a source may declare. ``unsplit`` is used where the source has no parts.
PARTS = ("train", "val", "test", "unsplit")


class SourceError(LeakfreeError):
    """The source cannot be used; the message is one line that names what and why."""


@dataclass(frozen=True)
class RawImage:
    """One image as its source holds it, not yet decoded.

    Attributes
    ----------
    file : str
        Path relative to the source, with forward slashes; unique, and the image id of the cohort.
    data : bytes
        The encoded file (JPEG, PNG, ...), unchanged.
    label : str
        One of `LABELS`, or of the study's own.
    part : str
        One of `PARTS`.
    person_num : int or None
        Patient number where the source gives one beside the name (the hub), else None.
    subject : str or None
        Patient by the rule of a study on other images, empty where it names none; None in a source that
        has no such rule.
    """

    file: str
    data: bytes
    label: str
    part: str
    person_num: int | None = None
    subject: str | None = None


class Item(NamedTuple):
    """One image of an input.

    Attributes
    ----------
    file : str
        Its name in reports: the path relative to the input, with ``#`` and what is meant inside a container.
    path : str
        File on disk.
    format : str
        Name of the format that reads it; empty for a plain image file.
    key : str
        Which image of the file; empty for the file itself.
    part, label, patient : str
        As the file says; empty where it does not.
    facts : tuple of (str, str)
        Further fields by name, such as a study or a scanner.
    """

    file: str
    path: str
    format: str = ""
    key: str = ""
    part: str = ""
    label: str = ""
    patient: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Problem:
    """A file that the source lists but that cannot be an image of the cohort.

    Attributes
    ----------
    file : str
        Path relative to the source.
    reason : str
        ``foreign``, ``empty``, ``unreadable: ...`` or ``corrupt: ...``.
    """

    file: str
    reason: str


class Source(Protocol):
    """An iterable of images with a name and a cheap fingerprint of its content."""

    #: Short name of the cohort, used for folder names, such as ``chest_xray`` or ``phantom``.
    name: str
    #: Modules of the package that make its images, such as ``sources/hub``; a change makes its store stale.
    modules: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of items that iteration yields."""

    def __iter__(self) -> Iterator[RawImage | Problem]:
        """Yield images, and problems in the place of what cannot be one."""

    def fingerprint(self) -> str:
        """Return a hex digest that changes when the content may have changed (cheap: no decoding)."""


def readable(text: str) -> str:
    """Keep a name in another encoding readable: tables, JSON and HTML are UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
