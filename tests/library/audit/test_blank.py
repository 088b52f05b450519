"""Images that show nothing are a finding of their own, and join nobody."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.checks.blank import LEAST_SPREAD, blank

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_images

    ONLY = AuditSettings(skip=("shortcuts", "shift"))


def png(values, mode=None):
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, "PNG")
    return buffer.getvalue()


def ink(seed):
    """A drawing in black ink on a ground that is not there: nothing of it is left on black."""
    values = np.zeros((40, 40, 4), np.uint8)
    values[..., 3] = np.random.default_rng(seed).integers(0, 256, (40, 40))
    return png(values)


def test_blank_slices_of_all_patients_join_nobody(write_folder, encode):
    files = {}
    for k in range(6):
        part = "train" if k < 4 else "test"
        files[f"{part}/a/patient{k}_1.png"] = encode(seed=k, size=(48, 48), format="PNG")
        files[f"{part}/a/patient{k}_2.png"] = png(np.zeros((48, 48), np.uint8))
        files[f"{part}/a/patient{k}_3.png"] = ink(k)
    report = audit_images(write_folder(files), ONLY)
    found = report.checks["blank"]
    assert (found.status, found.count, found.severity) == ("WARN", 12, "warning") and not report.leaks
    for name in ("exact_duplicates", "near_duplicates", "linked_groups"):
        assert report.checks[name].count == 0, name
    # An image in both parts is found all the same.
    files["test/a/patient9.png"] = files["train/a/patient0_1.png"]
    assert audit_images(write_folder(files, "leaky"), ONLY).checks["exact_duplicates"].count == 1


@pytest.mark.parametrize(
    ("spreads", "status"),
    [
        ([50.0, LEAST_SPREAD], "PASS"),
        ([50.0, LEAST_SPREAD - 0.01], "WARN"),
        ([], "NOT RUN"),
    ],
)
def test_what_counts_as_nothing(spreads, status):
    table = pd.DataFrame({"image_id": [f"{i}.png" for i in range(len(spreads))], "std": spreads})
    assert blank(table).status == status
    assert blank(table.drop(columns="std")).status == "NOT RUN"
