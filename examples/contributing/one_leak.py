"""Train both arms of one leak, print its inflation, and leave files that `leakfree verify` checks.

Notebook 06 does this for all leaks; this is for trying a new one. python one_leak.py LEAK --data FOLDER
"""

import argparse
import sys
from pathlib import Path

from leakfree.base.files import write_json
from leakfree.data.cohort import CohortError
from leakfree.data.sources import SourceError
from leakfree_study.figures.tables import bracketed
from leakfree_study.inflation import catalogue, grid, results, store
from leakfree_study.inflation.experiment import LIGHT, study_material
from leakfree_study.inflation.preregistration import preregistration
from leakfree_study.run import made_with
from leakfree_study.run.run import open_run, output_hashes, read_outputs

before = preregistration()
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
names = [leak.protocol for leak in catalogue.LEAKS]
parser.add_argument("leak", metavar="LEAK", choices=names, help=f"one of {', '.join(names)}")
parser.add_argument("--data", default="phantom", help="as run_all.py --data (default: phantom)")
parser.add_argument("--out", default="", metavar="DIR", help="run folder (default: artifacts/<cohort>-leak)")
parser.add_argument("--task", default="etiology", choices=list(before.metric), help="default: etiology")
parser.add_argument("--draws", type=int, default=4, metavar="N", help="default: 4")
parser.add_argument("--pixels", type=int, default=24, metavar="N", help="side in pixels (default: 24)")
given = parser.parse_args()

leak = catalogue.by_protocol(given.leak)
try:
    run = open_run("06_inflation", data=given.data, run_dir=given.out, folder_ending="leak", jobs=1)
    material = study_material(run, features=["pixels"], pixels=given.pixels, embeddings=0)
    heads = [head for head in LIGHT if leak.neighbour or head != "1-nn"]
    jobs = grid.plan(
        tasks=[given.task],
        families=dict.fromkeys(["clean", leak.family]),
        features=["pixels"],
        heads=heads,
        seeds=range(before.draws.first_seed, before.draws.first_seed + given.draws),
    )
    found = store.Results(material)
    for job, outcomes, _ in grid.run(material, jobs, run.folder / ".cache" / "grid"):
        found.add(job, outcomes)
except (CohortError, SourceError, grid.GridError) as error:
    print(f"one_leak: {error}", file=sys.stderr)
    raise SystemExit(2) from None

run.wrote(store.save_images(run.folder, material), *store.save_draws(run.folder, found))
run.wrote(*store.save_arms(run.folder, found))
table = results.inflation_table(store.read_run(run.folder, material), before.metric[given.task])
table = table[table["protocol"] == leak.protocol]
run.save_table("inflation", table)
written = {"outputs": output_hashes(run.folder, read_outputs(run.folder, run.notebook))}
write_json(
    run.folder / "provenance.json",
    {**made_with.of_run(run.cohort, run.project), "notebooks": {}, "trainings": {leak.protocol: written}},
)
primary = table[table["primary"]]
for row, text in zip(primary.itertuples(), bracketed(primary, signed=True), strict=True):
    print(
        f"{leak.protocol}, {row.model}, {row.task}, dose {row.dose:g}: inflation of {row.metric} {text}, "
        f"{row.draws} draws, {row.n_patients} patients"
    )
print(f"files are in {Path(run.folder)}")
