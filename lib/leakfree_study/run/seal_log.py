"""The log of the sealed test: a line for each opening, checked against the files that it names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import file_hash, write_text
from leakfree.scores.metrics import point_estimates
from leakfree.scores.predictions import PredictionsError, read_predictions

#: File in the run folder.
SEALED_LOG = "sealed_test.jsonl"


class SealError(LeakfreeError):
    """The seal stays closed; the message is one line that says why."""


def read_log(run_folder: Path) -> list[dict[str, object]]:
    """Return the openings of a run, oldest first.

    Raises
    ------
    SealError
        If the log is damaged.
    """
    path = Path(run_folder) / SEALED_LOG
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise SealError(f"{path}: a line is not JSON: {error}") from error


def verify_log(run_folder: Path) -> list[str]:
    """Compute every result of the log again from its prediction files; return what disagrees, a line each."""
    found = []
    for line in read_log(run_folder):
        where = f"{SEALED_LOG}, opening {line['opening']}"
        if not line["results"]:
            found.append(f"{where}: was never completed")
            continue
        for name, digest in dict(line["predictions"]).items():
            path = Path(run_folder) / name
            if not path.is_file() or file_hash(path) != digest:
                found.append(f"{where}: {name} is missing or was changed")
        # What was predicted before an opening, and committed; the first one was not kept so.
        prepared = Path(run_folder) / "sealed" / str(line["opening"])
        for name, digest in dict(line["unlabelled_predictions"]).items() if prepared.is_dir() else ():
            path = prepared / f"{name.replace(' ', '_')}.csv"
            if not path.is_file() or predictions_digest(pd.read_csv(path, dtype={"image_id": str})) != digest:
                found.append(f"{where}: {path.relative_to(run_folder)} is missing or was changed")
        for row in list(line["results"]):
            try:
                predictions = read_predictions(Path(run_folder) / row["predictions"])
            except PredictionsError as error:
                found.append(f"{where}: {error}")
                continue
            value = point_estimates(predictions, [row["metric"]])[row["metric"]]
            if abs(value - row["estimate"]) > 1e-9:
                what = f"{row['metric']} of {row['predictions']}"
                found.append(f"{where}: {what} is {value:.6f}, not {row['estimate']:.6f}")
    return found


def predictions_digest(frame: pd.DataFrame) -> str:
    """Return a SHA-256 over predictions without labels: six decimals, in the order of ids."""
    text = frame.sort_values("image_id").to_csv(index=False, float_format="%.6f", lineterminator="\n")
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_log(path: Path, lines: list[dict[str, object]]) -> None:
    """Write all openings of a run, oldest first."""
    write_text(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
