"""Seconds and peak memory of an audit of many small generated images, the first time and again.

Run it with ``python benchmarks/many_images.py --count 100000``. Images are smooth noise of 64 x 64 pixels, a
PNG each, in parts and classes, with a patient in the name, and in every thousand one copy, encoded again,
stands in another part. The second audit has what the first one kept. ``read_mb`` is all that a process read,
its own code included (Linux).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("train",) * 7 + ("val", "test", "test")
CODE = """
import json, resource, sys
from pathlib import Path
from leakfree.cli import main
code = main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
io = Path("/proc/self/io")
read = int(io.read_text().split()[1]) if io.exists() else 0
print(json.dumps({"exit": code, "peak_mb": usage.ru_maxrss // 1024, "cpu_s": usage.ru_utime + usage.ru_stime,
                  "read_mb": read // 1_000_000}), file=sys.stderr)
sys.exit(code)
"""


def generate(root: Path, count: int, seed: int = 0) -> int:
    """Write the images; return how many copies are among them."""
    rng, copies = np.random.default_rng(seed), 0
    for number in range(count):
        coarse = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        part, label = PARTS[number // 2 % 10], ("NORMAL", "PNEUMONIA")[number // 2 % 2]
        names = [(part, f"patient{number // 2}_{number % 2}.png", "PNG")]
        if number % 1000 == 999:
            other = "val" if part != "val" else "train"
            names.append((other, f"patient{count + number}_0.jpeg", "JPEG"))
            copies += 1
        for where, name, kind in names:
            path = root / where / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {"compress_level": 1}))
            path.write_bytes(buffer.getvalue())
    return copies


def audit(root: Path, out: Path, env: dict[str, str], options: list[str]) -> dict[str, object]:
    """Run one audit in a process of its own."""
    command = [sys.executable, "-c", CODE, "audit", str(root), "--patient-pattern", r"patient(\d+)"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--quiet", "--json", str(out), *options], env=env, capture_output=True, text=True
    )
    told = json.loads(done.stderr.strip().splitlines()[-1])
    report = json.loads(out.read_text(encoding="utf-8"))
    told |= {
        "seconds": round(time.perf_counter() - started, 1),
        "stages": report["provenance"].pop("seconds"),
    }
    return {**told, "near": report["checks"]["near_duplicates"]["count"], "report": report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--thorough", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary, "images")
        copies = generate(root, given.count)
        env = {**os.environ, "LEAKFREE_CACHE": str(Path(temporary, "cache"))}
        env.pop("LEAKFREE_NO_CACHE", None)
        time.sleep(3)  # a file that changed a moment ago is not kept
        options = ["--thorough"] if given.thorough else []
        first, second = (audit(root, Path(temporary, "report.json"), env, options) for _ in range(2))
        same = first.pop("report") == second.pop("report")
        kept = sum(path.stat().st_size for path in Path(temporary, "cache").iterdir()) // 1_000_000
    result = {"images": given.count + copies, "copies": copies, "first": first, "second": second}
    print(json.dumps({**result, "same report": same, "kept_mb": kept}, indent=1))


if __name__ == "__main__":
    main()
