"""Local processes and a Dask cluster give the same numbers; a cluster that is not there gives one line."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from deferred import deferred
from leakfree.base import parallel
from leakfree.base.parallel import SchedulerError, workers

with deferred:
    from leakfree_study.models.classical import Search, estimator, search, search_table


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    # One process, which imports everything once, and works on two tasks at a time.
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as running:
        yield running


def problem():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    y = groups % 3
    X = rng.integers(60, 120, (len(y), 8, 8))
    for c in range(3):
        X[y == c, c, :] += 12
    return X.astype(np.uint8).reshape(len(y), -1), y, groups


def scores(model, n_jobs=None, **params):
    X, y, groups = problem()
    found = search(model, X, y, groups, Search(3, 2, seed=4, n_jobs=n_jobs), **params)
    results = found.cv_results_
    kept = {k: np.asarray(v) for k, v in results.items() if "time" not in k and k != "params"}
    return kept, results["params"], found.best_estimator_.predict_proba(X), search_table(found)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "params"), [("logistic_regression", {}), ("xgboost", {"n_estimators": 5})])
def test_a_search_is_the_same_everywhere(cluster, model, params):
    alone = scores(model, n_jobs=1, **params)
    with workers(2):
        local = scores(model, **params)
    with workers(2, cluster.scheduler_address):
        remote = scores(model, **params)
    for other in (local, remote):
        assert other[0].keys() == alone[0].keys()
        for key, values in alone[0].items():
            assert np.array_equal(values, other[0][key]), key
        assert other[1] == alone[1]
        assert np.array_equal(alone[2], other[2])
        assert other[3].to_csv() == alone[3].to_csv()


def test_a_forest_is_the_same_everywhere(cluster):
    X, y, _ = problem()

    def fit():
        return estimator("random_forest", 3, 4, 2, n_estimators=12).fit(X, y).predict_proba(X[::-1])

    alone = fit()
    with workers(2):
        local = fit()
    with workers(2, cluster.scheduler_address):
        remote = fit()
    assert np.array_equal(alone, local)
    assert np.array_equal(alone, remote)


def _where():
    import os

    return os.getpid()


def test_work_really_runs_on_the_cluster_and_the_client_is_closed(cluster):
    pids = {nanny.pid for nanny in cluster.workers.values()}
    with workers(1, cluster.scheduler_address) as count:
        assert count == 2
        backend, _ = get_active_backend()
        ran = set(Parallel()(delayed(_where)() for _ in range(8)))
    assert ran
    assert ran <= pids
    assert backend.client.status == "closed"
    assert type(get_active_backend()[0]).__name__ != "DaskDistributedBackend"


def test_client_is_closed_when_the_work_fails(cluster):
    with pytest.raises(RuntimeError, match="broken"), workers(1, cluster.scheduler_address):
        client = get_active_backend()[0].client
        raise RuntimeError("broken")
    assert client.status == "closed"


def test_local_workers_set_the_number_of_processes():
    with workers(2) as count:
        backend, jobs = get_active_backend()
        assert (count, jobs, type(backend).__name__) == (2, 2, "LokyBackend")
    assert get_active_backend()[1] != 2


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense://x", "no.such.host.invalid:1"]
)
def test_an_unreachable_scheduler_is_one_line_within_the_time_that_it_has(address, monkeypatch):
    import distributed

    plain, given = distributed.Client, []
    monkeypatch.setattr(
        distributed, "Client", lambda *a, **k: (given.append(k["timeout"]), plain(*a, **k))[1]
    )
    with pytest.raises(SchedulerError) as caught, workers(1, address, timeout=0.2):
        pytest.fail("the block must not run")
    assert given == [0.2]  # seconds that it may take
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_workers_is_refused(monkeypatch):
    from distributed import Client, LocalCluster

    plain, given = Client.wait_for_workers, []

    def waits(client, workers, timeout):
        given.append(timeout)
        return plain(client, workers, timeout=0.1)

    # The scheduler is given the time that it has, lest a busy machine fails the test.
    monkeypatch.setattr(Client, "wait_for_workers", waits)

    empty = LocalCluster(
        n_workers=0, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address="127.0.0.1:0"
    )
    with (
        empty,
        pytest.raises(SchedulerError, match="no worker within 5 s"),
        workers(1, empty.scheduler_address, timeout=5),
    ):
        pytest.fail("the block must not run")
    assert given == [5]


def test_other_versions_are_refused():
    ours = dict.fromkeys(parallel.PACKAGES, "1.0")
    versions = {"client": {"packages": ours}, "workers": {"tcp://w:1": {"packages": dict(ours)}}}
    assert parallel._version_problem(versions) is None
    versions["workers"]["tcp://w:1"]["packages"]["xgboost"] = None
    assert parallel._version_problem(versions) == "worker tcp://w:1 has xgboost None, this process has 1.0"


def test_jobs_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"), workers(0):
        pass


def test_a_machine_that_does_not_tell_its_cores_has_one(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert parallel.available_cores(tmp_path / "none") == 1


def test_cores_are_those_that_the_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert parallel.available_cores(tmp_path / "none") == 1


def test_where_a_parent_keeps_its_number_nothing_watches_it(monkeypatch):
    started = []
    monkeypatch.setattr(parallel.threading.Thread, "start", lambda self: started.append(self.name))
    parallel.die_with_parent(os.getppid())
    assert started == ["die-with-parent"]
    monkeypatch.setattr(parallel, "os", SimpleNamespace(name="nt"))
    parallel.die_with_parent(os.getppid())
    assert len(started) == 1
