"""The ledger: which images a stage really consumed, taken from what was yielded.

Recording the indices that a loader was asked for proves nothing: the reference study's loader ignored
them, and every assertion on the index lists passed. Here the stored id comes out of the yielded row
together with its pixels, and the pixels of sampled rows are hashed and compared with the hash that the
image had when it was decoded. A result is valid only with a ledger that agrees with its manifest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from leakfree.files import write_json
from leakfree.pixels import pixel_digest
from leakfree.protocols import Protocol
from leakfree.splits import Manifest

#: The pixels of one row in this many are hashed, at least one in a batch.
CHECK_EVERY = 8


class LedgerError(Exception):
    """What was consumed is not what the manifest says; the result must not be used."""


class Ledger:
    """Counts of the images that each stage consumed.

    Parameters
    ----------
    digests : mapping of str to int
        Image id to pixel digest, as decoded from the store.
    """

    def __init__(self, digests: Mapping[str, int]) -> None:
        self._digests = digests
        self._stages: dict[str, Counter[str]] = {}
        self._checked: Counter[str] = Counter()
        self._batches: Counter[str] = Counter()
        self._agreed: tuple[str, Protocol] | None = None

    def record(self, stage: str, ids: Sequence[str], pixels: np.ndarray) -> None:
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
        test = set(self.consumed("test"))
        fitted = set(self.consumed("train")) | set(self.consumed("val"))
        between = [(fitted, test), (set(self.consumed("train")), set(self.consumed("val")))]
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
            by_times: dict[str, list[str]] = {}
            for image_id in sorted(counts):
                by_times.setdefault(str(counts[image_id]), []).append(image_id)
            stages[stage] = {
                "images": len(counts),
                "rows": counts.total(),
                "rows_hashed": self._checked[stage],
                "sha256": consumed_hash(counts),
                "ids_by_times": by_times,
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
