"""A plan is trained line by line; its tables name each network; choices need both ways to be trained."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.tasks import TASKS

with deferred:
    from leakfree.split.manifest import Manifest
    from leakfree_study.networks import trainings
    from leakfree_study.networks.trainings import (
        Choice,
        Network,
        choices,
        cost_table,
        history_table,
        train,
        worth,
    )

TASK_NAMES = ["binary", "three-class"]


def finished(one, seconds=2.0):
    """Return what a training leaves behind; its predictions tell who was asked."""
    facts = {"epoch": 1, "n_train": 50, "precision": "float32", "weights_sha256": f"{one.seed}"}
    return SimpleNamespace(
        history=pd.DataFrame({"epoch": [0, 1, 2, 3], "train_loss": [4.0, 3.0, 2.0, 1.0]}),
        facts={**facts, "training_seconds": seconds},
        read=lambda part: (one, part),
    )


def all_of(*names, seeds=(7, 8), sizes=(32,), tasks=TASK_NAMES):
    plan = [Network(t, name, seed, size) for t in tasks for name in names for seed in seeds for size in sizes]
    return {one: finished(one) for one in plan}


def test_each_line_of_a_plan_is_trained_on_the_split_of_its_task(monkeypatch):
    manifests = {
        task: Manifest(f"05-{task}", "patient-level", {"train": ("a",)}, seed=1, scope="person")
        for task in TASK_NAMES
    }
    plan = [Network("three-class", "resnet18", 9, 48), Network("binary", "simple-cnn-32", 7, 32)]
    seen = []
    monkeypatch.setattr(trainings, "network_cells", lambda run, jobs: seen.extend(jobs) or ["one", "two"])
    run = SimpleNamespace(words=SimpleNamespace(tasks=TASKS))
    found = train(run, plan, manifests, scope="person", epochs=4, batch_size=16)
    assert found == {plan[0]: "one", plan[1]: "two"}
    for one, job in zip(plan, seen, strict=True):
        assert (job.cell.task, job.cell.manifest) == (TASKS[one.task], manifests[one.task])
        assert (job.cell.label, job.cell.seed, job.cell.image_size) == one[1:]
        assert (job.cell.scope, job.budget.epochs, job.budget.batch_size) == ("person", 4, 16)


def test_tables_name_the_network_of_every_row():
    networks = all_of("resnet18", seeds=(7,), sizes=(32, 48))
    history, cost = history_table(networks), cost_table(networks)
    assert len(history) == 16 and (history["kept_epoch"] == 1).all()
    rows = [Network(r.task, r.model, r.seed, r.image_size) for r in cost.itertuples()]
    assert rows == list(networks)
    assert set(map(tuple, history[["task", "model", "seed", "image_size"]].to_numpy())) == set(networks)
    assert cost["epochs"].tolist() == [4] * 4 and cost["films"].tolist() == [50] * 4
    assert cost["films_a_second"].tolist() == [4 * 50 / 2.0] * 4


def test_a_training_that_took_no_time_has_a_speed():
    one = Network("binary", "resnet18", 7, 32)
    assert np.isfinite(cost_table({one: finished(one, 0.0)})["films_a_second"]).all()


def test_only_what_was_trained_both_ways_is_compared():
    assert choices(all_of("simple-cnn-32"), TASK_NAMES, (7, 8), 32) == []
    networks = all_of("resnet18", "efficientnet-lite0-imagenet")
    found = choices(networks, TASK_NAMES, (7, 8), 32, other_sizes=[48])
    assert [(choice.task, choice.part) for choice in found] == [("binary", "test"), ("three-class", "test")]
    for choice in found:
        lite, resnet = [result.read("")[0] for result in choice.mine], [r.read("")[0] for r in choice.other]
        assert lite == [Network(choice.task, "efficientnet-lite0-imagenet", s, 32) for s in (7, 8)]
        assert resnet == [Network(choice.task, "resnet18", s, 32) for s in (7, 8)]


def test_size_and_length_are_compared_on_validation_and_pretraining_on_test():
    networks = all_of("resnet18", "resnet18-long", "resnet18-self-supervised", sizes=(32, 48))
    found = {choice.first: choice for choice in choices(networks, TASK_NAMES, (7, 8), 32, other_sizes=[48])}
    long = found["short training, mean of seeds"]
    assert (long.task, long.part, len(long.mine), len(long.other)) == ("binary", "val", 2, 1)
    size = found["ResNet18 at 48 px"]
    assert (size.task, size.part, size.second) == ("three-class", "val", "at 32 px")
    assert [r.read("")[0].image_size for r in (*size.mine, *size.other)] == [48, 32]
    taught = found["ResNet18 pretrained without labels"]
    assert (taught.task, taught.part, taught.second) == ("three-class", "test", "from scratch")
    assert [r.read("")[0].model for r in (*taught.mine, *taught.other)] == [
        "resnet18-self-supervised",
        "resnet18",
    ]


def test_worth_is_the_first_minus_the_second_on_the_part_of_the_choice(monkeypatch):
    asked = []

    def difference(mine, other, names, **settings):
        asked.append((mine, other, names, settings))
        return pd.DataFrame({"metric": names, "estimate": 0.1})

    monkeypatch.setattr(trainings, "difference", difference)
    a, b = (finished(Network("binary", name, 7, 32)) for name in ("resnet18", "simple-cnn-32"))
    table = worth([Choice("binary", "val", "one", [a, a], "two", [b])], n_resamples=10, seed=3)
    ((mine, other, names, settings),) = asked
    assert (mine, other) == ([a.read("val")] * 2, [b.read("val")])
    assert (names, settings) == (("macro_f1", "roc_auc"), {"n_resamples": 10, "seed": 3})
    assert table.columns.tolist()[2:] == ["task", "part", "first", "second", "networks"]
    assert table.iloc[0, 2:].tolist() == ["binary", "val", "one", "two", "2 and 1"]


def test_an_unknown_network_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(trainings, "network_cells", lambda run, jobs: pytest.fail("trained"))
    run = SimpleNamespace(words=SimpleNamespace(tasks=TASKS))
    manifest = Manifest("05", "patient-level", {"train": ("a",)}, seed=1, scope="series")
    with pytest.raises(ValueError, match="unknown network 'resnet99'"):
        train(run, [Network("binary", "resnet99", 1, 32)], {"binary": manifest}, epochs=1)
