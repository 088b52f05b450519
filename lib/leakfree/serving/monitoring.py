"""What can be seen of a running service: counters for Prometheus, and one JSON line for each request.

No log line holds anything of an image: no pixels, no file name, no answer.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from pythonjsonlogger.json import JsonFormatter

log = logging.getLogger("leakfree.service")

#: Bytes of a file of counters: a few times what all their labels together can take.
COUNTERS_BYTES = 1 << 17
#: Why this process cannot share its counters; empty where it can.
lost: list[str] = []
# Whether any process of the service cannot: workers are forked later, and share this byte.
_anyone = mmap.mmap(-1, 1)


class _Reserved(MmapedDict):
    """Counters in a file whose room is taken before it is used; in memory where there is none.

    prometheus_client maps a file with holes, and a disk that is full then ends the process by SIGBUS.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            reserve(Path(filename))
            super().__init__(filename, read_mode)
        except OSError as error:
            without_counters(error)
            self._f = None  # type: ignore[assignment]  # the parent always has a file
            self._fname, self._positions = filename, {}
            self._capacity, self._used = COUNTERS_BYTES, 8
            self._m = mmap.mmap(-1, self._capacity)


def reserve(path: Path) -> None:
    """Write a new file of zeros; raises OSError, and leaves no file, where there is no room."""
    try:
        with path.open("ab") as file:
            if not file.tell():
                file.write(bytes(COUNTERS_BYTES))
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def without_counters(error: OSError) -> None:
    """Say once that counting stops, and why."""
    _anyone[0] = 1
    if not lost:
        lost.append(f"no room for counters: {error.strerror or error}: see TMPDIR")
        if log.handlers:
            log_lost()


def missing() -> str:
    """Say why counts are not those of all workers; empty where they are."""
    return lost[0] if lost else "no room for the counters of a worker: see TMPDIR" if _anyone[0] else ""


def log_lost() -> None:
    """Log why nothing is counted."""
    log.error(f"predictions go on without /metrics: {lost[0]}")


values.MmapedDict = _Reserved  # type: ignore[misc]  # the one place where the package takes it from

REQUESTS = Counter("leakfree_requests_total", "Requests", ["method", "path", "status"])
SECONDS = Histogram(
    "leakfree_request_seconds",
    "Time from a request's headers to its answer",
    ["path"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
IMAGES = Counter("leakfree_films_total", "Images answered", ["diagnosis"])
NOVEL = Counter("leakfree_novel_films_total", "Images answered with the warning that they look like none")
REFUSED = Counter("leakfree_refused_total", "Requests refused", ["reason"])
BATCH = Histogram("leakfree_batch_films", "Images predicted at once", buckets=(1, 2, 3, 4, 6, 8, 16, 32, 64))
WAITING = Gauge("leakfree_waiting_films", "Images that wait now", multiprocess_mode="livesum")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(given: str | None) -> str:
    """Take over a caller's request id where it is a harmless one; else make one."""
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def exposition() -> bytes:
    """Return the state of all workers in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def log_as_json(level: str = "INFO") -> dict[str, Any]:
    """Send the service's lines, and the server's, to standard error as JSON.

    Returns
    -------
    dict
        The same, as `logging.config.dictConfig` takes it.
    """
    to_stderr = {"level": level, "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": json_formatter}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stderr},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {name: to_stderr for name in (log.name, "gunicorn.error", "waitress", "py.warnings")},
    }


def json_formatter() -> JsonFormatter:
    """Make the formatter: time, level, message and what the line brings along."""
    return JsonFormatter(
        "{asctime}{levelname}{message}",
        style="{",
        rename_fields={"asctime": "time", "levelname": "level"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        json_ensure_ascii=True,
    )
