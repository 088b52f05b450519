"""What the page "Would you have been fooled?" is given: drawn pairs, and scores as the run measured them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from leakfree.audit.copies.hashes import distance, image_hashes, thumbnail
from leakfree.data.sources.phantom_image import draw_image
from leakfree_study.inflation.catalogue import LEAKS

#: Pairs that are asked, half of them of one patient, and images of others that the machine compares with.
PAIRS, OTHERS = 12, 100
#: The machine says "one child" where fewer others than these are nearer.
NEAREST = 25
#: Side of a drawn image in pixels, and the first number of the seeds.
SIDE, _SEED = 120, 4
TABLES = ("inflation.csv", "inflation_arms.csv")
#: How tasks are called where a reader sees them.
TASKS = {
    "binary": "normal against pneumonia",
    "etiology": "bacterial against viral",
    "three-class": "three classes",
}
_LABELS = ("normal", "bacterial", "viral")


def pairs() -> list[dict[str, object]]:
    """Draw pairs of images, and let a machine say which are of one patient.

    The images of a pair have one label, so that the disease gives nothing away. The machine compares the
    perceptual hashes of the audit. It says "one child" where fewer than `NEAREST` of `OTHERS` images of other
    patients are nearer to the first image than the second one is.

    Returns
    -------
    list of dict
        ``images`` (two JPEG files as data URLs), ``same`` and ``machine`` (what is true, and what the machine
        says: whether they are of one patient).
    """
    rng = np.random.default_rng(_SEED)
    same = rng.permutation(np.arange(PAIRS) % 2 == 0)
    firsts, seconds = [], []
    for number in range(PAIRS):
        label = _LABELS[number % len(_LABELS)]
        firsts.append(_drawn(label, number, 2 * number))
        seconds.append(_drawn(label, number if same[number] else PAIRS + number, 2 * number + 1))
    others = [_drawn(_LABELS[n % 3], 2 * PAIRS + n, 2 * PAIRS + n) for n in range(OTHERS)]
    small = [np.asarray(thumbnail(Image.fromarray(one))) for one in (*firsts, *seconds, *others)]
    left, right, rest = np.split(image_hashes(np.stack(small)), [PAIRS, 2 * PAIRS])
    nearer = (distance(left[:, None], rest) < distance(left, right)[:, None]).sum(axis=1)
    return [
        {"images": [_data_url(one) for one in images], "same": bool(one_child), "machine": bool(n < NEAREST)}
        for images, one_child, n in zip(zip(firsts, seconds, strict=True), same, nearer, strict=True)
    ]


def _drawn(label: str, patient: int, image: int) -> np.ndarray:
    return draw_image(SIDE, label, 1.0, 1.0, (_SEED, 0, patient), (_SEED, 1, image))


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def leaks(run: Path) -> list[dict[str, object]]:
    """Read what was reported with a leak, and what was true: from the run's tables, nothing computed.

    Parameters
    ----------
    run : pathlib.Path
        Run folder.

    Returns
    -------
    list of dict
        One for each cohort, task, leak and model whose leak was measured at several doses: ``cohort``,
        ``task``, ``leak``, ``model``, ``true`` (ROC AUC with its interval), ``patients``, and ``doses``, each
        a share of tested patients with the ROC AUC reported then and its interval. Empty for a run that
        measured none.

    Raises
    ------
    ValueError
        If the tables of the run contradict each other; one line.
    """
    inflation, arms = (run / "tables" / name for name in TABLES)
    if not (inflation.is_file() and arms.is_file()):
        return []
    rows = pd.read_csv(inflation)
    rows = rows[rows["primary"].astype(bool) & (rows["metric"] == "roc_auc")]
    scores = pd.read_csv(arms)
    scores = scores[scores["metric"] == "roc_auc"].set_index("predictions")
    titles = {leak.protocol: leak.title for leak in LEAKS}
    found = []
    for (task, leak, model), of_leak in rows.groupby(["task", "protocol", "model"], sort=False):
        if of_leak["dose"].nunique() < 2:
            continue
        (clean,) = of_leak["clean_predictions"].unique()
        true, doses = _score(scores, clean), []
        for row in of_leak.sort_values("dose").itertuples():
            reported = _score(scores, row.predictions)
            # Two tables, rounded to six decimals each.
            if abs(reported[0] - true[0] - row.estimate) > 2e-6:
                raise ValueError(f"tables/{TABLES[0]} and {TABLES[1]} do not agree on {row.predictions}")
            doses.append([row.dose, *reported])
        found.append(
            {
                "cohort": "chest X-rays of children" if run.name == "chest_xray" else f"cohort {run.name}",
                "task": TASKS.get(task, task),
                "leak": titles[leak],
                "model": model,
                "true": true,
                "patients": int(of_leak["n_patients"].iloc[0]),
                "doses": doses,
            }
        )
    return found + _control(run)


def _score(scores: pd.DataFrame, predictions: str) -> list[float]:
    if predictions not in scores.index:
        raise ValueError(f"tables/{TABLES[1]} has no row of {predictions}")
    row = scores.loc[[predictions]].iloc[0]
    return [float(row[name]) for name in ("estimate", "low", "high")]


def _control(run: Path) -> list[dict[str, object]]:
    """Return the same of drawn patients, whose images are as alike as the drawing made them."""
    path = run / "tables" / "06_control.csv"
    if not path.is_file():
        return []
    siblings = next(leak.title for leak in LEAKS if leak.protocol == "siblings")
    found = []
    for (identity, disease, model), rows in pd.read_csv(path).groupby(["identity", "disease", "model"]):
        true = float(rows["clean_auc"].iloc[0])
        found.append(
            {
                "cohort": f"drawn patients, likeness {identity:g}, disease {disease:g}",
                "task": TASKS["etiology"],
                "leak": siblings,
                "model": model,
                "true": [true, None, None],
                "patients": int(rows["n_patients"].iloc[0]),
                "doses": [
                    [row.dose, *(round(true + x, 6) for x in (row.estimate, row.low, row.high))]
                    for row in rows.sort_values("dose").itertuples()
                ],
            }
        )
    return found


def section(name: str, run: Path) -> str:
    """Return one of the page's three games as HTML: ``pairs``, ``leaks`` or ``study``.

    Raises
    ------
    ValueError
        As `leaks`.
    """
    data = {"pairs": pairs, "leaks": lambda: leaks(run), "study": list}[name]()
    if name == "leaks" and not data:
        return "This run measured no leak at several doses, so there is nothing to slide.\n"
    # Nothing in it may end the element.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<div class="fooled" data-fooled="{name}"><script type="application/json">{text}</script>'
        "<noscript><p>This needs JavaScript.</p></noscript></div>\n"
    )
