"""From a scan to copies: exact ones, and near ones that are candidates first and then verified on pixels."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from leakfree.audit.copies.hashes import RADIUS, SYMMETRIES, TURNED_RADIUS, near_pairs, transform
from leakfree.audit.copies.scan import Scan
from leakfree.audit.target import Reader
from leakfree.base.kept import Kept
from leakfree.data.bounded import decode
from leakfree.data.groups import linked_groups
from leakfree.data.images import ImageError

_QUARTERS = ("turned by 90", "turned by 270")
#: Pairs verified at a time.
_BATCH = 256
#: Images of one size whose mean tells what they have in common, and how many there must be for that.
_SAMPLE, _LEAST = 64, 16
#: Images in memory while pairs are verified, 50 kB each.
_KEPT = 8192
#: So many images are compared by hash in less time than it takes to start threads.
_FEW = 1000
CANDIDATE_COLUMNS = (
    "first", "second", "found_by", "symmetry", "inverted", "distance", "keypoints", "agreement", "verified",
)  # fmt: skip
#: Standard deviation of the grey values, of 255, under which nothing is to be seen.
LEAST_SPREAD = 2.0


@dataclass(frozen=True)
class Copies:
    """Which images are copies of one another.

    Attributes
    ----------
    same_file : list of list of int
        Rows of the scan that are one file on disk.
    exact : list of list of int
        Rows of different files with the same bytes or the same grey pixels.
    near : list of list of int
        Clusters that hold at least one verified near-duplicate; exact copies of their members included.
    candidates : pandas.DataFrame
        Every pair whose pixels were compared: rows ``first`` and ``second``, how it was found
        (``hash`` or ``keypoints``), ``symmetry``, ``inverted``, ``distance`` in bits (-1 without), number of
        agreeing ``keypoints``, ``agreement`` of the pixels and whether that is enough (``verified``).
        Pairs of a cluster that other pairs had joined already are not compared again.
    group : numpy.ndarray of int64, shape (n,)
        Images joined by any of these.
    thorough : bool
        Whether shifted and cropped copies were looked for.
    stages : dict of str to int
        Pairs that each stage handed on.
    unread : int
        Images that could be read at first, and not again when their pixels were to be compared.
    """

    same_file: list[list[int]]
    exact: list[list[int]]
    near: list[list[int]]
    candidates: pd.DataFrame
    group: np.ndarray
    thorough: bool
    stages: dict[str, int]
    unread: int = 0

    def take(self, rows: np.ndarray) -> Copies:
        """Return what holds among some rows, int64 (m,), renumbered in their order."""
        place = {row: position for position, row in enumerate(rows.tolist())}

        def kept(groups: list[list[int]]) -> list[list[int]]:
            some = [sorted(place[row] for row in group if row in place) for group in groups]
            return sorted((group for group in some if len(group) > 1), key=lambda group: group[0])

        inside = self.candidates["first"].isin(place) & self.candidates["second"].isin(place)
        candidates = self.candidates[inside].reset_index(drop=True)
        for end in ("first", "second"):
            candidates[end] = candidates[end].map(place)
        group = pd.factorize(self.group[rows])[0].astype(np.int64)
        return Copies(
            kept(self.same_file),
            kept(self.exact),
            kept(self.near),
            candidates,
            group,
            self.thorough,
            self.stages,
            self.unread,
        )


class _Clusters:
    """Union-find over rows."""

    def __init__(self, group: np.ndarray) -> None:
        self._parent = list(range(len(group)))
        first: dict[int, int] = {}
        for row, value in enumerate(group.tolist()):
            self.join(first.setdefault(value, row), row)

    def find(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        a, b = sorted((self.find(first), self.find(second)))
        self._parent[b] = a

    def joined(self, first: int, second: int) -> bool:
        return self.find(first) == self.find(second)

    def labels(self) -> np.ndarray:
        return pd.factorize(np.array([self.find(row) for row in range(len(self._parent))]))[0]


def shows_nothing(table: pd.DataFrame, least: float = LEAST_SPREAD) -> np.ndarray:
    """Tell which images show nothing: bool, shape (n,)."""
    if "std" not in table:
        return np.zeros(len(table), dtype=bool)
    return (table["std"] < least).to_numpy()


def find_copies(
    scan: Scan,
    reader: Reader,
    *,
    near: bool = True,
    thorough: bool = False,
    jobs: int = 2,
    run: Callable[[Callable, list[tuple]], Iterable[np.ndarray]] | None = None,
    kept: Kept | None = None,
) -> Copies:
    """Find exact copies, then near ones.

    Parameters
    ----------
    scan : Scan
    reader : Reader
        Of the same target; candidates are read once more to compare their pixels.
    near : bool
        Look for near-duplicates at all.
    thorough : bool
        Also look for shifted, cropped, slightly turned and padded copies; needs the scan's keypoints.
    jobs : int
        Threads that compare pixels.
    run : callable, optional
        Where the bands of the hash search run, see `leakfree.audit.copies.hashes.near_pairs`.
    kept : Kept, optional
        What is known of pairs of pictures that were compared in an earlier run.

    Raises
    ------
    ValueError
        If `thorough` is asked for and the scan has no keypoints.
    """
    if thorough and scan.keypoints is None:
        raise ValueError("a thorough search needs a thorough scan")
    table = scan.table
    alone = [f"row {row}" for row in range(len(table))]
    known = table["inode"].where(table["inode"] != "", alone)
    # What shows nothing, or stands in many stacks of frames, is alike without being a copy: it joins nobody.
    left_out = shows_nothing(table) | common_frames(table)
    digests = [table[name].where(~left_out, alone) for name in ("sha256", "pixels")]
    same_file = _groups(linked_groups(known)) if len(table) else []
    exact_group = linked_groups(*digests) if len(table) else np.empty(0, np.int64)
    distinct = {row for group in same_file for row in group[1:]}
    exact = [group for group in _groups(exact_group) if sum(row not in distinct for row in group) > 1]
    group = linked_groups(exact_group, known) if len(table) else exact_group
    clusters = _Clusters(group)
    # One image of each group of exact copies stands for all of them.
    rows = np.flatnonzero(~pd.Series(group).duplicated().to_numpy() & ~left_out)
    verifier = _Verifier(scan, reader, jobs, kept)
    by_hash = _hash_candidates(scan.hashes[rows], rows, run or _threads(jobs)) if near else []
    tables = [verifier.verify(by_hash, clusters)]
    stages = {"pairs of images": len(rows) * (len(rows) - 1) // 2, "near by hash": len(by_hash)}
    if near and thorough:
        by_keypoints = _keypoint_candidates(scan, rows, jobs)
        stages["neighbours by keypoints"] = len(by_keypoints)
        tables.append(verifier.verify(by_keypoints, clusters))
    tables = [part for part in tables if len(part)]
    candidates = (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CANDIDATE_COLUMNS))
    )
    stages["compared on pixels"] = len(candidates)
    final = clusters.labels() if len(table) else group
    verified = candidates[candidates["verified"].astype(bool)] if len(candidates) else candidates
    touched = {int(final[row]) for row in verified["first"]}
    alike = [members for members in _groups(final) if int(final[members[0]]) in touched]
    return Copies(same_file, exact, alike, candidates, final, thorough, stages, verifier.unread)


def common_frames(table: pd.DataFrame) -> np.ndarray:
    """Tell which frames stand in three files or more that have little else in common: bool, shape (n,).

    Such a frame is a title, a localiser or a test picture of the device, and makes no stack the copy of
    another. A frame is a row whose name is its file's with ``#`` and a number.
    """
    stacks = table["file"].where(table["image_id"].str.contains(r"#\d+$", regex=True), "")
    frames = pd.DataFrame({"stack": stacks.to_numpy(), "pixels": table["pixels"].to_numpy()})
    inside = frames[frames["stack"] != ""]
    if inside.empty:
        return np.zeros(len(table), dtype=bool)
    times = inside.groupby("pixels")["stack"].nunique()
    often = frames["pixels"].isin(times.index[times >= 3]) & (frames["stack"] != "")
    # Copies of a whole stack share most of their frames: those are no common ones.
    share = often.groupby(frames["stack"]).transform("mean")
    return (often & (share < 0.5)).to_numpy()


def _groups(group: np.ndarray) -> list[list[int]]:
    """Rows of each group with more than one, in the order of their first rows."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, group[order][1:] != group[order][:-1]][: len(group)])
    found = [part.tolist() for part in np.split(order, starts[1:])] if len(group) else []
    return sorted((part for part in found if len(part) > 1), key=lambda part: part[0])


def _threads(jobs: int) -> Callable[[Callable, list[tuple]], list[np.ndarray]]:
    def run(function: Callable, tasks: list[tuple]) -> list[np.ndarray]:
        if len(tasks[0][0]) < _FEW:
            return [function(*task) for task in tasks]
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            return list(pool.map(lambda task: function(*task), tasks))

    return run


def _hash_candidates(
    hashes: np.ndarray, rows: np.ndarray, run: Callable
) -> list[tuple[int, int, str | None, bool, int]]:
    best: dict[tuple[int, int], tuple[int, int, str | None, bool]] = {}
    for order, (symmetry, inverted) in enumerate(
        (symmetry, inverted) for symmetry in (None, *SYMMETRIES) for inverted in (False, True)
    ):
        plain = symmetry is None and not inverted
        pairs = (
            near_pairs(hashes, RADIUS, run=run)
            if plain
            else near_pairs(hashes, TURNED_RADIUS, transform(hashes, symmetry, inverted=inverted), run=run)
        )
        for first, second, bits in pairs.tolist():
            found = (bits, order, symmetry, inverted)
            key = (int(rows[first]), int(rows[second]))
            best[key] = min(best.get(key, found), found, key=lambda item: item[:2])
    return [
        (first, second, symmetry, inverted, bits)
        for (first, second), (bits, _, symmetry, inverted) in sorted(
            best.items(), key=lambda item: item[1][:2]
        )
    ]


def _keypoint_candidates(scan: Scan, rows: np.ndarray, jobs: int) -> list[tuple[int, int, None, bool, int]]:
    from leakfree.audit.copies.keypoints import embed, neighbours

    assert scan.keypoints is not None  # of a thorough scan
    vectors = embed([scan.keypoints[row] for row in rows])
    return [(int(rows[i]), int(rows[j]), None, False, -1) for i, j in neighbours(vectors, jobs=jobs).tolist()]


class _Verifier:
    """Compares the pixels of candidates, several at a time."""

    def __init__(self, scan: Scan, reader: Reader, jobs: int, kept: Kept | None = None) -> None:
        self._scan, self._reader, self._jobs, self._kept = scan, reader, max(jobs, 1), kept
        self._digests = scan.table["sha256"].tolist()
        sizes = zip(scan.table["width"].tolist(), scan.table["height"].tolist(), strict=True)
        self._sizes = list(sizes)
        self._of_size: dict[tuple[int, int], list[int]] = {}
        for row in np.flatnonzero(~scan.table["pixels"].duplicated()).tolist():
            self._of_size.setdefault(self._sizes[row], []).append(row)
        self._common: dict[tuple[int, int], np.ndarray | None] = {}
        self._making = threading.Lock()
        self._squares: dict[int, np.ndarray] = {}
        self._lost: set[int] = set()

    @property
    def unread(self) -> int:
        """Images that could not be read again."""
        return len(self._lost)

    def verify(self, candidates: list[tuple], clusters: _Clusters) -> pd.DataFrame:
        """Compare pixels, join what agrees in `clusters`, and tell what was compared."""
        rows = []
        with (
            ThreadPoolExecutor(self._jobs) as pool,
            tqdm(
                total=len(candidates),
                desc="compare images",
                unit="pair",
                mininterval=0.5,
                disable=len(candidates) < _BATCH,
            ) as progress,
        ):
            for start in range(0, len(candidates), _BATCH):
                batch = candidates[start : start + _BATCH]
                open_pairs = [item for item in batch if not clusters.joined(item[0], item[1])]
                for item, result in zip(open_pairs, self._compared(open_pairs, pool), strict=True):
                    if result is None:
                        continue
                    keypoints, agreement, verified = result
                    first, second, symmetry, inverted, bits = item
                    found_by = "hash" if bits >= 0 else "keypoints"
                    rows.append(
                        (
                            first,
                            second,
                            found_by,
                            symmetry or "",
                            inverted,
                            bits,
                            keypoints,
                            agreement,
                            verified,
                        )
                    )
                    if verified:
                        clusters.join(first, second)
                progress.update(len(batch))
        return pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS))

    def _compared(self, pairs: list[tuple], pool: ThreadPoolExecutor) -> list[tuple[int, float, bool] | None]:
        """Compare pairs, or read back what was found of the same two pictures before."""
        keys = [b""] * len(pairs) if self._kept is None else [self._key(pair) for pair in pairs]
        known = {} if self._kept is None else self._kept.get(keys)
        lost = len(self._lost)
        missing = [pair for pair, key in zip(pairs, keys, strict=True) if key not in known]
        found = dict(zip(missing, pool.map(self._compare, missing), strict=True))
        if self._kept is not None and len(self._lost) == lost:
            self._kept.put(
                (key, json.dumps(found[pair]).encode())
                for pair, key in zip(pairs, keys, strict=True)
                if key not in known
            )
        results = []
        for pair, key in zip(pairs, keys, strict=True):
            result = json.loads(known[key]) if key in known else found[pair]
            results.append(None if result is None else tuple(result))
        return results

    def _key(self, item: tuple) -> bytes:
        assert self._kept is not None
        first, second, symmetry, inverted, bits = item
        digests = self._digests[first], self._digests[second]
        common = [self._digests[row] for row in self._alike(second if bits >= 0 else first)]
        return self._kept.key("pair", *digests, symmetry, inverted, bits < 0, common)

    def _alike(self, row: int) -> list[int]:
        """Return images of the same size, framed alike perhaps: some, or none if they are few."""
        rows = self._of_size[self._sizes[row]]
        return rows[:: -(-len(rows) // _SAMPLE)] if len(rows) >= _LEAST else []

    def _shared(self, row: int) -> np.ndarray | None:
        """Return the mean of images of the same size: a frame, a sector or a printed sheet stays in it."""
        size, rows = self._sizes[row], self._alike(row)
        with self._making:
            if rows and size not in self._common:
                squares = [square for one in rows if (square := self._square(one)) is not None]
                self._common[size] = np.stack(squares).mean(axis=0, dtype=np.float32) if squares else None
        return self._common[size] if rows else None

    def _compare(self, item: tuple) -> tuple[int, float, bool] | None:
        from leakfree.audit.copies.alignment import AGREEMENT, agreement, turned
        from leakfree.audit.copies.keypoints import match

        first, second, symmetry, inverted, bits = item
        keypoints, affine = -1, None
        if bits < 0:
            found = self._scan.keypoints
            assert found is not None  # of a thorough scan
            matched = match(found[first], found[second])
            if matched is None:
                return None  # neighbours of the index whose keypoints do not agree on a map
            keypoints, affine = matched
        one, other = self._square(first), self._square(second)
        if one is None or other is None:
            return keypoints, 0.0, False
        if bits < 0:
            value = agreement(one, other, affine, lambda: self._shared(first))
        else:
            # A quarter turn of one is a quarter turn back of the other; the search does not say which.
            ways = _QUARTERS if symmetry in _QUARTERS else (symmetry,)
            value = max(
                agreement(other, turned(one, way, inverted=inverted), None, lambda: self._shared(second))
                for way in ways
            )
        return keypoints, round(value, 4), value >= AGREEMENT

    def _square(self, row: int) -> np.ndarray | None:
        from leakfree.audit.copies.alignment import DETAIL, to_square

        known = self._squares.get(row)
        if known is not None:
            return known
        data = next(iter(self._reader.read([int(self._scan.rows[row])])))
        square = None
        if isinstance(data, bytes):
            with contextlib.suppress(ImageError):
                square = to_square(np.asarray(decode(data)[1]), DETAIL)
        if square is None:  # readable a moment ago: neither a copy now, nor none
            self._lost.add(row)
            return None
        if len(self._squares) >= _KEPT:
            self._squares.clear()
        self._squares[row] = square
        return square
