"""The ledger sees what Keras, Lightning and the Trainer of Hugging Face give to a model."""

import os

import numpy as np
import pytest

from deferred import deferred

with deferred:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, Subset

    from leakfree.gates.loops import keras_batches, ledger_trainer, lightning_callback
    from leakfree.ledger.ledger import Ledger, LedgerError
    from leakfree.ledger.loaders import Stamped, digests_of
    from leakfree.split.manifest import Manifest
    from leakfree.split.protocols import CLEAN

IDS = [f"film{n}" for n in range(24)]
PARTS = {"train": tuple(IDS[:12]), "val": tuple(IDS[12:18]), "test": tuple(IDS[18:])}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 6, 6), dtype=np.uint8)


@pytest.fixture
def ledger(pixels):
    return Ledger(digests_of(IDS, pixels))


@pytest.fixture
def images(pixels):
    """A function: a dataset of stamped rows, as tuples or dicts."""

    class Images(Dataset):
        def __init__(self, as_dict):
            self.as_dict = as_dict

        def __len__(self):
            return 24

        def __getitem__(self, row):
            label = row % 2
            if self.as_dict:
                return {"image_id": IDS[row], "pixels": pixels[row], "labels": label}
            return IDS[row], pixels[row], label

    def make(rows, as_dict=False):
        scaled = Stamped(Images(as_dict), lambda image: torch.tensor(image, dtype=torch.float32) / 255)
        return Subset(scaled, rows)

    return make


def agrees(ledger):
    manifest = Manifest("gates", "patient-level", PARTS, 0, "series")
    return ledger.check(manifest, CLEAN, {name: n for n, name in enumerate(IDS)})


def test_batches_are_entered_as_they_are_handed_out(images, ledger):
    for part, rows in (("train", range(12)), ("val", range(12, 18)), ("test", range(18, 24))):
        for x, y in keras_batches(DataLoader(images(list(rows)), 4), ledger, part):
            assert x.shape == (len(y), 6, 6) and x.dtype == torch.float32
    assert agrees(ledger)["images"] == 0


def test_a_loader_that_gives_all_rows_is_found_out(images, ledger):
    list(keras_batches(DataLoader(images(list(range(24))), 4), ledger, "train"))
    for part, rows in (("val", range(12, 18)), ("test", range(18, 24))):
        list(keras_batches(DataLoader(images(list(rows)), 4), ledger, part))
    with pytest.raises(LedgerError, match="12 of another part"):
        agrees(ledger)


def test_keras_fit_and_evaluate(images, ledger, monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    loaders = {part: DataLoader(images([IDS.index(name) for name in PARTS[part]]), 4) for part in PARTS}
    model.fit(
        keras_batches(loaders["train"], ledger, "train", epochs=2),
        steps_per_epoch=len(loaders["train"]), epochs=2, verbose=0,
    )  # fmt: skip
    for part in ("val", "test"):
        model.evaluate(keras_batches(loaders[part], ledger, part), steps=len(loaders[part]), verbose=0)
    assert agrees(ledger)["images"] == 0
    assert set(ledger.consumed("train").values()) == {2}


def test_lightning_fit_and_test(images, ledger, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(36, 2)

        def step(self, batch):
            _, x, y = batch
            return nn.functional.cross_entropy(self.layer(x.flatten(1)), y)

        def training_step(self, batch, _):
            return self.step(batch)

        def validation_step(self, batch, _):
            self.step(batch)

        def test_step(self, batch, _):
            self.step(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    loaders = {part: DataLoader(images([IDS.index(name) for name in PARTS[part]]), 4) for part in PARTS}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[lightning_callback(lightning.Callback, ledger)],
    )  # fmt: skip
    module = Module()
    trainer.fit(module, loaders["train"], loaders["val"])
    trainer.test(module, loaders["test"], verbose=False)
    assert agrees(ledger)["images"] == 0
    # Two epochs; the batches that Lightning tries before training decide nothing.
    assert [set(ledger.consumed(part).values()) for part in ("train", "val", "test")] == [{2}, {2}, {1}]


def test_hugging_face_trainer(images, ledger, tmp_path):
    from torch.utils.data import default_collate

    transformers = pytest.importorskip("transformers")
    Trainer, TrainingArguments = transformers.Trainer, transformers.TrainingArguments

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(36, 2)

        def forward(self, pixels, labels=None):
            logits = self.layer(pixels.flatten(1))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = {part: images([IDS.index(name) for name in PARTS[part]], as_dict=True) for part in PARTS}
    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, report_to=[],
        per_device_eval_batch_size=4, remove_unused_columns=False, use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    model = Model()
    for stage, evaluated in (("val", rows["val"]), ("test", rows["test"])):
        trainer = ledger_trainer(Trainer, ledger, evaluates=stage)(
            model=model, args=arguments, train_dataset=rows["train"], eval_dataset=evaluated,
            data_collator=default_collate,
        )  # fmt: skip
        if stage == "val":
            trainer.train()
        trainer.evaluate()
    assert agrees(ledger)["images"] == 0
    assert set(ledger.consumed("train").values()) == {2}
