"""The ledger: which images a stage really consumed, taken from what was yielded.

Recording the indices that a loader was asked for proves nothing: the reference study's loader ignored
them, and every assertion on the index lists passed. Here the stored id comes out of the yielded row
together with its pixels, and the pixels of sampled rows are hashed and compared with the hash that the
image had when it was decoded. A result is valid only with a ledger that agrees with its manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_json
from leakfree.data.pixels import pixel_digest
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import Protocol

#: The pixels of one row in this many are hashed, at least one in a batch.
CHECK_EVERY = 8

_STATE = "leakfree-ledger-state-1"


class LedgerError(LeakfreeError):
    """What was consumed is not what the manifest says; the result must not be used."""


class Ledger:
    """Counts of the images that each stage consumed.

    Parameters
    ----------
    digests : mapping of str to int
        Image id to pixel digest, as decoded from the store; see `leakfree.ledger.loaders.digests_of`.

    Examples
    --------
    >>> import numpy as np
    >>> from leakfree import Ledger
    >>> from leakfree.ledger.loaders import digests_of
    >>> ids, pixels = ["a", "b"], np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    >>> ledger = Ledger(digests_of(ids, pixels))
    >>> ledger.record("train", ["a"], pixels[:1])
    >>> ledger.record("test", ["a"], pixels[1:])
    Traceback (most recent call last):
    leakfree.ledger.ledger.LedgerError: test: the pixels that came as 'a' are not that image's
    """

    def __init__(self, digests: Mapping[str, int]) -> None:
        self._digests = digests
        self._stages: dict[str, Counter[str]] = {}
        self._checked: Counter[str] = Counter()
        self._batches: Counter[str] = Counter()
        self._agreed: tuple[str, Protocol] | None = None
        self._reference = ""

    def record(self, stage: str, ids: Sequence[str] | np.ndarray, pixels: np.ndarray) -> None:
        """Enter a batch as it was yielded, before any augmentation.

        Parameters
        ----------
        stage : str
            Part of the manifest that the stage should consume: ``train``, ``val`` or ``test``.
        ids : sequence of str, shape (b,)
            Ids that came with the rows.
        pixels : numpy.ndarray of uint8, shape (b, height, width)
            Pixels that came with the rows.

        Raises
        ------
        LedgerError
            If an id is unknown, or the pixels are not those of their id.
        """
        if len(ids) != len(pixels):
            raise LedgerError(f"{stage}: {len(ids)} ids came with {len(pixels)} images")
        # The offset moves from batch to batch, so that over epochs every place of a batch is checked.
        for place in range(self._batches[stage] % min(CHECK_EVERY, max(len(ids), 1)), len(ids), CHECK_EVERY):
            expected = self._digests.get(ids[place])
            if expected is None:
                raise LedgerError(f"{stage}: consumed {ids[place]!r}, which is not in the cohort")
            if pixel_digest(pixels[place]) != expected:
                raise LedgerError(f"{stage}: the pixels that came as {ids[place]!r} are not that image's")
            self._checked[stage] += 1
        self._batches[stage] += 1
        self._agreed = None
        self._stages.setdefault(stage, Counter()).update(ids)

    def record_digests(self, stage: str, ids: Sequence[str] | np.ndarray, digests: Sequence[int]) -> None:
        """Enter a batch whose digests were taken where its pixels were decoded, as in a loader's worker.

        Every row is compared, so that nothing of a batch is entered unless all of it agrees.

        Parameters
        ----------
        stage : str
            As in `record`.
        ids : sequence of str, shape (b,)
            Ids that came with the rows.
        digests : sequence of int, shape (b,)
            `leakfree.data.pixels.pixel_digest` of each row's pixels before any augmentation. A list, array or
            tensor; 64 bits are also taken as int64, which is how a tensor holds them.

        Raises
        ------
        LedgerError
            If a digest is none, an id is unknown, or the pixels are not those of their id.
        """
        ids, values = list(ids), _as_list(stage, digests)
        if len(ids) != len(values):
            raise LedgerError(f"{stage}: {len(ids)} ids came with {len(values)} digests")
        for image_id, value in zip(ids, values, strict=True):
            digest = _unsigned(stage, image_id, value)
            expected = self._digests.get(image_id) if isinstance(image_id, str) else None
            if expected is None:
                raise LedgerError(f"{stage}: consumed {image_id!r}, which is not in the cohort")
            if digest != expected:
                raise LedgerError(f"{stage}: the pixels that came as {image_id!r} are not that image's")
        self._checked[stage] += len(ids)
        self._batches[stage] += 1
        self._agreed = None
        self._stages.setdefault(stage, Counter()).update(ids)

    def state(self) -> dict[str, Any]:
        """Return what was recorded so far, of types that JSON has, for a checkpoint."""
        stages = {
            stage: {
                "ids_by_times": _by_times(counts),
                "sha256": consumed_hash(counts),
                "rows_hashed": self._checked[stage],
                "batches": self._batches[stage],
            }
            for stage, counts in self._stages.items()
        }
        return {"format": _STATE, "reference": self._reference_hash(), "stages": stages}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, in place of what is in the ledger now.

        Rows consumed after the state was taken are forgotten, and so must be the weights and scores that
        came of them: keep state and weights in one checkpoint.

        Raises
        ------
        LedgerError
            If it is no such state, was changed, or was taken with other reference digests (another cohort
            or image size). The ledger is left as it was.
        """
        try:
            if state["format"] != _STATE:
                raise LedgerError(f"ledger state of format {state['format']!r}, this version has {_STATE}")
            if state["reference"] != self._reference_hash():
                raise LedgerError("ledger state belongs to other images: its reference digests differ")
            read = {stage: _read_stage(stage, entry) for stage, entry in state["stages"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LedgerError(f"not a ledger state: {type(error).__name__} {error}") from error
        self._stages = {stage: counts for stage, (counts, _, _) in read.items()}
        self._checked = Counter({stage: checked for stage, (_, checked, _) in read.items()})
        self._batches = Counter({stage: batches for stage, (_, _, batches) in read.items()})
        self._agreed = None

    def save_state(self, path: Path) -> Path:
        """Write `state` as JSON, whole or not at all."""
        return write_json(path, self.state())

    def load_state(self, path: Path) -> None:
        """Go on from a file of `save_state`; raises `LedgerError` as `restore`, with the file's name."""
        try:
            self.restore(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise LedgerError(f"{path}: not a ledger state: {error}") from error
        except LedgerError as error:
            raise LedgerError(f"{path}: {error}") from error

    def merge(self, other: Ledger) -> None:
        """Add what another process recorded, such as another rank of a distributed run.

        A sampler that pads the ranks to equal length makes one row count twice. In training that is
        another look at an image of the part; in the test part `check` refuses it.

        Raises
        ------
        LedgerError
            If the other ledger is this one, or has other reference digests.
        """
        if other is self:
            raise LedgerError("a ledger cannot be merged with itself: every row would count twice")
        if other._reference_hash() != self._reference_hash():
            raise LedgerError("the ledgers belong to other images: their reference digests differ")
        for stage, counts in other._stages.items():
            self._stages.setdefault(stage, Counter()).update(counts)
        self._checked.update(other._checked)
        self._batches.update(other._batches)
        self._agreed = None

    def _reference_hash(self) -> str:
        self._reference = self._reference or consumed_hash(self._digests)
        return self._reference

    def consumed(self, stage: str) -> Counter[str]:
        """Return how often each image was consumed."""
        return self._stages.get(stage, Counter())

    def leaks(self, groups: Mapping[str, int]) -> dict[str, int]:
        """Count images, and linked groups, that two stages share.

        Parameters
        ----------
        groups : mapping of str to int
            Image id to linked group.
        """
        between = list(combinations([set(counts) for counts in self._stages.values()], 2))
        images = set().union(*(first & second for first, second in between))
        shared = set().union(
            *({groups[i] for i in first} & {groups[i] for i in second} for first, second in between)
        )
        return {"images": len(images), "linked groups": len(shared)}

    def check(self, manifest: Manifest, protocol: Protocol, groups: Mapping[str, int]) -> dict[str, int]:
        """Compare what was consumed with the manifest and with the leaks that the protocol declares.

        Returns
        -------
        dict of str to int
            The leaks that were found, as `leaks`.

        Raises
        ------
        LedgerError
            If a stage consumed images of another part or missed some of its own, if the test part was
            scored more than once, if no pixels were checked, or if found and declared leaks differ.
        """
        for part, ids in manifest.parts.items():
            consumed, expected = self.consumed(part), set(ids)
            foreign, missed = set(consumed) - expected, expected - set(consumed)
            if foreign or missed:
                example = sorted(foreign or missed)[0]
                raise LedgerError(
                    f"{manifest.name}: stage {part} consumed {len(consumed)} images where the manifest has "
                    f"{len(expected)}: {len(foreign)} of another part, {len(missed)} missed, like {example}"
                )
            if not self._checked[part]:
                raise LedgerError(f"{manifest.name}: no pixels of stage {part} were checked")
        unknown = sorted(set(self._stages) - set(manifest.parts))
        if unknown:
            raise LedgerError(f"{manifest.name}: stage {unknown[0]} is no part of the manifest")
        repeated = [image_id for image_id, times in self.consumed("test").items() if times > 1]
        if repeated:
            raise LedgerError(f"{manifest.name}: the test part was scored more than once ({repeated[0]})")
        found = self.leaks(groups)
        present = {leak for leak, count in found.items() if count}
        if undeclared := sorted(present - protocol.leaks):
            raise LedgerError(
                f"{manifest.name}: undeclared leak, {found[undeclared[0]]} {undeclared[0]} on both sides "
                f"under protocol {protocol.name}"
            )
        if absent := sorted(protocol.leaks - present):
            raise LedgerError(
                f"{manifest.name}: protocol {protocol.name} declares shared {absent[0]}; none was found"
            )
        self._agreed = (manifest.hash, protocol)
        return found

    def save(self, path: Path, manifest: Manifest, protocol: Protocol, found: Mapping[str, int]) -> Path:
        """Write what was consumed, with the manifest that it agrees with, as JSON.

        Per stage: the ids by the number of times that they were consumed, and a hash over both.

        Raises
        ------
        LedgerError
            If `check` has not passed, for this manifest and protocol, on what is in the ledger now.
        """
        if self._agreed != (manifest.hash, protocol):
            raise LedgerError(f"{manifest.name}: not saved, since the ledger was not checked against it")
        stages = {}
        for stage, counts in self._stages.items():
            stages[stage] = {
                "images": len(counts),
                "rows": counts.total(),
                "rows_hashed": self._checked[stage],
                "sha256": consumed_hash(counts),
                "ids_by_times": _by_times(counts),
            }
        content = {
            "manifest": manifest.name,
            "manifest_hash": manifest.hash,
            "protocol": protocol.name,
            "declared_leaks": sorted(protocol.leaks),
            "found_leaks": dict(found),
            "agrees": True,
            "stages": stages,
        }
        return write_json(path, content)


def consumed_hash(counts: Mapping[str, int]) -> str:
    """Return a SHA-256 over sorted image ids and the times that each was consumed."""
    lines = "".join(f"{image_id}\t{counts[image_id]}\n" for image_id in sorted(counts))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _by_times(counts: Mapping[str, int]) -> dict[str, list[str]]:
    by_times: dict[str, list[str]] = {}
    for image_id in sorted(counts):
        by_times.setdefault(str(counts[image_id]), []).append(image_id)
    return by_times


def read_by_times(by_times: Mapping[str, Sequence[str]]) -> Counter[str]:
    """Return the times that each image was consumed, from ids by times as a ledger's file has them.

    Raises
    ------
    ValueError
        If a number of times is no positive integer, an id is no text, or an id stands there twice.
    """
    counts: Counter[str] = Counter()
    for times, ids in by_times.items():
        if not (times.isascii() and times.isdecimal() and int(times) > 0):
            raise ValueError(f"{times!r} is no number of times")
        for image_id in ids:
            if not isinstance(image_id, str):
                raise ValueError(f"{image_id!r} is no image id")
            if image_id in counts:
                raise ValueError(f"{image_id!r} stands there twice")
            counts[image_id] = int(times)
    return counts


def _read_stage(stage: str, entry: Mapping[str, Any]) -> tuple[Counter[str], int, int]:
    counts = read_by_times(entry["ids_by_times"])
    if consumed_hash(counts) != entry["sha256"]:
        raise LedgerError(f"ledger state: ids of stage {stage} do not agree with their hash; it was changed")
    checked, batches = index(entry["rows_hashed"]), index(entry["batches"])
    if not 0 <= checked <= counts.total() or batches < 0:
        raise ValueError(f"stage {stage} counts {checked} hashed rows of {counts.total()}")
    return counts, checked, batches


def _as_list(stage: str, digests: Sequence[int]) -> list[int]:
    values = digests.tolist() if hasattr(digests, "tolist") else digests
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise LedgerError(f"{stage}: digests are no sequence but {type(values).__name__}")
    return list(values)


def _unsigned(stage: str, image_id: object, value: Any) -> int:
    digest: int | None
    try:
        digest = index(value)
    except TypeError:
        digest = None
    if digest is None or isinstance(value, bool) or not -(2**63) <= digest < 2**64:
        raise LedgerError(f"{stage}: {value!r}, which came with {image_id!r}, is no 64-bit digest")
    return digest % 2**64
