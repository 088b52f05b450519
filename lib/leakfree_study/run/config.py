"""All settings of a run on one screen: the three profiles, and what the command line may set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Notebooks in the order in which they run. ``results`` reads the tables of the others and runs last.
NOTEBOOKS = (
    "01_exploration",
    "02_leakage_analysis",
    "03_leaky_cnn",
    "04_leakfree_classical",
    "05_leakfree_deep",
    "05_network_checks",
    "05_reframed",
    "06_inflation",
    "06_checks",
    "06_reanalysis",
    "results",
)
#: Notebooks that a notebook reads tables of. All but the first search the copies that 02 keeps for them.
NEEDS = {
    "05_network_checks": ("05_leakfree_deep",),
    # Its model card says how well the probabilities are calibrated.
    "05_reframed": ("05_leakfree_deep", "05_network_checks"),
    "06_checks": ("06_inflation",),
    "06_reanalysis": ("03_leaky_cnn", "04_leakfree_classical"),
    "results": NOTEBOOKS[:-1],
}
#: Notebooks that are about the chest X-rays alone; a study on own images does without them.
CHEST_ONLY = ("06_reanalysis",)
#: Notebooks that were a part of another one: the record of an older run has their parameters there.
PART_OF = {"06_checks": "06_inflation", "06_reanalysis": "06_inflation"}

#: Parameters of the notebooks, for the profiles in this order. max_images = 0 takes all; counts in 01 and 02
#: always take all.
#: - smoke, for tests and continuous integration: every line runs, no number means anything;
#: - quick, minutes on two cores: a first answer, and the defaults of the notebooks;
#: - full, the published run: the reference study's sizes, budgets and batch sizes where it names them, and
#:   for 06 what inflation/preregistration.yaml says.
_PARAMETERS: dict[str, dict[str, tuple[Any, Any, Any]]] = {
    "01_exploration": {
        "thumbnails": (6, 12, 12),
    },
    "02_leakage_analysis": {
        "split_seeds": (5, 20, 200),
    },
    "03_leaky_cnn": {
        "image_size": (32, 64, 224),
        "epochs": (1, 3, 5),
        "batch_size": (16, 8, 8),
        "seeds": ([42], [42], [42, 43]),
        "max_images": (600, 0, 0),
        "resamples": (200, 500, 2000),
    },
    "04_leakfree_classical": {
        "image_size": (16, 32, 64),
        "lr_iterations": (2, 3, 8),
        "xgb_iterations": (2, 2, 6),
        "folds": (2, 2, 3),
        "trees": (10, 40, 100),
        "reference_size": (32, 48, 224),
        "max_images": (300, 0, 0),
        "resamples": (200, 500, 2000),
    },
    "05_leakfree_deep": {
        "tasks": (["binary"], ["binary"], ["binary", "three-class"]),
        "image_size": (32, 32, 96),
        "epochs": (1, 2, 8),
        "batch_size": (32, 32, 32),
        "patience": (5, 5, 5),
        "seeds": (2, 2, 5),
        "compared_models": (
            ["resnet18-self-supervised"],
            [],
            ["resnet18-long", "efficientnet-lite0-scratch", "resnet18-self-supervised"],
        ),
        "other_sizes": ([48], [], [64, 128]),
        "max_images": (280, 480, 0),
        "resamples": (200, 500, 2000),
    },
    "05_network_checks": {
        "image_size": (32, 32, 96),
        "shown_films": (4, 6, 6),
        "resamples": (200, 500, 2000),
    },
    "05_reframed": {
        "tasks": (["binary"], ["binary"], ["binary", "three-class"]),
        "recipes": (["resnet18-usual", "resnet18-reframed"], ["resnet18-usual", "resnet18-reframed"], []),
        # 0 takes what the rule says, leakfree_study/networks/framing_rule.yaml.
        "image_size": (32, 32, 0),
        "epochs": (1, 2, 0),
        "seeds": (1, 1, 0),
        "max_images": (280, 480, 0),
        "resamples": (200, 500, 2000),
    },
    "06_inflation": {
        "tasks": (["etiology"], ["etiology"], ["binary", "etiology", "three-class"]),
        "features": (["pixels", "embeddings"], ["pixels", "embeddings"], ["pixels", "embeddings"]),
        "draws": (2, 4, 20),
        "random_label_draws": (2, 2, 20),
        "scope_draws": (2, 2, 20),
        "trees": (5, 20, 100),
        "pixels": (16, 32, 32),
        "embeddings": (32, 64, 224),
        "network_draws": (2, 2, 6),
        "network_size": (32, 32, 64),
        "network_epochs": (1, 1, 8),
        "max_images": (240, 700, 0),
        "resamples": (100, 300, 2000),
    },
    "06_checks": {
        # As in 06_inflation.
        "features": (["pixels", "embeddings"], ["pixels", "embeddings"], ["pixels", "embeddings"]),
        "pixels": (16, 32, 32),
        "embeddings": (32, 64, 224),
        "control_films": (160, 400, 3000),
        "control_draws": (2, 2, 10),
        "studies": (10, 10, 2500),
        "max_images": (240, 700, 0),
        "resamples": (100, 300, 2000),
    },
    "06_reanalysis": {
        "reference_size": (32, 32, 128),
        "reference_epochs": (1, 1, 3),
        "max_images": (240, 700, 0),
        "resamples": (100, 300, 2000),
    },
    "results": {},
}
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    profile: {
        notebook: {name: values[place] for name, values in parameters.items()}
        for notebook, parameters in _PARAMETERS.items()
    }
    for place, profile in enumerate(("smoke", "quick", "full"))
}

#: What a profile leaves out, said once at the start of a run.
LEFT_OUT = {
    "smoke": "shows that every step runs; the synthetic cohort is small, and no number means anything",
    "quick": "at most 480 images train a deep model and 700 enter notebook 06; both take one task, and 05 "
    "compares no longer training, other sizes or other initial weights; --profile full has all",
}
#: Images of the synthetic cohort where a profile takes another number than its default.
PHANTOM_IMAGES = {"smoke": 300, "full": 1200}
#: How many notebooks a profile runs side by side; the long networks of full have all cores for themselves.
LANES = {"smoke": 2, "quick": 2, "full": 1}
#: Seconds that each step adds to a run on two cores without bfloat16: of notebooks side by side, half of what
#: they take; for full, on the cohort of the published run. What is left of a run is told from their
#: proportions and from the pace of the machine.
EXPECTED_SECONDS: dict[str, dict[str, float]] = {
    "smoke": dict(zip([*NOTEBOOKS, "book"], (3, 15, 3, 3, 14, 5, 7, 12, 5, 6, 2, 20), strict=True)),
    "quick": dict(zip([*NOTEBOOKS, "book"], (4, 30, 5, 5, 16, 5, 11, 23, 7, 11, 2, 28), strict=True)),
    "full": dict(
        zip(
            [*NOTEBOOKS, "book"],
            (10, 100, 7200, 900, 30000, 225, 8000, 16000, 2000, 2000, 20, 60),
            strict=True,
        )
    ),
}


class Settings(BaseModel):
    """What ``run_all.py`` was asked for; an unknown setting raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: phantom, phantom:N, hub, an address, a folder of images, or a Deep Lake dataset.
    data: str = "phantom"
    profile: Literal["smoke", "quick", "full"] = "quick"
    #: Run folder; None chooses it from cohort and profile.
    out: Path | None = None
    #: Numbers or names of notebooks; empty runs all.
    only: tuple[str, ...] = ()
    resume: bool = False
    #: Cores; 0 takes all.
    jobs: Annotated[int, Field(ge=0)] = 0
    #: Address of a Dask scheduler for the searches, such as tcp://127.0.0.1:8786; empty works here.
    scheduler: str = ""
    book: bool = True
    allow_problems: bool = False
    #: Values for parameters of the notebooks, such as seed or weights.
    parameters: dict[str, Any] = Field(default_factory=dict)


def needs(names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each notebook those of `names` that have to end before it begins.

    Examples
    --------
    >>> needs(["02_leakage_analysis", "06_inflation", "06_checks"])["06_checks"]
    ['06_inflation', '02_leakage_analysis']
    """
    copies = NOTEBOOKS[1:2]
    return {
        name: [
            other
            for other in dict.fromkeys([*NEEDS.get(name, ()), *(() if name in NOTEBOOKS[:2] else copies)])
            if other in names
        ]
        for name in names
    }


def select_notebooks(only: tuple[str, ...]) -> list[str]:
    """Turn numbers (``02``) or names into notebooks, in running order.

    Raises
    ------
    ValueError
        If one is unknown.
    """
    if not only:
        return list(NOTEBOOKS)
    chosen = set()
    for wanted in only:
        found = [name for name in NOTEBOOKS if wanted in (name, name.split("_")[0])]
        if not found:
            raise ValueError(f"--only {wanted}: no such notebook; known: {', '.join(NOTEBOOKS)}")
        chosen.update(found)
    return [name for name in NOTEBOOKS if name in chosen]
