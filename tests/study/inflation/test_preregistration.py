"""What was decided before: the code follows it, and it was committed before any result."""

import re
import subprocess

import pytest
import yaml
from pydantic import ValidationError

from deferred import deferred
from leakfree.data.tasks import TASKS
from leakfree_study.inflation.preregistration import Preregistration, preregistration, text
from leakfree_study.run.config import PROFILES

with deferred:
    from leakfree_study.inflation import heads

FILE = "lib/leakfree_study/inflation/preregistration.yaml"
RESULT = "artifacts/chest_xray/tables/inflation.csv"


def test_the_published_profile_is_what_was_registered():
    before, full = preregistration(), PROFILES["full"]["06_inflation"]
    assert full["draws"] == before.draws.cells
    assert full["network_draws"] == before.draws.networks
    assert full["random_label_draws"] == before.draws.random_labels
    assert full["scope_draws"] == before.draws.scopes
    assert full["resamples"] == before.resamples
    assert (full["pixels"], full["embeddings"]) == (before.settings["pixels"], before.settings["embeddings"])
    assert full["trees"] == before.settings["trees"] == heads.TREES
    networks = before.settings["networks"]
    assert (full["network_size"], full["network_epochs"]) == (networks["image_size"], networks["epochs"])
    assert before.settings["logistic_regression_C"] == heads.C


def test_metrics_and_margins_are_registered_for_every_task():
    before = preregistration()
    assert set(before.metric) == set(TASKS)
    assert set(before.metric.values()) == {"roc_auc"}
    assert before.margins == {"roc_auc": 0.01, "macro_f1": 0.02}
    assert before.draws.first_seed % 2 == 0, "the first draw needs its mirror"


def test_an_unknown_entry_is_refused():
    content = yaml.safe_load(text())
    with pytest.raises(ValidationError, match="second_thoughts"):
        Preregistration.model_validate({**content, "second_thoughts": 1})


def test_amendments_are_dated_and_say_why():
    for amendment in preregistration().amendments:
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(amendment["date"]))
        assert amendment["what"]
        assert amendment["why"]


def git(repository, *arguments):
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []


def test_it_was_committed_before_the_results(repository):
    if not git(repository, "rev-parse", "HEAD") or git(
        repository, "rev-parse", "--is-shallow-repository"
    ) == ["true"]:
        pytest.skip("no history here")
    results = git(repository, "log", "--diff-filter=A", "--format=%H", "--", RESULT)
    if not results:
        pytest.skip("no result is committed yet")
    # Where the file was moved since, its first commit counts.
    written = git(repository, "log", "--follow", "--diff-filter=A", "--format=%H", "--", FILE)
    assert written, "the pre-registration is not committed"
    first = results[-1]
    ancestor = subprocess.run(
        ["git", "-C", str(repository), "merge-base", "--is-ancestor", written[-1], f"{first}~1"]
    )
    assert ancestor.returncode == 0, "the pre-registration is no strict ancestor of the first result"
