"""Seconds until the command line answers, beside the limits that it keeps.

Run it with ``python benchmarks/start_time.py``. Each command is a process of its own, started anew ``--runs``
times in turns; the fastest start counts, since other work on the machine only ever adds. CPU seconds stand
beside the seconds on the clock. Python alone is the machine's limit.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

#: What is started, and the seconds that it may take.
COMMANDS = (
    ("python -c pass", ["-c", "pass"], None),
    ("import leakfree", ["-c", "import leakfree"], 0.5),
    ("leakfree --help", ["-m", "leakfree.cli", "--help"], 0.5),
    ("leakfree audit --help", ["-m", "leakfree.cli", "audit", "--help"], 1.0),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="starts of each (default: 10)")
    given = parser.parse_args()
    best = {name: (float("inf"), float("inf")) for name, _, _ in COMMANDS}
    for _ in range(given.runs):
        for name, arguments, _ in COMMANDS:
            best[name] = tuple(map(min, best[name], start(arguments)))
    print(f"{'':24}{'seconds':>10}{'CPU':>10}{'limit':>10}")
    late = 0
    for name, _, limit in COMMANDS:
        seconds, cpu = best[name]
        late += limit is not None and seconds > limit
        print(f"{name:24}{seconds:10.3f}{cpu:10.3f}{limit or '':>10}")
    return int(late > 0)


def start(arguments: list[str]) -> tuple[float, float]:
    """Start Python once; return seconds on the clock and of CPU."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
