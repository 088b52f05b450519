"""Seconds of the audit, beside those of cleanvision on the same folder in the same run.

Run it with ``python benchmarks/audit_speed.py FOLDER --peers PYTHON`` (see `peers.py` for that interpreter).
Each round runs, one after the other: the audit without shift, its search for copies alone, cleanvision's
search for exact and near duplicates, and the thorough audit. Ours are whole commands, start and report
included; cleanvision's seconds leave its imports out. The ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AUDITS = {
    "audit --skip shift": ["--skip", "shift"],
    "audit, copies alone": ["--skip", "patients,linked_groups,shortcuts,shift,parts"],
    "audit --thorough --skip shift": ["--thorough", "--skip", "shift"],
}


def seconds_of_audit(folder: str, options: list[str]) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "leakfree.cli", "audit", folder, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return time.perf_counter() - started


def seconds_of_cleanvision(python: str, folder: str) -> float:
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "peers.json"
        script = Path(__file__).with_name("peers.py")
        command = [python, str(script), folder, "--out", str(out), "--only", "cleanvision default"]
        subprocess.run(command, check=True, capture_output=True)
        return json.loads(out.read_text(encoding="utf-8"))["settings"]["cleanvision default"]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter that has cleanvision")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for name, options in AUDITS.items():
            seconds.setdefault(name, []).append(seconds_of_audit(given.folder, options))
            if given.peers and name == "audit, copies alone":
                seconds.setdefault("cleanvision", []).append(
                    seconds_of_cleanvision(given.peers, given.folder)
                )
        print({name: round(values[-1], 2) for name, values in seconds.items()}, flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "seconds": medians}
    if given.peers:
        result["cleanvision over copies alone"] = medians["cleanvision"] / medians["audit, copies alone"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
