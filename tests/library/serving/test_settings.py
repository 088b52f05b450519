"""Settings of the service: unknown ones are errors, and cores are those that may be used."""

import os

import pytest
from pydantic import ValidationError

from leakfree.serving.settings import ServiceSettings, available_cores


def test_an_unknown_or_impossible_setting_is_an_error():
    for wrong in ({"prot": 1}, {"port": 70_000}, {"threads": 1}, {"images": 0}, {"queue": 0}):
        with pytest.raises(ValidationError):
            ServiceSettings(model="m", **wrong)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 99), ("150000 100000", 1), ("50000 100000", 1), ("", 99), ("x y", 99)]
)
def test_cores_are_no_more_than_the_quota_of_a_container(tmp_path, quota, cores):
    path = tmp_path / "cpu.max"
    path.write_text(quota, encoding="ascii")
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert available_cores(path) == min(cores, everything)
    assert available_cores(tmp_path / "none") == everything


@pytest.mark.parametrize(
    ("cores", "processes", "inferring"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (8, 2, 4), (16, 4, 4)]
)
def test_workers_and_threads_follow_the_cores(monkeypatch, cores, processes, inferring):
    monkeypatch.setattr("leakfree.serving.settings.available_cores", lambda: cores)
    settings = ServiceSettings(model="m")
    assert (settings.processes(), settings.inferring()) == (processes, inferring)
    chosen = ServiceSettings(model="m", workers=3, inference_threads=5)
    assert (chosen.processes(), chosen.inferring()) == (3, 5)
