"""The smallest inflation of ROC AUC by other images of the same patient that the study would find.

It is found with 80 % power at a level of 5 %.

Run: python benchmarks/minimal_detectable_effect.py [--studies 40] [--jobs 2] Writes
book/data/minimal_detectable_effect.csv. Nothing of the images is read: patients by class and number of images
come from the names, features are simulated without any identity (see `leakfree_study.inflation.simulate`),
with a disease that gives the nearest neighbour about the score that such images give. The effect is (t at
97.5 % + t at 80 %) times the standard deviation of the estimate over the simulated studies.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from scipy import stats

from leakfree.data.sources.phantom_plan import IMAGES_A_PATIENT
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.simulate import World, studies

#: Task to the classes in it, and the strength of the disease in a dimension.
TASKS = {
    "binary": (("normal",), ("bacterial", "viral"), 3.0),
    "etiology": (("bacterial",), ("viral",), 1.5),
}


def numbers(labels: tuple[str, ...]) -> tuple[int, ...]:
    """Patients with 1, 2, 3, ... images in the train folder, of some labels together."""
    most = max(max(IMAGES_A_PATIENT[label]) for label in labels)
    return tuple(sum(IMAGES_A_PATIENT[label].get(n, 0) for label in labels) for n in range(1, most + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    rows = []
    for task, (first, second, disease) in TASKS.items():
        world = World((numbers(first), numbers(second)), disease=disease, draws=given.draws)
        labels, groups = world.images()
        one = draw(labels, groups, 0)
        n = [int((labels[one.rows("test")] == label).sum()) for label in (0, 1)]
        found = studies(world, given.studies, seed=3, jobs=given.jobs, n_resamples=200)
        sd = found["estimate"].std(ddof=1)
        df = min(n) - 1
        rows.append(
            {
                "task": task,
                "studies": given.studies,
                "draws": given.draws,
                "tested_a_draw_first_class": n[0],
                "tested_a_draw_second_class": n[1],
                "sd_of_estimate": sd,
                "mean_bootstrap_sd": found["sd"].mean(),
                "minimal_detectable_effect": sd * (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)),
            }
        )
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    target = Path(__file__).resolve().parents[1] / "book" / "data" / "minimal_detectable_effect.csv"
    pd.DataFrame(rows).to_csv(target, index=False, float_format="%.5f", lineterminator="\n")


if __name__ == "__main__":
    main()
