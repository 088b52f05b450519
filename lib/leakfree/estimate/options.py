"""Options of ``leakfree estimate``, beside those that say how the images are read, which are the audit's."""

from __future__ import annotations

import argparse
from pathlib import Path

#: Shown below the options.
EXAMPLES = r"""examples:
  how many test images would have another image of their patient in training, and what a score gains
      leakfree estimate IMAGES --patient-pattern 'subject(\d+)'
  patients in a table, a split with 30 % for test
      leakfree estimate IMAGES --csv labels.csv --patient-column case --test-share 0.3
  what a reported ROC AUC of 0.93 would be with patients apart
      leakfree estimate labels.csv --score 0.93
  images of one video or hospital are kept together too
      leakfree estimate labels.csv --group-column video --json estimate.json
"""


def add_options(estimate: argparse.ArgumentParser) -> None:
    """Add what is asked; the options that say how images are read are the audit's."""
    estimate.add_argument(
        "--test-share",
        type=float,
        default=0.2,
        metavar="F",
        help="share of the images that test (default: 0.2)",
    )
    estimate.add_argument(
        "--score",
        type=float,
        metavar="S",
        help="a ROC AUC of a plain split: say what it would be with patients apart",
    )
    estimate.add_argument(
        "--scope", metavar="S", help="patient scope that decides, as leakfree audit --scope"
    )
    estimate.add_argument("--json", type=Path, metavar="F", help="write all of it as JSON")
    estimate.add_argument(
        "--allow-problems", action="store_true", help="go on without files that cannot be read"
    )
    estimate.add_argument("--jobs", type=int, default=0, metavar="N", help="threads (default: all cores)")
    estimate.add_argument("--seed", type=int, default=0, help="of random splits and resamples (default: 0)")
    estimate.add_argument(
        "--no-cache", action="store_true", help="keep nothing of the images, and use nothing that was kept"
    )
    estimate.add_argument("--quiet", action="store_true", help="do not say how the images were read")
