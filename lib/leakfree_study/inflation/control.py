"""The positive control: images of the phantom, whose identity and disease have known strengths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from leakfree_study.inflation.jobs import Job
from leakfree_study.inflation.material import Features, Material
from leakfree_study.inflation.store import Arm, Results

#: Images are drawn at this size and read at the other.
_DRAWN, _READ = 64, 32
#: Modules and packages that draw and read them: images of others are not read back.
MODULES = ("leakfree/data/images", "leakfree_study/inflation/control", *PhantomSource.modules)
PACKAGES = ("numpy", "pillow", "scipy")


def phantom_material(identity: float, disease: float, *, films: int, cache: Path, jobs: int = 1) -> Material:
    """Draw a phantom cohort without planted copies; its patients are the latent ones."""
    settings = PhantomSettings(
        n_images=films,
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
        done = Parallel(n_jobs=jobs)(delayed(_films)(settings, part.tolist()) for part in parts)
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


def _films(settings: PhantomSettings, places: list[int]) -> np.ndarray:
    source = PhantomSource(settings)
    planned = [image for image in source.plan if image.part == "train"]
    return np.stack([to_grey(source.render(planned[place]).data, _READ).reshape(-1) for place in places])


def control(
    folder: Path,
    cache: Path,
    *,
    identities: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    diseases: Sequence[float] = (0.5, 1.0),
    doses: Sequence[float] = (0.5, 1.0),
    heads: Sequence[str] = ("1-nn", "logistic-regression"),
    task: str = "etiology",
    films: int = 1500,
    seeds: Sequence[int] = tuple(range(10)),
    n_resamples: int = 1000,
    workers: int = 1,
    scheduler: str = "",
) -> pd.DataFrame:
    """Run the estimator on phantoms of every strength of identity and disease.

    Returns
    -------
    pandas.DataFrame
        ``identity, disease, dose, model, estimate, low, high, p, n_patients, draws, clean_auc``.
    """
    rows = []
    for disease in diseases:
        for identity in identities:
            material = phantom_material(identity, disease, films=films, cache=cache, jobs=workers)
            fields = {"tasks": [task], "features": ["pixels"], "heads": heads, "seeds": seeds}
            jobs: list[Job] = plan(families=["clean"], **fields)
            jobs += plan(families=["siblings"], doses=tuple(doses), **fields)
            results = Results(material)
            for job, outcomes, _ in run(material, jobs, folder, workers=workers, scheduler=scheduler):
                results.add(job, outcomes)
            counts = patient_counts(int(material.groups["series"].max()) + 1, n_resamples, 0)
            for head in heads:
                clean = Arm(task, "pixels", head, "clean")
                for dose in doses:
                    leaky = Arm(task, "pixels", head, f"siblings-{dose * 100:.0f}")
                    first = results.scored(clean, "several", like=leaky)
                    second = results.scored(leaky, "several", like=clean)
                    check_paired(first, second)
                    of_clean = arm_values(first, "roc_auc", counts)
                    found = summarise(arm_values(second, "roc_auc", counts) - of_clean, second)
                    rows.append(
                        {
                            "identity": identity,
                            "disease": disease,
                            "dose": dose,
                            "model": leaky.model,
                            "estimate": found.estimate,
                            "low": found.low,
                            "high": found.high,
                            "p": found.p,
                            "n_patients": found.n_patients,
                            "draws": found.draws,
                            "clean_auc": float(of_clean[:, 0].mean()),
                        }
                    )
    return pd.DataFrame(rows)
