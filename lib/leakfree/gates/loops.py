"""The ledger in loops that somebody else runs: Keras, Lightning, the Trainer of Hugging Face.

All three give batches to a model in the main process. There the stamps of the rows (see
`leakfree.ledger.loaders`) are taken off and entered, and the model gets the rest. No framework is imported
before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from leakfree.ledger.ledger import Ledger
from leakfree.ledger.loaders import ID, Watched, watch


def keras_batches(loader: Iterable[Any], ledger: Ledger, stage: str, *, epochs: int = 1) -> Iterator[tuple]:
    """Yield ``(x, y)`` for ``model.fit``, ``evaluate`` or ``predict``, and enter each batch in the ledger.

    Keras asks for a batch before it uses it; ask for all of an epoch (``steps_per_epoch=len(loader)``), so
    that what is entered is what was used.

    Parameters
    ----------
    loader : iterable
        Batches ``(ids, x, y)`` over stamped rows, see `leakfree.ledger.loaders.Stamped`.
    ledger : Ledger
    stage : str
    epochs : int
        Rounds over the loader.
    """
    for _ in range(epochs):
        for batch in watch(loader, ledger, stage):
            yield tuple(batch[1:])


def lightning_callback(callback: type, ledger: Ledger) -> Any:
    """Return a Lightning callback that enters every batch, by the stage that the trainer is in.

    The sanity check before training is left out: it decides nothing. Your ``training_step`` gets the batch
    as the loader made it, with the stamp in its first place.

    Parameters
    ----------
    callback : type
        ``lightning.pytorch.callbacks.Callback``, or that of ``pytorch_lightning``.
    ledger : Ledger
    """

    class LedgerCallback(callback):
        """Enters batches as they are given to the module."""

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            """Enter a batch of training."""
            self._enter("train", batch)

        def on_validation_batch_start(
            self, trainer: Any, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            """Enter a batch of validation."""
            if not trainer.sanity_checking:
                self._enter("val", batch)

        def on_test_batch_start(
            self, trainer: Any, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            """Enter a batch of the test."""
            self._enter("test", batch)

        def _enter(self, stage: str, batch: Any) -> None:
            next(iter(Watched([batch], ledger, stage)))

    return LedgerCallback()


def ledger_trainer(trainer: type, ledger: Ledger, *, evaluates: str = "val") -> type:
    """Return a subclass of a Hugging Face ``Trainer`` that enters every batch and takes the ids off it.

    Rows are dicts with ``image_id`` and ``pixels``, stamped, and ``labels``. Set
    ``remove_unused_columns=False``, and collate with a function that keeps stamps, such as PyTorch's
    ``default_collate``.

    Parameters
    ----------
    trainer : type
        ``transformers.Trainer`` or a subclass.
    ledger : Ledger
    evaluates : str
        Stage of ``evaluate``: ``val``, or ``test`` for a trainer that only evaluates the test part.
    """

    class LedgerTrainer(trainer):
        """Enters batches as the model is given them."""

        def training_step(self, model: Any, inputs: Mapping[str, Any], *args: Any, **more: Any) -> Any:
            """Enter a batch, then train on it."""
            return super().training_step(model, self._entered("train", inputs), *args, **more)

        def prediction_step(self, model: Any, inputs: Mapping[str, Any], *args: Any, **more: Any) -> Any:
            """Enter a batch, then predict it."""
            return super().prediction_step(model, self._entered(evaluates, inputs), *args, **more)

        def _entered(self, stage: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
            batch = next(iter(Watched([inputs], ledger, stage)))
            return {key: value for key, value in batch.items() if key != ID}

    return LedgerTrainer
