"""Jobs of the grid: the same wherever they run, kept once they are finished, and never taken for others."""

import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from deferred import deferred
from leakfree.base.parallel import SchedulerError
from leakfree.data.pixels import pixel_digest

with deferred:
    from leakfree.ledger.ledger import LedgerError
    from leakfree_study.inflation import grid
    from leakfree_study.inflation.grid import GridError, job_key, material_digest, plan, read_outcomes, run
    from leakfree_study.inflation.jobs import Job, Outcome, compute
    from leakfree_study.inflation.material import VARIANTS, Features, Material


def features(values, ids):
    digests = {
        (name if variant == VARIANTS[0] else f"{variant}:{name}"): pixel_digest(row)
        for variant, array in values.items()
        for name, row in zip(ids, array, strict=True)
    }
    return Features("embeddings", values, digests)


@pytest.fixture(scope="module")
def material():
    """90 patients of three labels with up to three images, whose features hold who they are."""
    rng = np.random.default_rng(0)
    sizes = [1] * 30 + [2] * 40 + [3] * 20
    groups = np.repeat(np.arange(len(sizes)), sizes)
    image = 0.7 * rng.normal(size=(len(sizes), 16))[groups] + 0.7 * rng.normal(size=(len(groups), 16))
    labels = (groups % 3).astype(np.int64)
    image[:, 0] += labels
    image = image.astype(np.float32)
    values = {name: image + np.float32(shift) for name, shift in zip(VARIANTS, (0, 0.01, 0.1), strict=True)}
    ids = np.array([f"film-{i:03d}" for i in range(len(groups))], dtype=object)
    patients = np.array([f"patient-{g}" for g in groups], dtype=object)
    return Material(ids, patients, labels, {"series": groups}, {"embeddings": features(values, ids)})


def some_jobs(seeds=3, head="1-nn", families=("clean", "siblings"), tasks=("binary",), **fields):
    return plan(
        tasks=tasks, families=families, features=["embeddings"], heads=[head], seeds=range(seeds), **fields
    )


def slow_jobs(seeds):
    """A third of a second each, or more."""
    return some_jobs(seeds, "random-forest", ["siblings"], trees=60)


@pytest.fixture(scope="module")
def cluster():
    """One process that computes two jobs at a time: each further process would import for seconds."""
    with processes(1, threads=2) as running:
        yield running


def processes(count, threads=1):
    """A cluster of so many workers, each a process."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=count, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )


def gathered(results):
    """By job; no job comes twice."""
    results = list(results)
    found = {job: outcomes for job, outcomes, _ in results}
    assert len(found) == len(results)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for job, outcomes in expected.items():
        assert list(found[job]) == list(outcomes), job
        for arm, outcome in outcomes.items():
            other = found[job][arm]
            for name in ("rows", "probabilities", "truth"):
                mine, theirs = getattr(outcome, name), getattr(other, name)
                assert mine.dtype == theirs.dtype, (job, arm, name)
                assert np.array_equal(mine, theirs), (job, arm, name)
            assert other.ledger == outcome.ledger, (job, arm)


def kept(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def counted(monkeypatch):
    """The jobs that this process computes, as it does."""
    computed = []

    def count(material, job):
        computed.append(job)
        return compute(material, job)

    monkeypatch.setattr(grid, "compute", count)
    return computed


@pytest.fixture
def never(monkeypatch):
    """A function that makes every further job fail."""

    def refuse(*_):
        raise AssertionError("computed again")

    return lambda: monkeypatch.setattr(grid, "compute", refuse)


@pytest.mark.slow
def test_the_place_changes_nothing(material, tmp_path):
    jobs = [
        *some_jobs(2, "1-nn", tasks=["binary", "three-class"]),
        *some_jobs(2, "random-forest", trees=8),
        *some_jobs(1, "xgboost", trees=4),
    ]
    expected = {job: compute(material, job) for job in jobs}
    with processes(2) as cluster:
        places = {"one": {}, "two": {"workers": 2}, "cluster": {"scheduler": cluster.scheduler_address}}
        for name, place in places.items():
            assert_same(gathered(run(material, jobs, tmp_path / name, **place)), expected)
    assert kept(tmp_path / "one") == kept(tmp_path / "two") == kept(tmp_path / "cluster")
    assert len(kept(tmp_path / "one")) == len(jobs)
    # The leak that the material was made for is there: the arms did get different rows.
    arms = expected[Job("binary", "siblings", "embeddings", "1-nn", 0)]
    assert not np.array_equal(arms["siblings-25"].probabilities, arms["siblings-100"].probabilities)


@pytest.mark.parametrize("place", ["one", "two", "cluster"])
def test_work_is_done_where_it_should_be(material, cluster, tmp_path, never, place):
    never()
    given = {"one": {}, "two": {"workers": 2}, "cluster": {"scheduler": cluster.scheduler_address}}[place]
    results = run(material, some_jobs(2), tmp_path, **given)
    if place == "one":
        with pytest.raises(GridError, match="computed again"):
            next(results)
    else:  # other processes have a module of their own
        assert len(list(results)) == 4


@pytest.mark.parametrize("place", ["local", "cluster"])
def test_a_second_run_takes_everything_from_the_files(material, tmp_path, never, capsys, place):
    jobs = some_jobs(3)
    first = list(run(material, jobs, tmp_path))
    never()
    given = {}
    if place == "cluster":  # which is not even asked
        given = {"scheduler": "tcp://127.0.0.1:9"}
    before = {name: (tmp_path / name).read_bytes() for name in kept(tmp_path)}
    again = list(run(material, jobs, tmp_path, **given))
    assert_same(gathered(again), gathered(first))
    assert [seconds for *_, seconds in again] == [seconds for *_, seconds in first]
    assert min(seconds for *_, seconds in first) > 0
    assert "6 of 6 jobs were finished before" in capsys.readouterr().err
    assert {name: (tmp_path / name).read_bytes() for name in kept(tmp_path)} == before


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def damage_empty(path):
    path.write_bytes(b"")


def damage_flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    # Longer than the header of an entry, parts of which nothing checks.
    content[middle : middle + 200] = bytes(byte ^ 0xFF for byte in content[middle : middle + 200])
    path.write_bytes(content)


def damage_missing(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    del arrays["siblings-50/p"]
    np.savez_compressed(path, **arrays)


def damage_other(path):
    path.write_text("not even a zip file\n")


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_flip, damage_missing, damage_other])
def test_a_damaged_file_is_computed_again(material, tmp_path, counted, capsys, damage):
    jobs = some_jobs(3, families=["siblings"])
    expected = gathered(run(material, jobs, tmp_path))
    hurt = tmp_path / f"{job_key(jobs[1], material_digest(material))}.npz"
    damage(hurt)
    assert read_outcomes(hurt) is None
    counted.clear()
    assert_same(gathered(run(material, jobs, tmp_path)), expected)
    assert counted == [jobs[1]]
    assert f"{hurt.name}: kept result cannot be read" in capsys.readouterr().err
    counted.clear()
    assert_same(gathered(run(material, jobs, tmp_path)), expected)
    assert counted == []


def test_a_file_that_is_not_there_is_no_damage(tmp_path, capsys):
    assert read_outcomes(tmp_path / "none.npz") is None
    assert capsys.readouterr().err == ""


def test_outcomes_survive_the_file(tmp_path):
    outcome = Outcome(
        np.array([3, 1], dtype=np.int64),
        np.array([[0.1, 0.9], [1, 0]], dtype=np.float32),
        np.array([1, 0], dtype=np.int8),
        {"n_train": 3, "train_sha256": "ab", "chosen": 0.1, "shared_groups": 0},
    )
    nobody = Outcome(np.empty(0, np.int64), np.empty((0, 2), np.float32), np.empty(0, np.int8))
    path = tmp_path / "new" / "key.npz"
    grid.save_outcomes(path, {"b": outcome, "a-1": nobody}, 1.25)
    found, seconds = read_outcomes(path)
    assert seconds == 1.25
    assert_same({0: found}, {0: {"b": outcome, "a-1": nobody}})
    assert kept(path.parent) == ["key.npz"]
    grid.save_outcomes(path, {}, 0.5)  # a family may have no arms
    assert read_outcomes(path) == ({}, 0.5)


def changes(material):
    image = material.features["embeddings"].values["film"].copy()
    image[::3, 3] += 1
    other = {**material.features["embeddings"].values, "film": image}
    near = {**material.features["embeddings"].values, "near": image}
    labels, groups = material.labels.copy(), material.groups["series"].copy()
    labels[0], groups[0] = 2, groups[1]
    ids = material.ids.copy()
    ids[0] = "another"
    kind = material.features["embeddings"]
    return {
        "a value of an image": replace(material, features={"embeddings": features(other, material.ids)}),
        "a value of a copy": replace(material, features={"embeddings": features(near, material.ids)}),
        "a label": replace(material, labels=labels),
        "a group": replace(material, groups={"series": groups}),
        "another scope": replace(material, groups={"series": material.groups["series"], "study": groups}),
        "the name of the scope": replace(material, groups={"study": material.groups["series"]}),
        "an id": replace(material, ids=ids),
        "sizes": replace(material, sizes=np.ones((len(ids), 4))),
        "other sizes": replace(material, sizes=np.eye(len(ids))[:, :4].copy()),
        "the order": replace(material, ids=material.ids[::-1].copy()),
        "the name of the features": replace(material, features={"pixels": kind}),
        "names of labels": replace(material, label_names=("a", "b", "c")),
        "a task of a study": replace(material, label_names=("a", "b", "c"), tasks={}),
        "more features": replace(material, features={"embeddings": kind, "pixels": kind}),
    }


def test_a_changed_material_has_another_digest_and_is_computed_anew(material, tmp_path, counted):
    digests = {name: material_digest(changed) for name, changed in changes(material).items()}
    digests["none"] = material_digest(material)
    assert len(set(digests.values())) == len(digests), digests
    same = replace(material, ids=material.ids.copy(), labels=material.labels.copy())
    assert material_digest(same) == digests["none"]

    jobs = some_jobs(2)
    first = gathered(run(material, jobs, tmp_path))
    other = gathered(run(changes(material)["a value of an image"], jobs, tmp_path))
    assert len(counted) == 2 * len(jobs) == len(kept(tmp_path))
    job = jobs[0]
    assert not np.array_equal(first[job]["clean"].probabilities, other[job]["clean"].probabilities)


def test_every_field_of_a_job_changes_the_key(monkeypatch):
    job = Job("binary", "clean", "embeddings", "1-nn", 0)
    others = [
        replace(job, task="etiology"),
        replace(job, family="siblings"),
        replace(job, features="pixels"),
        replace(job, head="xgboost"),
        replace(job, seed=1),
        replace(job, scope="name"),
        replace(job, permuted=True),
        replace(job, doses=(1.0,)),
        replace(job, trees=7),
    ]
    assert len(others) == len(vars(job))
    keys = {job_key(one, "data") for one in [job, *others]} | {job_key(job, "other data")}
    assert len(keys) == len(others) + 2
    assert job_key(replace(job), "data") == job_key(job, "data")
    known = job_key(job, "data")
    monkeypatch.setattr(grid, "versions", lambda: {"numpy": "0"})
    assert job_key(job, "data") != known
    monkeypatch.undo()
    monkeypatch.setattr(grid, "package_digest", lambda modules: "another program")
    assert job_key(job, "data") != known


def test_a_killed_run_keeps_what_is_finished_and_the_next_computes_the_rest(material, tmp_path, counted):
    jobs = some_jobs(5)
    results = run(material, jobs, tmp_path)
    done = [next(results)[0] for _ in range(4)]
    results.close()
    assert done == jobs[:4]
    # What was handed out was kept before, without leftovers of half written files.
    data = material_digest(material)
    assert kept(tmp_path) == sorted(f"{job_key(job, data)}.npz" for job in done)
    counted.clear()
    again = list(run(material, jobs, tmp_path))
    assert [job for job, *_ in again] == jobs
    assert counted == jobs[4:]
    assert_same(gathered(again), {job: compute(material, job) for job in jobs})


def test_a_run_that_is_killed_on_a_cluster_goes_on(material, cluster, tmp_path, counted):
    jobs = some_jobs(8)
    results = run(material, jobs, tmp_path, scheduler=cluster.scheduler_address)
    done = [next(results)[0] for _ in range(3)]
    results.close()
    assert len(kept(tmp_path)) == 3
    # On another place; this process counts what is computed.
    found = gathered(run(material, jobs, tmp_path))
    assert set(counted) == set(jobs) - set(done)
    assert len(counted) == len(jobs) - 3
    assert_same(found, {job: compute(material, job) for job in jobs})


@pytest.mark.filterwarnings("ignore:.*tasks:UserWarning")  # joblib says that it throws work away
def test_a_run_that_is_killed_among_local_processes_goes_on(material, tmp_path, counted):
    jobs = some_jobs(8)
    results = run(material, jobs, tmp_path, workers=2)
    done = [next(results)[0] for _ in range(3)]
    results.close()
    assert len(kept(tmp_path)) == 3
    assert_same(gathered(run(material, jobs, tmp_path)), {job: compute(material, job) for job in jobs})
    assert set(counted) == set(jobs) - set(done)


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_nothing_with_it(material, tmp_path):
    jobs = slow_jobs(6)
    with processes(2) as cluster:
        nanny = next(iter(cluster.workers.values()))
        lost = nanny.pid
        results = run(material, jobs, tmp_path, scheduler=cluster.scheduler_address)
        first = next(results)
        os.kill(lost, signal.SIGKILL)
        rest = list(results)
        # It did die: in its place is another process, or none yet.
        assert nanny.pid != lost
    assert len(rest) == len(jobs) - 1
    assert_same(gathered([first, *rest]), {job: compute(material, job) for job in jobs})
    assert len(kept(tmp_path)) == len(jobs)


@pytest.mark.parametrize("place", ["one", "two", "cluster"])
def test_a_job_that_fails_is_said_and_the_others_are_kept(material, cluster, tmp_path, counted, place):
    given = {"one": {}, "two": {"workers": 2}, "cluster": {"scheduler": cluster.scheduler_address}}[place]
    jobs = some_jobs(3)
    bad = Job("binary", "clean", "embeddings", "oracle", 0)
    found = []
    with pytest.raises((GridError, ValueError), match="unknown model 'oracle'") as caught:
        found.extend(job for job, *_ in run(material, [*jobs, bad], tmp_path, **given))
    if place == "cluster":
        assert caught.type is GridError
        assert "\n" not in str(caught.value)
    # Whatever was handed out before is kept, and only the rest is computed by the next run.
    assert set(found) <= set(jobs)
    assert len(kept(tmp_path)) == len(found)
    if place == "one":
        assert found == jobs
    counted.clear()
    assert_same(gathered(run(material, jobs, tmp_path)), {job: compute(material, job) for job in jobs})
    assert set(counted) == set(jobs) - set(found)


def test_a_cluster_that_loses_all_workers_is_one_line_and_what_was_finished_is_kept(
    material, cluster, tmp_path
):
    """The last test on this cluster, which then has to start its worker again."""
    jobs = slow_jobs(4)
    results = run(material, jobs, tmp_path, scheduler=cluster.scheduler_address)
    next(results)
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    with pytest.raises(GridError, match="workers were lost") as caught:
        list(results)
    assert "\n" not in str(caught.value)
    assert 1 <= len(kept(tmp_path)) < len(jobs)


def test_a_result_that_is_lost_while_it_is_asked_for_is_one_line(material, tmp_path, monkeypatch):
    from distributed import CancelledError

    class Client:
        loop, status = None, "finished"

        def scatter(self, *_, **__):
            return None

        def submit(self, *_, **__):
            return self

        def result(self):
            raise CancelledError("already forgotten")

        def close(self):
            pass

    monkeypatch.setattr(grid, "connect", lambda _: Client())
    monkeypatch.setattr("distributed.as_completed", lambda futures, loop: futures)
    with pytest.raises(GridError, match=r"^a job failed on the cluster: its workers were lost$"):
        list(run(material, some_jobs(1), tmp_path, scheduler="tcp://127.0.0.1:9"))


def test_features_that_are_not_what_was_digested_are_refused(material, tmp_path):
    """The key comes of the digests: values that differ from them must not get into a result."""
    values = {name: array + np.float32(1) for name, array in material.features["embeddings"].values.items()}
    altered = replace(
        material, features={"embeddings": replace(material.features["embeddings"], values=values)}
    )
    assert material_digest(altered) == material_digest(material)
    with pytest.raises((GridError, LedgerError), match="are not that image's"):
        list(run(altered, some_jobs(1), tmp_path))
    assert kept(tmp_path) == []


def test_a_cluster_that_is_not_there_is_said(material, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "connect", partial(grid.connect, timeout=0.2))
    with pytest.raises(SchedulerError, match="cannot reach a Dask scheduler"):
        list(run(material, some_jobs(1), tmp_path, scheduler="tcp://127.0.0.1:9"))


def test_a_job_that_is_asked_for_twice_runs_once(material, tmp_path, counted):
    jobs = some_jobs(1, families=["clean"])
    assert len(list(run(material, jobs * 3, tmp_path))) == 1
    assert counted == jobs
    assert list(run(material, [], tmp_path)) == []


def test_finished_jobs_come_first(material, tmp_path):
    jobs = some_jobs(3)
    list(run(material, jobs[3:], tmp_path))
    assert [job for job, *_ in run(material, jobs, tmp_path)] == jobs[3:] + jobs[:3]


def test_a_plan_has_every_combination_once_draw_by_draw():
    jobs = plan(
        tasks=["binary", "etiology"],
        families=["clean", "exact"],
        features=["pixels"],
        heads=["1-nn", "xgboost"],
        seeds=[4, 5],
        permuted=True,
    )
    assert len(set(jobs)) == len(jobs) == 16
    assert [job.seed for job in jobs] == [4] * 8 + [5] * 8
    assert {(j.task, j.family, j.head) for j in jobs[:8]} == {(j.task, j.family, j.head) for j in jobs[8:]}
    assert all(job.permuted and job.features == "pixels" for job in jobs)
