"""Slices of volumes: neighbours are alike and one patient, and no copies: ``python benchmarks/slices.py``.

Volumes are drawn: a body with organs that all patients have at nearly the same place, and texture that each
has alone. Slices overlap: each is the mean over a thickness that is wider than the step to the next. They
are split by patient, so that nothing leaks; then slices are copied across parts under another patient, as
they are and saved again as JPEG, and one slice of a volume goes to the other part. ``slices.csv`` has a row
a step: how alike neighbours are, and what the audit says.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from leakfree.base.files import write_text
from leakfree.cli import main as leakfree

SIDE, DEPTH, THICKNESS = 128, 48, 6
_PATIENT = r"(p\d+)_s\d+"


def volume(body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a volume: the body that all have, a little bent, and texture of its own."""
    bent = ndimage.shift(body, rng.normal(0, (1.0, 3.0, 3.0)), order=1, mode="nearest")
    own = [ndimage.gaussian_filter(rng.standard_normal(body.shape), size) for size in (2.0, 5.0)]
    texture = sum(noise / noise.std() for noise in own)
    inside = bent > bent.mean()
    return bent + 0.12 * texture * inside


def slices(whole: np.ndarray, step: int) -> list[np.ndarray]:
    """Cut a volume into slices that overlap, on the greys of all of it."""
    low, high = np.percentile(whole, (1, 99))
    starts = range(4, DEPTH - THICKNESS - 3, step)
    cut = [whole[at : at + THICKNESS].mean(axis=0) for at in starts]
    return [np.rint(np.clip((one - low) / (high - low), 0, 1) * 255).astype(np.uint8) for one in cut]


def body(rng: np.random.Generator) -> np.ndarray:
    """Draw what all patients have: an outline and a few organs."""
    z, y, x = np.mgrid[-1 : 1 : DEPTH * 1j, -1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    whole = ((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1).astype(float)
    for _ in range(9):
        (cz, cy, cx), size = rng.uniform(-0.45, 0.45, 3), rng.uniform(0.1, 0.35, 3)
        inside = ((z - cz) / size[0]) ** 2 + ((y - cy) / size[1]) ** 2 + ((x - cx) / size[2]) ** 2 < 1
        whole[inside] += rng.uniform(-0.6, 0.6)
    return ndimage.gaussian_filter(whole, 1.2)


def audited(folder: Path, *more: str) -> dict:
    """Return the JSON of an audit of a folder."""
    out = folder.parent / "report.json"
    skip = ("--skip", "shortcuts,shift,framing,metadata")
    leakfree(["audit", str(folder), *skip, *more, "--json", str(out), "--quiet", "--no-cache"])
    return json.loads(out.read_text(encoding="utf-8"))["checks"]


def failed(checks: dict) -> int:
    """Count the groups of copies across parts that an audit finds."""
    names = ("exact_duplicates", "near_duplicates")
    return sum(checks[name]["count"] for name in names if checks[name]["status"] == "FAIL")


def measured(step: int, patients: int, copies: int, *more: str) -> dict[str, object]:
    """Measure one step between slices."""
    rng = np.random.default_rng(7)
    common = body(rng)
    stacks = [slices(volume(common, rng), step) for _ in range(patients)]
    pairs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for s in stacks for a, b in itertools.pairwise(s)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "slices"
        for part in ("train", "test"):
            (root / part).mkdir(parents=True)
        training = patients * 2 // 3
        for number, stack in enumerate(stacks):
            for k, one in enumerate(stack):
                part = "train" if number < training else "test"
                Image.fromarray(one).save(root / part / f"p{number:02d}_s{k:02d}.png")
        known = ("--patient-pattern", _PATIENT, *more)
        clean, bare = audited(root, *known), audited(root, *more)
        for copy in range(copies):  # under patients of their own
            of = stacks[copy % training][copy % len(stacks[0])]
            Image.fromarray(of).save(root / f"test/p{100 + copy}_s00.png")
            buffer = io.BytesIO()
            Image.fromarray(of).save(buffer, "JPEG", quality=60)
            (root / f"test/p{200 + copy}_s00.jpg").write_bytes(buffer.getvalue())
        last = len(stacks[0]) - 1
        (root / f"train/p00_s{last:02d}.png").rename(root / f"test/p00_s{last:02d}.png")
        planted = audited(root, *known)
    return {
        "slices from one to the next": f"{step} of {THICKNESS}",
        "slices": len(stacks) * len(stacks[0]),
        "correlation of neighbours": f"{np.median(pairs):.3f}",
        "copies across parts, nothing planted": failed(clean),
        "the same, patients not known": failed(bare),
        "exact copies found": f"{named(planted['exact_duplicates'], 'test/p1')} / {copies}",
        "re-encoded copies found": f"{named(planted['near_duplicates'], 'test/p2')} / {copies}",
        "patients across parts, one planted": planted["patients"]["count"],
    }


def named(check: dict, begin: str) -> int:
    """Count the files of a check whose names begin so."""
    return sum(file.startswith(begin) for file in check["files"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--copies", type=int, default=8, help="of each kind")
    parser.add_argument("--out", type=Path, default=Path("slices"))
    given = parser.parse_args()
    table = pd.DataFrame([measured(step, given.patients, given.copies) for step in given.steps])
    write_text(given.out / "slices.csv", table.to_csv(index=False))
    print(table.T.to_string(header=False))


if __name__ == "__main__":
    main()
