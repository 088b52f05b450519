"""What a cohort cannot support, in sentences: said before a run, in it, and in its book."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leakfree.data.patients import SUBJECT

#: Said wherever patients matter.
UNKNOWN = "Patients are unknown: intervals are over images, and leaks of patients cannot be seen."
#: Fewer patients outside the official test than these make every interval wide.
FEW_PATIENTS = 100
#: Share of the patients that set the limits of prediction sets, and the fewest that can: see
#: `leakfree.predict.calibrated.FIVE_PARTS` and `leakfree.scores.conformal`.
_SETS_SHARE, _SETS_LEAST = 0.05, 9
#: The clean split has five parts; a label of fewer patients is missing in some.
_PARTS = 5


def limits(table: pd.DataFrame, *, patients_known: bool) -> list[str]:
    """Say what a cohort cannot support.

    Parameters
    ----------
    table : pandas.DataFrame
        One row an image: ``image_id, label, part`` (``train, val, test`` or ``unsplit``) and ``subject``,
        empty where the patient is not known.
    patients_known : bool
        Whether the study has a rule that names patients.

    Returns
    -------
    list of str
        One sentence each; empty where nothing is wrong.
    """
    found = []
    known = table[SUBJECT] != ""
    alone = "image:" + table["image_id"].astype(str)
    own = table.assign(patient=table[SUBJECT].where(known, alone))
    own = own[own["part"].isin(["train", "unsplit"])]
    if not patients_known or not known.any():
        found.append(UNKNOWN)
    elif not known.all():
        found.append(
            f"{(~known).sum():,} of {len(table):,} images name no patient and count as a patient each: a "
            "leak "
            "between them cannot be seen."
        )
    patients = own["patient"].nunique()
    if patients < FEW_PATIENTS:
        found.append(
            f"There are {patients:,} patients to train and test on: every score has a wide interval, and a "
            "small "
            "difference cannot be shown or excluded."
        )
    if patients * _SETS_SHARE < _SETS_LEAST:
        found.append(
            f"Prediction sets need {_SETS_LEAST} patients in a part of their own, a twentieth of all: of "
            f"{patients:,} "
            "there are too few, so there are none."
        )
    of_label = own.groupby("label", sort=False)["patient"].nunique()
    few = [f"{label} ({count})" for label, count in of_label.items() if count < 2 * _PARTS]
    if few:
        found.append(
            f"Few patients show {', '.join(few)}: parts of a split may lack them, and scores of classes "
            "that are missing in a part are undefined there."
        )
    if (
        reason := no_siblings(own["label"].to_numpy(dtype=object), own["patient"].to_numpy(dtype=object))
    ) != "":
        found.append(reason)
    if not (table["part"] == "test").any():
        found.append("There is no official test part: all scores are of an internal test.")
    return found


def no_siblings(labels: np.ndarray, patients: np.ndarray) -> str:
    """Say why a leak between images of one patient cannot be measured; empty where it can.

    Parameters
    ----------
    labels, patients : numpy.ndarray of str objects, shape (n,)
    """
    frame = pd.DataFrame({"label": labels, "patient": patients})
    several = frame[frame.duplicated("patient", keep=False)]
    pairs = several.groupby("label")["patient"].nunique() if len(several) else pd.Series(dtype=int)
    lacking = [label for label in dict.fromkeys(labels.tolist()) if pairs.get(label, 0) < 2]
    if len(several) and len(lacking) < len(set(labels.tolist())) - 1:
        return ""
    return (
        "What a leak is worth cannot be measured here: that takes two patients with several images of each "
        "of two "
        "labels, and this cohort has them for fewer."
    )
