"""The networks of the deep study: trained by a plan, how they learned, what they cost, what is gained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from leakfree.scores.metrics import difference
from leakfree.split.manifest import Manifest
from leakfree_study.networks.deep import TrainingSettings, network_job
from leakfree_study.run.cells import Result, network_cells
from leakfree_study.run.run import Run


class Network(NamedTuple):
    """Which network is meant: it names one line of a plan, and what came out of it.

    Attributes
    ----------
    task, model : str
        The model is one of `leakfree_study.models.recipes.RECIPES`.
    seed : int
        Of the network; the split has its own.
    image_size : int
        Side in pixels.
    """

    task: str
    model: str
    seed: int
    image_size: int


class Choice(NamedTuple):
    """Two ways to train, by the networks of each, and the part on which they are compared."""

    task: str
    part: str
    first: str
    mine: list[Result]
    second: str
    other: list[Result]


def train(
    run: Run,
    plan: Sequence[Network],
    manifests: Mapping[str, Manifest],
    scope: str = "series",
    **budget: object,
) -> dict[Network, Result]:
    """Train the networks of a plan, each on the split of its task.

    Parameters
    ----------
    run : Run
    plan : sequence of Network
    manifests : mapping of str to Manifest
        The split of each task, as `leakfree_study.networks.deep.five_parts`.
    scope : str
        Patient scope that the ledgers check.
    **budget
        ``epochs`` and what else `leakfree_study.networks.deep.TrainingSettings` has.

    Returns
    -------
    dict of Network to Result
        In the order of the plan.
    """
    jobs = [
        network_job(
            run.words.tasks[one.task],
            one.model,
            manifests[one.task],
            one.seed,
            TrainingSettings(one.image_size, **budget),
            scope,
        )
        for one in plan
    ]
    return dict(zip(plan, network_cells(run, jobs), strict=True))


def history_table(trained: Mapping[Network, Result]) -> pd.DataFrame:
    """Put the learning curves of all networks into one table, one row an epoch.

    Returns
    -------
    pandas.DataFrame
        The columns of a learning curve, then ``task, model, image_size, seed`` and ``kept_epoch``, the epoch
        whose weights were kept.
    """
    frames = [
        result.history.assign(
            task=one.task,
            model=one.model,
            image_size=one.image_size,
            seed=one.seed,
            kept_epoch=result.facts["epoch"],
        )
        for one, result in trained.items()
    ]
    return pd.concat(frames, ignore_index=True)


def cost_table(trained: Mapping[Network, Result]) -> pd.DataFrame:
    """Say what each training took.

    Returns
    -------
    pandas.DataFrame
        ``task, model, image_size, seed, epochs, films`` (images of an epoch), ``precision, seconds,
        films_a_second, weights_sha256``.
    """
    rows = []
    for one, result in trained.items():
        facts, epochs = result.facts, len(result.history)
        rows.append(
            {
                "task": one.task,
                "model": one.model,
                "image_size": one.image_size,
                "seed": one.seed,
                "epochs": epochs,
                "films": facts["n_train"],
                "precision": facts["precision"],
                "seconds": facts["training_seconds"],
                "films_a_second": epochs * facts["n_train"] / max(facts["training_seconds"], 0.1),
                "weights_sha256": facts["weights_sha256"],
            }
        )
    return pd.DataFrame(rows)


def choices(
    trained: Mapping[Network, Result],
    tasks: Sequence[str],
    seeds: Sequence[int],
    image_size: int,
    other_sizes: Iterable[int] = (),
) -> list[Choice]:
    """List what can be compared among trained networks; a choice that was not trained both ways is left out.

    Size and length of the training are compared on validation, since they were chosen there; what transfer
    and pretraining bring is compared on the internal test.

    Parameters
    ----------
    trained : mapping of Network to Result
    tasks : sequence of str
        Size and pretraining without labels are compared on the last, all else on the first.
    seeds : sequence of int
        Of the main models; all others have the first one alone.
    image_size : int
        Of the main models.
    other_sizes : iterable of int
        At which one more ResNet18 was trained.
    """
    first, last = tasks[0], tasks[-1]

    def of(task: str, model: str, numbers: Sequence[int] = seeds[:1], size: int = image_size) -> list[Result]:
        wanted = (Network(task, model, number, size) for number in numbers)
        return [trained[one] for one in wanted if one in trained]

    lite, small = "EfficientNet-Lite0, ImageNet", "efficientnet-lite0-imagenet"
    short, long = of(first, "resnet18", seeds), of(first, "resnet18-long")
    found = [Choice(first, "val", "short training, mean of seeds", short, "5 times as long", long)]
    usual = of(last, "resnet18")
    for size in other_sizes:
        other = of(last, "resnet18", size=size)
        found.append(Choice(last, "val", f"ResNet18 at {size} px", other, f"at {image_size} px", usual))
    taught = of(last, "resnet18-self-supervised")
    found.append(Choice(last, "test", "ResNet18 pretrained without labels", taught, "from scratch", usual))
    scratch = of(first, "efficientnet-lite0-scratch")
    found.append(Choice(first, "test", lite, of(first, small), "from scratch", scratch))
    for task in tasks:
        mine, other = of(task, small, seeds), of(task, "resnet18", seeds)
        found.append(Choice(task, "test", f"{lite}, mean of seeds", mine, "ResNet18 from scratch", other))
    return [choice for choice in found if choice.mine and choice.other]


def worth(compared: Sequence[Choice], *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Measure what each choice is worth: the first's score minus the second's on the same images.

    Returns
    -------
    pandas.DataFrame
        The columns of `leakfree.scores.metrics.difference` for macro F1 and ROC AUC, then ``task, part,
        first, second`` and ``networks``, how many there are on each side.
    """
    frames = [
        difference(
            [result.read(choice.part) for result in choice.mine],
            [result.read(choice.part) for result in choice.other],
            ("macro_f1", "roc_auc"),
            n_resamples=n_resamples,
            seed=seed,
        ).assign(
            task=choice.task,
            part=choice.part,
            first=choice.first,
            second=choice.second,
            networks=f"{len(choice.mine)} and {len(choice.other)}",
        )
        for choice in compared
    ]
    return pd.concat(frames, ignore_index=True)
