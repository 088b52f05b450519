"""The reference study's claims beside its own fault, replicated, and the same models measured right."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from leakfree.cells import Cell, NetworkJob, Result
from leakfree.metrics import evaluate
from leakfree.protocols import CLEAN, NO_TEST_SET
from leakfree.run import Run
from leakfree.splits import Manifest, no_test_set, patient_level
from leakfree.tasks import TASKS
from leakfree.training import Budget

#: The reference study's leak-free notebook: its model and claim (binary), what is
#: trained
#: here in its place, and from which weights.
CLAIMS = (
    ("SimpleCNN, 32 and 64 channels", 0.9484, "simple-cnn-32", "none"),
    ("ResNet18, ImageNet weights", 0.9894, "resnet18", "none"),
    ("", None, "efficientnet-lite0", "imagenet"),
)
#: Its budget: 3 epochs of Adam at 1e-4, batches of 32, no augmentation, no class weights.
BUDGET = Budget(
    epochs=3, batch_size=32, learning_rate=1e-4, optimizer="adam", augment=False, class_weights=False
)


def manifests(run: Run, table: pd.DataFrame, task: str, *, seed: int) -> dict[str, Manifest]:
    """Make the fault's manifest, all films in both parts, and a clean one of 70/15/15 by patient."""
    described = {"data_checksum": run.cohort.checksum}
    clean = patient_level(
        table["image_id"],
        run.groups(table),
        table["label"].to_numpy(dtype=object),
        seed=seed,
        scope="series",
        linked=("copies",),
        name=f"06-reference-clean-{task}",
        **described,
    )
    # The reference had no validation that chose anything: the last epoch is kept on both sides.
    parts = {part: clean.parts[part] for part in ("train", "test")}
    clean = Manifest(**{**vars(clean), "parts": parts})
    fault = no_test_set(table["image_id"], name=f"06-reference-fault-{task}", **described)
    return {"no-test-set": fault, "clean": clean}


def network_jobs(
    run: Run, table: pd.DataFrame, *, image_size: int, budget: Budget, seed: int, task: str = "binary"
) -> list[NetworkJob]:
    """List the networks of `CLAIMS` under the fault and measured right."""
    made = manifests(run, table, task, seed=seed)
    protocols = {"no-test-set": NO_TEST_SET, "clean": CLEAN}
    return [
        NetworkJob(Cell(TASKS[task], model, protocols[arm], manifest, seed, image_size), budget, weights)
        for _, _, model, weights in reversed(CLAIMS)
        for arm, manifest in made.items()
    ]


def table(results: Sequence[Result], *, n_resamples: int, seed: int) -> pd.DataFrame:
    """Set the claim beside the replicated fault and the right measurement.

    Returns
    -------
    pandas.DataFrame
        One row a model and protocol: ``reference_model, claim, model, weights, protocol, accuracy, low, high,
        n_images, n_patients, shared_images, predictions``.
    """
    rows = []
    for described, claim, model, _ in CLAIMS:
        for result in sorted(
            (r for r in results if r.cell.model == model), key=lambda r: r.cell.protocol.name
        ):
            found = evaluate(
                result.read(), metrics=("accuracy", "roc_auc"), n_resamples=n_resamples, seed=seed
            )
            found = found.set_index("metric")
            rows.append(
                {
                    "reference_model": described,
                    "claim": claim,
                    "model": model,
                    "weights": result.facts["weights"],
                    "protocol": result.cell.protocol.name,
                    "n_train": result.facts["n_train"],
                    "shared_images": result.facts["shared_images"],
                    "accuracy": found.loc["accuracy", "estimate"],
                    "accuracy_low": found.loc["accuracy", "low"],
                    "accuracy_high": found.loc["accuracy", "high"],
                    "roc_auc": found.loc["roc_auc", "estimate"],
                    "roc_auc_low": found.loc["roc_auc", "low"],
                    "roc_auc_high": found.loc["roc_auc", "high"],
                    "n_images": int(found.loc["accuracy", "n_images"]),
                    "n_patients": int(found.loc["accuracy", "n_patients"]),
                    "seconds": result.facts["training_seconds"],
                    "predictions": f"predictions/{result.predictions.name}",
                }
            )
    return pd.DataFrame(rows)
