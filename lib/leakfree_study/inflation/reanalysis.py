"""The reference study's claims beside its own fault, replicated, and the same models measured right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from leakfree.data.tasks import TASKS
from leakfree.models.training import Budget
from leakfree.scores.metrics import evaluate
from leakfree.split.manifest import Manifest, no_test_set, patient_level
from leakfree.split.protocols import CLEAN, NO_TEST_SET
from leakfree_study.figures.names import model_name
from leakfree_study.figures.tables import METRIC_NAMES, bracketed
from leakfree_study.inflation.shown import task_title
from leakfree_study.run.cells import Cell, NetworkJob, Result
from leakfree_study.run.run import Run

#: The reference study's leak-free deep notebook: its model and claim (binary, macro F1), what is trained here
#: in its place, and from which weights.
CLAIMS = (
    ("SimpleCNN, 32 and 64 channels", 0.9484, "simple-cnn-32", "none"),
    ("ResNet18, ImageNet weights", 0.9894, "resnet18", "none"),
    ("", None, "efficientnet-lite0", "imagenet"),
)
_WEIGHTS = {"scratch": "from scratch", "imagenet": "ImageNet weights"}
#: The confusion matrix that it printed for its selected network's test: rows are true, columns predicted.
MATRIX = ((1299, 42), (0, 3875))
#: Its budget: 3 epochs of Adam at 1e-4, batches of 32, no augmentation, no class weights.
BUDGET = Budget(
    epochs=3, batch_size=32, learning_rate=1e-4, optimizer="adam", augment=False, class_weights=False
)


@dataclass(frozen=True)
class Claim:
    """A score that the reference study reports, and where ours stands.

    Attributes
    ----------
    notebook, model, task, metric : str
        The notebook that it is from; what was scored, by which metric.
    score : float
        As reported.
    measured : str
        What its code measured.
    table, part : str
        Table of this run with the same model, and the part that it was scored on.
    row : str
        Name of the model there.
    """

    notebook: str
    model: str
    task: str
    metric: str
    score: float
    measured: str
    table: str
    part: str
    row: str


_VALIDATION = "its validation images, of other patients than in training; its tuning folds ignore patients"
_TRAINED_ON = "the images that it was trained on: the loader ignored the indices of the split"
#: The scores of its tables, but for one model that it tuned on folds and that has no counterpart here. The
#: last two are measured again in notebook 06, the others in 03 and 04.
REPORTED = (
    *(
        Claim("leaky CNN", "SimpleCNN, 16 and 32 channels", "three-class", metric, score,
              "images of a split that ignores patients", "03_scores", "test", "simple-cnn-16")
        for metric, score in (("roc_auc", 0.913), ("accuracy", 0.784), ("macro_f1", 0.744))
    ),
    Claim("leak-free classical", "logistic regression", "etiology", "macro_f1", 0.728, _VALIDATION,
          "04_reference_size", "val", "logistic_regression"),
    Claim("leak-free classical", "random forest", "etiology", "macro_f1", 0.696, _VALIDATION,
          "04_reference_size", "val", "random_forest"),
    Claim("leak-free classical", "XGBoost", "etiology", "macro_f1", 0.724, _VALIDATION,
          "04_reference_size", "val", "xgboost"),
    Claim("leak-free deep", "SimpleCNN, 32 and 64 channels", "binary", "macro_f1", 0.9484, _TRAINED_ON,
          "06_reanalysis", "test", "simple-cnn-32"),
    Claim("leak-free deep", "ResNet18, ImageNet weights", "binary", "macro_f1", 0.9894, _TRAINED_ON,
          "06_reanalysis", "test", "resnet18"),
)  # fmt: skip


def printed_scores() -> dict[str, float]:
    """Compute accuracy, macro F1 and the number of images from the confusion matrix that the study printed.

    Its claim for that network is the macro F1, and the images are as many as the whole training set has.
    """
    counts = np.array(MATRIX)
    truth, chosen = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return {
        "accuracy": float(accuracy_score(truth, chosen)),
        "macro_f1": float(f1_score(truth, chosen, average="macro")),
        "films": int(counts.sum()),
    }


def claims(folder: Path, *, seed: int) -> pd.DataFrame:
    """Set every reported score beside what its code measured, the same fault here, and the right measurement.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder; a table that is not there leaves its cells empty.
    seed : int
        Of the cells that are quoted.

    Returns
    -------
    pandas.DataFrame
        ``notebook, model, task, metric, claim, measured``; then for ``fault`` and ``right`` each the estimate
        with ``_low, _high, _n_images, _n_patients, _predictions``.
    """
    rows = []
    for claim in REPORTED:
        row = {
            "notebook": claim.notebook,
            "model": claim.model,
            "task": claim.task,
            "metric": claim.metric,
            "claim": claim.score,
            "measured": claim.measured,
        }
        path = Path(folder) / "tables" / f"{claim.table}.csv"
        found = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["model"])
        found = found[found["model"] == claim.row]
        if claim.table != "06_reanalysis" and len(found):
            wanted = {"task": claim.task, "metric": claim.metric, "part": claim.part, "seed": seed}
            for column, value in wanted.items():
                found = found[found[column] == value]
        for arm in ("fault", "right"):
            of_arm = found[(found["protocol"] == "clean") == (arm == "right")] if len(found) else found
            if len(of_arm) == 0:
                continue
            (one,) = of_arm.to_dict("records")
            name = claim.metric if claim.table == "06_reanalysis" else "estimate"
            ends = {"_low": "low", "_high": "high"} if name == "estimate" else {
                "_low": f"{name}_low", "_high": f"{name}_high"
            }  # fmt: skip
            row[arm] = one[name]
            row |= {f"{arm}{end}": one[column] for end, column in ends.items()}
            row |= {f"{arm}_{name}": one[name] for name in ("n_images", "n_patients", "predictions")}
        rows.append(row)
    columns = [f"{arm}{end}" for arm in ("fault", "right") for end in
               ("", "_low", "_high", "_n_images", "_n_patients", "_predictions")]  # fmt: skip
    head = ["notebook", "model", "task", "metric", "claim", "measured"]
    return pd.DataFrame(rows).reindex(columns=[*head, *columns])


def manifests(run: Run, table: pd.DataFrame, task: str, *, seed: int) -> dict[str, Manifest]:
    """Make the fault's manifest, all images in both parts, and a clean one of 70/15/15 by patient."""
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
        One row a model and protocol: ``reference_model, claim, model, weights, protocol, n_train,
        shared_images``, macro F1, accuracy and ROC AUC with ``_low`` and ``_high``, ``n_images, n_patients,
        precision, seconds, predictions``.
    """
    rows = []
    for described, claim, model, _ in CLAIMS:
        for result in sorted(
            (r for r in results if r.cell.model == model), key=lambda r: r.cell.protocol.name
        ):
            found = evaluate(
                result.read(), metrics=("macro_f1", "accuracy", "roc_auc"), n_resamples=n_resamples, seed=seed
            )
            found = found.set_index("metric")
            scores = {
                f"{metric}{end}": found.loc[metric, column]
                for metric in found.index
                for end, column in (("", "estimate"), ("_low", "low"), ("_high", "high"))
            }
            rows.append(
                {
                    "reference_model": described,
                    "claim": claim,
                    "model": model,
                    "weights": result.facts["weights"],
                    "protocol": result.cell.protocol.name,
                    "n_train": result.facts["n_train"],
                    "shared_images": result.facts["shared_images"],
                    **scores,
                    "n_images": int(found.loc["accuracy", "n_images"]),
                    "n_patients": int(found.loc["accuracy", "n_patients"]),
                    "precision": result.facts["precision"],
                    "seconds": result.facts["training_seconds"],
                    "predictions": f"predictions/{result.predictions.name}",
                }
            )
    return pd.DataFrame(rows)


def right_beside_wrong(measured: pd.DataFrame) -> pd.DataFrame:
    """Show `table` with the fault and the right measurement of each model side by side."""
    form = "{:.4f} ({:.4f} to {:.4f}), {:,.0f} images, {:,.0f} of them trained on"
    values = ["macro_f1", "macro_f1_low", "macro_f1_high", "n_images", "shared_images"]
    keys, rows = ["reference_model", "claim", "model", "weights"], []
    for (model, claim, name, weights), group in measured.groupby(keys, dropna=False, sort=False):
        found = group.set_index("protocol")
        row = {
            "reference study": model or "not in it",
            "its claim": "none" if pd.isna(claim) else f"{claim:.4f}",
            "here": f"{model_name(name)}, {_WEIGHTS.get(weights, weights)}",
        }
        for arm, protocol in (("its fault", "no-test-set"), ("measured right", "clean")):
            row[f"{arm}: macro F1"] = form.format(*found.loc[protocol, values])
        rows.append(row)
    return pd.DataFrame(rows)


def fault_sentences(measured: pd.DataFrame) -> str:
    """Say, one line a network, what `table` has for the fault and for the right measurement, as Markdown."""
    keys, lines = ["reference_model", "model", "weights"], []
    for (_, name, weights), group in measured.groupby(keys, dropna=False, sort=False):
        fault, right = (
            bracketed(group[group["protocol"] == protocol], "macro_f1").iloc[0]
            for protocol in ("no-test-set", "clean")
        )
        lines.append(
            f"- **{model_name(name)}, {_WEIGHTS.get(weights, weights)}.** Tested on its training images it "
            f"has a macro F1 of {fault}; on patients that it was not trained on it has {right}."
        )
    return "\n".join(lines)


def claims_table(claimed: pd.DataFrame) -> pd.DataFrame:
    """Show `claims`: what was claimed, the same fault here, and the right measurement."""

    def told(row: dict[str, object], arm: str) -> str:
        if pd.isna(row[arm]):
            return "not measured"
        return (
            f"{row[arm]:.3f} ({row[f'{arm}_low']:.3f} to {row[f'{arm}_high']:.3f}), "
            f"{row[f'{arm}_n_images']:,.0f} images, {row[f'{arm}_n_patients']:,.0f} patients"
        )

    shown = claimed[["notebook", "model", "task", "metric", "claim", "measured"]].rename(
        columns={"claim": "its claim", "measured": "what its code measured"}
    )
    shown["task"] = [task_title(name) for name in claimed["task"]]
    shown["metric"] = claimed["metric"].replace(METRIC_NAMES)
    for arm, title in (("fault", "the same fault here"), ("right", "measured right")):
        shown[title] = [told(row, arm) for row in claimed.to_dict("records")]
    return shown
