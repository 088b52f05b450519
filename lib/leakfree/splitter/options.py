"""Options of ``leakfree split``, beside those that say how the images are read, which are the audit's."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(split: argparse.ArgumentParser) -> None:
    """Add what to make and where; an option that the audit has too keeps the audit's meaning."""
    how = split.add_mutually_exclusive_group()
    how.add_argument(
        "--repair", action="store_true", help="change the parts that there are, as little as can be"
    )
    how.add_argument(
        "--parts",
        metavar="P=F,...",
        help="parts and their shares of the images (default: train=0.7,val=0.15,test=0.15)",
    )
    how.add_argument("--folds", type=int, metavar="K", help="K parts of one size, for cross-validation")
    split.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PART",
        help="with --repair: this part stays as it is; images elsewhere that are linked to it are dropped",
    )
    split.add_argument(
        "--stratify",
        action="append",
        default=[],
        metavar="C",
        help="column whose values get the same share in every part, beside the label (repeat)",
    )
    # Perhaps the audit reads such columns itself.
    if "--group-column" not in split._option_string_actions:
        split.add_argument(
            "--group-column",
            action="append",
            default=[],
            metavar="C",
            help="column whose values stay together, such as a video or a hospital (repeat)",
        )
    split.add_argument(
        "--by-image",
        action="store_true",
        help="where no patient is known: every image is a patient of its own",
    )
    split.add_argument("--fast", action="store_true", help="do not look for shifted and cropped copies")
    split.add_argument("--out", type=Path, metavar="DIR", help="default: TARGET-split, here")
    split.add_argument("--lists", action="store_true", help="also write the names of each part, PART.txt")
    folder = split.add_mutually_exclusive_group()
    folder.add_argument(
        "--links", action="store_true", help="also make images/PART/CLASS/ of links to the files"
    )
    folder.add_argument("--copies", action="store_true", help="also make images/PART/CLASS/ of copies")
