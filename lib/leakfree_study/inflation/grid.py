"""Run jobs of the grid on the cores of this machine or on a Dask cluster, and keep what is finished.

A job's result is kept under a hash of everything that it depends on, written by this process alone: a run
that is killed goes on where it was, and workers need no common file system.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import say
from leakfree.base.files import replacing
from leakfree.base.parallel import connect
from leakfree.base.provenance import package_digest, versions
from leakfree.data.raw import LABELS
from leakfree_study.inflation.jobs import Job, Outcome, compute
from leakfree_study.inflation.material import Material

#: Modules whose change makes kept results stale; the rest of the library computes nothing in a job.
_MODULES = (
    "leakfree_study/inflation/arms",
    "leakfree_study/inflation/draws",
    "leakfree_study/inflation/heads",
    "leakfree_study/inflation/jobs",
    "leakfree_study/inflation/material",
    "leakfree_study/inflation/plans",
    "leakfree/scores/metrics",
    "leakfree/ledger/ledger",
    "leakfree/data/pixels",
    "leakfree/data/raw",
    "leakfree/data/tasks",
)
#: Jobs sent to a local worker at once: a job takes a tenth of a second to seconds.
_BATCH = 4
_FORMAT = "leakfree-cell-1"


class GridError(LeakfreeError):
    """Jobs could not be finished; the message is one line."""


def job_key(job: Job, data: str, code: dict[str, object] | None = None) -> str:
    """Return the SHA-256 that a job's result is kept under.

    Parameters
    ----------
    job : Job
    data : str
        Digest of the material, see `material_digest`.
    code : dict, optional
        As `code_state`, which is asked without it.
    """
    content = {
        "format": _FORMAT,
        "job": asdict(job),
        "data": data,
        **(code_state() if code is None else code),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_state() -> dict[str, object]:
    """Return what a result depends on besides images and job: our modules, and versions of packages."""
    return {"library": package_digest(_MODULES), "versions": versions()}


def material_digest(material: Material) -> str:
    """Return a SHA-256 over images, labels, groups, features and sizes, and over the tasks of own studies."""
    digest = hashlib.sha256("\n".join(material.ids.tolist()).encode("utf-8", "surrogateescape"))
    digest.update(material.labels.tobytes())
    for scope in sorted(material.groups):
        digest.update(scope.encode() + material.groups[scope].tobytes())
    for name in sorted(material.features):
        digests = material.features[name].digests
        digest.update(name.encode() + np.array(list(digests.values()), dtype=np.uint64).tobytes())
    if material.sizes is not None:
        digest.update(b"sizes" + material.sizes.tobytes())
    if material.label_names != LABELS:  # a study on other images, whose tasks are its own
        tasks = {name: (task.classes, task.mapping) for name, task in material.tasks.items()}
        digest.update(json.dumps([material.label_names, tasks], sort_keys=True).encode())
    return digest.hexdigest()


def run(
    material: Material, jobs: Sequence[Job], folder: Path, *, workers: int = 1, scheduler: str = ""
) -> Iterator[tuple[Job, dict[str, Outcome], float]]:
    """Yield every job with its outcomes and the seconds that it took; finished ones come first.

    Parameters
    ----------
    material : Material
    jobs : sequence of Job
    folder : pathlib.Path
        Where results are kept, ``<key>.npz`` each.
    workers : int
        Local processes.
    scheduler : str
        Address of a Dask scheduler, whose workers are used instead.

    Raises
    ------
    GridError
        If a job failed; those that were handed out before are kept.
    leakfree.base.parallel.SchedulerError
        If the cluster cannot be used.
    """
    data, code = material_digest(material), code_state()
    keys = {job: job_key(job, data, code) for job in jobs}
    todo = []
    with tqdm(total=len(keys), desc="cells of the grid", unit="job", mininterval=2) as progress:
        for job, key in keys.items():
            kept = read_outcomes(folder / f"{key}.npz")
            if kept is None:
                todo.append(job)
                continue
            progress.update()
            yield (job, *kept)
        if progress.n:
            say(f"{progress.n} of {len(keys)} jobs were finished before", file=sys.stderr)
        done = _on_cluster(material, todo, scheduler) if scheduler else _here(material, todo, workers)
        for job, outcomes, seconds in done:
            save_outcomes(folder / f"{keys[job]}.npz", outcomes, seconds)
            progress.update()
            yield job, outcomes, seconds


def _timed(material: Material, job: Job) -> tuple[Job, dict[str, Outcome], float]:
    started = time.perf_counter()
    try:
        outcomes = compute(material, job)
    except Exception as error:
        name = f"{job.task}, {job.family}, {job.head} on {job.features}, draw {job.seed}"
        raise GridError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return job, outcomes, time.perf_counter() - started


def _several(material: Material, jobs: Sequence[Job]) -> list[tuple[Job, dict[str, Outcome], float]]:
    return [_timed(material, job) for job in jobs]


def _here(
    material: Material, jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, dict[str, Outcome], float]]:
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield _timed(material, job)
        return
    size = min(_BATCH, -(-len(jobs) // workers))
    batches = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    # The features are large arrays: joblib hands them to the processes as one file mapped into memory.
    pool = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", pre_dispatch="4*n_jobs")
    for batch in pool(delayed(_several)(material, batch) for batch in batches):
        yield from batch


#: A job that was cancelled has no error: no worker is left that has the material.
_LOST = "its workers were lost"


def _on_cluster(
    material: Material, jobs: Sequence[Job], scheduler: str
) -> Iterator[tuple[Job, dict[str, Outcome], float]]:
    if not jobs:
        return
    from distributed import CancelledError, as_completed

    client = connect(scheduler)
    try:
        # On every worker, so that one that is lost takes nothing with it.
        shared = client.scatter(material, broadcast=True, hash=False)
        futures = [client.submit(_timed, shared, job, pure=False, retries=2) for job in jobs]
        waiting = as_completed(futures, loop=client.loop)  # the client is nobody's default
        for future in waiting:
            try:
                error = None if future.status == "finished" else future.exception() or _LOST
                found = future.result() if error is None else None
            except CancelledError:  # while it was asked for
                error = _LOST
            if error is not None:
                raise GridError(f"a job failed on the cluster: {' '.join(str(error).split())}")
            yield found
            future.release()
    finally:
        client.close()


def save_outcomes(path: Path, outcomes: dict[str, Outcome], seconds: float) -> None:
    """Write the outcomes of a job, whole or not at all."""
    arrays = {}
    for arm, outcome in outcomes.items():
        arrays |= {
            f"{arm}/rows": outcome.rows,
            f"{arm}/p": outcome.probabilities,
            f"{arm}/truth": outcome.truth,
        }
    described = {"seconds": seconds, "ledgers": {arm: outcome.ledger for arm, outcome in outcomes.items()}}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, described=np.array(json.dumps(described)), **arrays)


def read_outcomes(path: Path) -> tuple[dict[str, Outcome], float] | None:
    """Read the outcomes of a job back; None if there are none, or the file is damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as stored:
            described = json.loads(str(stored["described"]))
            outcomes = {
                arm: Outcome(stored[f"{arm}/rows"], stored[f"{arm}/p"], stored[f"{arm}/truth"], ledger)
                for arm, ledger in described["ledgers"].items()
            }
            return outcomes, float(described["seconds"])
    except Exception as error:  # a damaged file is only worth computing again
        say(f"{path.name}: kept result cannot be read ({error}); computing it again", file=sys.stderr)
        return None


def plan(
    *,
    tasks: Iterable[str],
    families: Iterable[str],
    features: Iterable[str],
    heads: Iterable[str],
    seeds: Iterable[int],
    **fields: object,
) -> list[Job]:
    """List the jobs of every combination, draw by draw."""
    return [
        Job(task, family, kind, head, seed, **fields)
        for seed in seeds
        for task in tasks
        for kind in features
        for head in heads
        for family in families
    ]
