"""The positive control: images of the phantom, whose identity and disease have known strengths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from leakfree.base.files import kept_arrays
from leakfree.base.provenance import code_digest
from leakfree.data.images import to_grey
from leakfree.data.pixels import pixel_digest
from leakfree.data.raw import LABELS
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
from leakfree_study.inflation.estimate import arm_values, check_paired, patient_counts, summarise
from leakfree_study.inflation.grid import plan, run
from leakfree_study.inflation.material import Features, Material
from leakfree_study.inflation.plans import dosed
from leakfree_study.inflation.store import Arm, Results

#: Images are drawn at this size and read at the other.
_DRAWN, _READ = 64, 32
#: Modules and packages that draw and read them: images of others are not read back.
MODULES = ("leakfree/data/images", "leakfree_study/inflation/control", *PhantomSource.modules)
PACKAGES = ("numpy", "pillow", "scipy")


def phantom_material(identity: float, disease: float, *, images: int, cache: Path, jobs: int = 1) -> Material:
    """Draw a phantom cohort without planted copies; its patients are the latent ones."""
    settings = PhantomSettings(
        n_images=images,
        size=_DRAWN,
        identity=identity,
        disease=disease,
        exact_duplicates=0,
        near_duplicates=0,
        conflicting_labels=0,
        missing_identifiers=0,
    )
    source = PhantomSource(settings)
    planned = [image for image in source.plan if image.part == "train"]
    digest = hashlib.sha256(f"{source.fingerprint()} {_READ}".encode()).hexdigest()
    path = Path(cache) / "features" / f"control-{digest[:16]}.npz"

    def draw() -> dict[str, np.ndarray]:
        parts = np.array_split(np.arange(len(planned)), max(1, jobs) * 4)
        done = Parallel(n_jobs=jobs)(delayed(_images)(settings, part.tolist()) for part in parts)
        return {"films": np.concatenate(done)}

    values = kept_arrays(path, code_digest(MODULES, PACKAGES), draw, "images of the control")["films"]
    ids = np.array([image.file for image in planned], dtype=object)
    patients = np.array([image.patient for image in planned], dtype=object)
    digests = {name: pixel_digest(row) for name, row in zip(ids, values, strict=True)}
    return Material(
        ids=ids,
        patients=patients,
        labels=np.array([LABELS.index(image.drawn) for image in planned], dtype=np.int64),
        groups={"series": pd.factorize(patients)[0].astype(np.int64)},
        features={"pixels": Features("pixels", {"film": values}, digests)},
    )


def _images(settings: PhantomSettings, places: list[int]) -> np.ndarray:
    source = PhantomSource(settings)
    planned = [image for image in source.plan if image.part == "train"]
    return np.stack([to_grey(source.render(planned[place]).data, _READ).reshape(-1) for place in places])


@dataclass(frozen=True)
class Phantoms:
    """Which phantoms the control draws, and what it fits on them.

    Attributes
    ----------
    identities, diseases : sequence of float
        Strengths of what images show of the patient and of the disease.
    doses : sequence of float
    heads : sequence of str
    task : str
    images : int
        In each phantom.
    seeds : sequence of int
        Of the draws.
    n_resamples : int
    """

    identities: Sequence[float] = (0.0, 0.5, 1.0, 2.0)
    diseases: Sequence[float] = (0.5, 1.0)
    doses: Sequence[float] = (0.5, 1.0)
    heads: Sequence[str] = ("1-nn", "logistic-regression")
    task: str = "etiology"
    images: int = 1500
    seeds: Sequence[int] = tuple(range(10))
    n_resamples: int = 1000


def control(
    folder: Path, cache: Path, phantoms: Phantoms, *, workers: int = 1, scheduler: str = ""
) -> pd.DataFrame:
    """Run the estimator on phantoms of every strength of identity and disease.

    Returns
    -------
    pandas.DataFrame
        ``identity, disease, dose, model, estimate, low, high, p, n_patients, draws, clean_auc``.
    """
    fields = {
        "tasks": [phantoms.task],
        "features": ["pixels"],
        "heads": phantoms.heads,
        "seeds": phantoms.seeds,
    }
    jobs = plan(families=["clean"], **fields)
    jobs += plan(families=["siblings"], doses=tuple(phantoms.doses), **fields)
    rows = []
    for disease, identity in product(phantoms.diseases, phantoms.identities):
        material = phantom_material(identity, disease, images=phantoms.images, cache=cache, jobs=workers)
        results = Results(material)
        for job, outcomes, _ in run(material, jobs, folder, workers=workers, scheduler=scheduler):
            results.add(job, outcomes)
        rows += [{"identity": identity, "disease": disease, **row} for row in _estimated(results, phantoms)]
    return pd.DataFrame(rows)


def _estimated(results: Results, phantoms: Phantoms) -> Iterator[dict[str, object]]:
    counts = patient_counts(int(results.material.groups["series"].max()) + 1, phantoms.n_resamples, 0)
    for head, dose in product(phantoms.heads, phantoms.doses):
        clean = Arm(phantoms.task, "pixels", head, "clean")
        leaky = replace(clean, name=dosed("siblings", [dose])[0])
        first = results.scored(clean, "several", like=leaky)
        second = results.scored(leaky, "several", like=clean)
        check_paired(first, second)
        of_clean = arm_values(first, "roc_auc", counts)
        found = summarise(arm_values(second, "roc_auc", counts) - of_clean, second)
        yield {
            "dose": dose,
            "model": leaky.model,
            **found.short_row(),
            "clean_auc": float(of_clean[:, 0].mean()),
        }
