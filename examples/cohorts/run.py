"""Run the study on the other cohorts: ``python examples/cohorts/run.py bus_bra`` from the root.

Each cohort is a ``study.yaml`` here, which names the folder of its images; the record goes to ``artifacts/``.
Deep networks are left out (notebooks 03 and 05): on two cores they cost hours for the four cohorts.
"""

import argparse
import sys
from pathlib import Path

from leakfree_study.compendium.study import main

HERE = Path(__file__).parent
#: Notebooks: what the cohort holds, who is on both sides, classical models, inflation.
NOTEBOOKS = "01,02,04,06"
#: The profile quick on all images, without the networks of notebook 06.
SETTINGS = {"max_images": 0, "network_draws": 0}


def arguments(name: str) -> list[str]:
    """Return what run_all.py is given for a cohort."""
    study, out = HERE / name / "study.yaml", Path("artifacts") / name
    options = ["--profile", "quick", "--only", NOTEBOOKS, "--no-book", "--jobs", "1"]
    settings = [word for key, value in SETTINGS.items() for word in ("-p", f"{key}={value}")]
    return ["--data", str(study), "--out", str(out), *options, *settings]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="*", help="names of folders here (default: all)")
    wanted = parser.parse_args().cohorts or sorted(path.parent.name for path in HERE.glob("*/study.yaml"))
    sys.exit(max([main(arguments(name)) for name in wanted]))
