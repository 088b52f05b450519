"""The ledger around other people's loaders: PyTorch, Deep Lake's adapter, array-based estimators.

A stamp is a row's stored id and the digest of its pixels, taken from the yielded row before augmentation,
in whatever process decodes it. It travels with the row through collation to the training loop, where the
ledger enters it. The sampler is never asked: a loader that ignores its indices is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from leakfree.data.images import to_grey
from leakfree.data.pixels import pixel_digest
from leakfree.ledger.ledger import Ledger, LedgerError

#: Key of a row's id, where rows are dicts.
ID = "image_id"
#: Key of a row's pixels, where rows are dicts.
PIXELS = "pixels"


class Stamp(NamedTuple):
    """What a row really was; stands in the place of its id.

    Attributes
    ----------
    image_id : str or sequence of str
        Stored id; those of a batch after collation.
    digest : int or torch.Tensor of int64, shape (b,)
        `leakfree.data.pixels.pixel_digest` as a signed number, since tensors have no arithmetic for uint64.
    """

    image_id: Any
    digest: Any


def stamp(row: Any, transform: Callable[[Any], Any] | None = None) -> Any:
    """Put a `Stamp` in the place of a row's id, then transform its pixels.

    Parameters
    ----------
    row : dict or tuple
        With ``image_id`` and ``pixels``, or ``(id, pixels, *rest)``. Pixels are uint8, an array or tensor.
    transform : callable, optional
        Applied to the pixels after the digest was taken: augmentation belongs here.

    Returns
    -------
    dict or tuple
        As `row`.

    Raises
    ------
    LedgerError
        If the row has no id of type str, or no uint8 pixels.
    """
    if isinstance(row, Mapping):
        if ID not in row or PIXELS not in row:
            raise LedgerError(f"a row has no {ID} or no {PIXELS}: {', '.join(map(str, row))}")
        image_id, pixels, rest = row[ID], row[PIXELS], None
    elif isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) > 1:
        image_id, pixels, *rest = row
    else:
        raise LedgerError(f"a row is {type(row).__name__}, not a dict with {ID} or a tuple (id, pixels, ...)")
    if not isinstance(image_id, str):
        raise LedgerError(f"a row has {image_id!r} where its stored id, of type str, is needed")
    values = pixels.numpy() if isinstance(pixels, torch.Tensor) else pixels
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise LedgerError(f"{image_id}: the digest is taken of uint8 pixels, not of {kind}; transform later")
    digest = pixel_digest(values)
    entry = Stamp(image_id, digest - 2**64 if digest >= 2**63 else digest)
    if transform is not None:
        pixels = transform(pixels)
    if rest is None:
        return {**row, ID: entry, PIXELS: pixels}
    return (entry, pixels, *rest)


class Stamped(Dataset):
    """A map-style dataset whose rows are stamped as they are read.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Rows as `stamp` takes them.
    transform : callable, optional
        As in `stamp`.
    """

    dataset: Any  # one without a length has none here either

    def __init__(self, dataset: Dataset, transform: Callable[[Any], Any] | None = None) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return stamp(self.dataset[index], self.transform)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        read = getattr(self.dataset, "__getitems__", None)
        rows = read(indices) if callable(read) else [self.dataset[index] for index in indices]
        return [stamp(row, self.transform) for row in rows]


class StampedStream(IterableDataset):
    """An iterable-style dataset whose rows are stamped as they are read.

    Parameters
    ----------
    dataset : iterable
        Rows as `stamp` takes them. It shards itself over workers, as any iterable-style dataset must.
    transform : callable, optional
        As in `stamp`.
    """

    dataset: Any

    def __init__(self, dataset: Iterable[Any], transform: Callable[[Any], Any] | None = None) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        for row in self.dataset:
            yield stamp(row, self.transform)


class StampedRow:
    """Transform for ``ds.pytorch(transform=...)`` of Deep Lake 4: decode a stored row and stamp it.

    The rows become ``(id, pixels, *columns)``. Id and bytes come from the row that the store gave, not
    from the index that was asked for.

    Parameters
    ----------
    size : int or None
        Side in pixels, as `leakfree.data.images.to_grey`; must be that of the ledger's reference digests.
    transform : callable, optional
        As in `stamp`; is given a uint8 array (size, size).
    columns : sequence of str
        Further columns of the store to yield, such as ``label``.
    id_column, image_column : str
        Columns of the stored id and of the encoded image.
    """

    def __init__(
        self,
        size: int | None,
        transform: Callable[[np.ndarray], Any] | None = None,
        *,
        columns: Sequence[str] = (),
        id_column: str = "image_id",
        image_column: str = "image",
    ) -> None:
        self.size, self.transform, self.columns = size, transform, tuple(columns)
        self.id_column, self.image_column = id_column, image_column

    def __call__(self, row: Any) -> tuple[Any, ...]:
        """Return ``(id, pixels, *columns)`` of a row of the store, stamped."""
        # Copies, since Pillow and the store hand out read-only arrays and tensors are not.
        pixels = to_grey(bytes(row[self.image_column]), self.size).copy()
        values = (row[column] for column in self.columns)
        rest = [value.copy() if isinstance(value, np.ndarray) else value for value in values]
        return stamp((str(row[self.id_column]), pixels, *rest), self.transform)


class Watched:
    """Batches of a loader, each entered in a ledger as it is yielded; made by `watch`."""

    loader: Any

    def __init__(self, loader: Iterable[Any], ledger: Ledger, stage: str) -> None:
        self.loader, self.ledger, self.stage = loader, ledger, stage

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield self._enter(batch)

    def _enter(self, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            entry = batch.get(ID)
        else:
            entry = batch[0] if isinstance(batch, Sequence) and batch else None
        if isinstance(entry, Sequence) and entry and all(isinstance(item, Stamp) for item in entry):
            entry = Stamp(*map(list, zip(*entry, strict=True)))  # a collation of the user's own
        if not isinstance(entry, Stamp):
            raise LedgerError(f"{self.stage}: a batch carries no stamp; wrap its dataset in Stamped")
        single = isinstance(entry.image_id, str)  # a loader that does not batch
        ids, digests = ([entry.image_id], [int(entry.digest)]) if single else entry
        self.ledger.record_digests(self.stage, ids, digests)
        if isinstance(batch, Mapping):
            return {**batch, ID: entry.image_id}
        plain = [entry.image_id, *batch[1:]]
        return tuple(plain) if isinstance(batch, tuple) else plain


def watch(loader: Iterable[Any], ledger: Ledger, stage: str) -> Watched:
    """Enter every batch of a loader in the ledger as it is yielded, and hand it on with plain ids.

    Batches that workers fetched ahead and that were never yielded are not entered: what is in the ledger
    is what the loop was given. The digests were taken in `stamp`; what a transform or a collation does to
    pixels afterwards is beyond the ledger's sight.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader
        Over stamped rows, with any sampler, number of workers and collation that keeps the stamps in place.
    ledger : Ledger
    stage : str
        ``train``, ``val`` or ``test``.

    Returns
    -------
    Watched
        To be iterated once an epoch; its length is the loader's. Iterating raises `LedgerError` if an id is
        unknown, if pixels are not those of their id, or if batches carry no stamps.

    Examples
    --------
    >>> import numpy as np
    >>> from torch.utils.data import DataLoader
    >>> from leakfree import Ledger, watch
    >>> from leakfree.ledger.loaders import Stamped, digests_of
    >>> ids, pixels = ["a", "b", "c"], np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    >>> ledger = Ledger(digests_of(ids, pixels))
    >>> loader = DataLoader(Stamped(list(zip(ids, pixels))), batch_size=2)
    >>> [list(names) for names, _ in watch(loader, ledger, "train")]
    [['a', 'b'], ['c']]
    >>> sorted(ledger.consumed("train"))
    ['a', 'b', 'c']
    """
    return Watched(loader, ledger, stage)


def digests_of(ids: Sequence[str], pixels: np.ndarray) -> dict[str, int]:
    """Take a ledger's reference digests from decoded images.

    Parameters
    ----------
    ids : sequence of str, shape (n,)
    pixels : numpy.ndarray of uint8, shape (n, height, width) or (n, height * width)

    Raises
    ------
    LedgerError
        If ids repeat, or ids and pixels do not go together.
    """
    names, pixels = _paired("reference", ids, pixels)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(names, pixels, strict=True)}
    if len(digests) != len(ids):
        raise LedgerError(f"reference: {len(ids) - len(digests)} of {len(ids)} ids repeat another")
    return digests


class Recorded:
    """An array-based estimator that enters in a ledger what it is given.

    Scaling and all that changes pixels goes inside the estimator (a scikit-learn ``Pipeline``), and a
    search goes inside too: the ledger sees the pixels first. Each call that predicts the test part scores it.

    Parameters
    ----------
    estimator : object
        With ``fit`` and ``predict`` or ``predict_proba``.
    ledger : Ledger
    """

    def __init__(self, estimator: Any, ledger: Ledger) -> None:
        self.estimator, self.ledger = estimator, ledger

    def fit(
        self, X: np.ndarray, y: Any, *, ids: Sequence[str], stage: str = "train", **more: Any
    ) -> Recorded:
        """Record pixels, uint8 (n, h * w) or (n, h, w), and fit the estimator to them, flattened."""
        self.estimator.fit(self._enter(stage, ids, X), y, **more)
        return self

    def predict_proba(self, X: np.ndarray, *, ids: Sequence[str], stage: str = "test") -> np.ndarray:
        """Record pixels and return the estimator's probabilities for them."""
        return self.estimator.predict_proba(self._enter(stage, ids, X))

    def predict(self, X: np.ndarray, *, ids: Sequence[str], stage: str = "test") -> np.ndarray:
        """Record pixels and return the estimator's classes for them."""
        return self.estimator.predict(self._enter(stage, ids, X))

    def _enter(self, stage: str, ids: Sequence[str], pixels: np.ndarray) -> np.ndarray:
        names, pixels = _paired(stage, ids, pixels)
        self.ledger.record_digests(stage, names, [pixel_digest(image) for image in pixels])
        return pixels.reshape(len(pixels), -1)


def _paired(stage: str, ids: Sequence[str], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # As objects: a pandas column is sliced by label, and fixed-width text drops trailing NULs.
    names, pixels = np.asarray(ids, dtype=object), np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise LedgerError(
            f"{stage}: needs uint8 pixels (n, height, width) or (n, height * width),"
            f" got {pixels.dtype} {pixels.shape}"
        )
    if names.shape != (len(pixels),):
        raise LedgerError(f"{stage}: {names.size} ids came with {len(pixels)} images")
    return names, pixels
