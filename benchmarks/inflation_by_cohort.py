"""What a plain split adds to simple models, and how well patients can be read, cohort by cohort.

    python benchmarks/inflation_by_cohort.py --data FOLDER [--only COHORT,...] [--jobs 1]

FOLDER has chest_xray/ and cohorts/ (see COHORTS). Of the chest X-rays the train folder alone is opened.
Phantoms of four strengths of identity are drawn. Cells are kept in .cache/inflation_by_cohort, and those that
are there are not computed again. Writes to book/data: likeness.csv (retrieval and verification),
inflation_by_size.csv, inflation_by_images.csv (with 1, 2, 4, 8 other images of the same patient against
none), and inflation_by_cohort.json (settings, versions, state of the code). Then the rule of `leakfree
estimate` is fitted to them: lib/leakfree/estimate/learned.yaml, and estimate_left_out.csv, where each cohort
is left out once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.target import open_target
from leakfree.base.files import kept_arrays, write_text
from leakfree.base.provenance import code_digest, git_state, versions
from leakfree.data.images import to_grey
from leakfree.data.names import label_from_path
from leakfree.data.reading.wishes import Wishes
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
from leakfree.estimate.likeness import likeness
from leakfree.splitter.material import gather
from leakfree_study.inflation import by_cohort, by_cohort_shown, learn
from leakfree_study.inflation.by_cohort import Pictures, compared
from leakfree_study.inflation.identity_space import tuned

ROOT = Path(__file__).resolve().parents[1]
DATA, CACHE = ROOT / "book" / "data", ROOT / ".cache" / "inflation_by_cohort"
#: Sides of what is compared and of what is embedded, in pixels.
SMALL, EMBEDDED = 32, 64
#: Of the phantoms: images, and strengths of identity; disease is 1.
PHANTOM_IMAGES, IDENTITIES = 900, (0.0, 0.5, 1.0, 2.0)
SPACES = ("leakfree/estimate/likeness", "leakfree_study/inflation/identity_space")
MODULES = ("leakfree_study/inflation/by_cohort", "leakfree_study/inflation/heads", "leakfree/splitter/assign")


@dataclass(frozen=True)
class Cohort:
    """Where a cohort is, and columns that join images beside patients and copies."""

    path: str
    columns: tuple[str, ...] = ()


COHORTS = {
    "chest_xray": Cohort("chest_xray/train"),
    "bus_bra": Cohort("cohorts/bus_bra/labels.csv"),
    "bus_uclm": Cohort("cohorts/bus_uclm/labels.csv"),
    "pocus_lung": Cohort("cohorts/pocus_lung/labels.csv", ("cautious_group",)),
}


def read(name: str, folder: Path, jobs: int) -> list[Pictures]:
    """Read a cohort by the audit's door, one image of each cluster of copies: one entry a task."""
    cohort, wishes = COHORTS[name], Wishes(no_parts=True)
    path = str(folder / cohort.path)
    target = open_target(path, wishes=wishes)
    found = gather(target, AuditSettings(wishes=wishes, jobs=jobs), path, cohort.columns)
    first = ~pd.Series(found.copies.group).duplicated().to_numpy()
    labels = found.table["label"].to_numpy(dtype=object)[first]
    ids, groups = found.table["image_id"][first].tolist(), found.groups[first]
    places = found.read.rows[first].tolist()
    larger = embedded_pixels(
        name, lambda: (to_grey(data, EMBEDDED) for data in target.reader.read(places)), ids
    )
    if name == "chest_xray":
        kinds = np.array([label_from_path(image_id) for image_id in ids], dtype=object)
        tasks = {"binary": labels, "etiology": np.where(kinds == "normal", "", kinds)}
    else:
        tasks = {"classes": labels}
    small = found.read.thumbnails[first].reshape(len(ids), -1)
    return [entry(name, task, of_task, groups, small, larger) for task, of_task in tasks.items()]


def phantom(identity: float) -> list[Pictures]:
    """Draw a phantom without copies; its patients are the latent ones, and its task is etiology."""
    nothing = dict.fromkeys(
        ("exact_duplicates", "near_duplicates", "conflicting_labels", "missing_identifiers"), 0
    )
    settings = PhantomSettings(n_images=PHANTOM_IMAGES, size=EMBEDDED, identity=identity, **nothing)
    source = PhantomSource(settings)
    planned = [image for image in source.plan if image.part == "train" and image.drawn != "normal"]
    ids, name = [image.file for image in planned], f"phantom {identity:g}"
    key = [*ids, source.fingerprint()]
    larger = embedded_pixels(
        name, lambda: (to_grey(source.render(one).data, EMBEDDED) for one in planned), key
    )
    drawn = kept_arrays(
        CACHE / f"{name}-small.npz", code_of(key), lambda: {
            "small": np.stack([to_grey(source.render(one).data, SMALL).reshape(-1) for one in planned])
        }, "small images"
    )  # fmt: skip
    labels = np.array([image.drawn for image in planned], dtype=object)
    groups = pd.factorize(np.array([image.patient for image in planned], dtype=object))[0]
    return [entry(name, "etiology", labels, groups, drawn["small"], larger)]


def code_of(ids: list[str]) -> str:
    """Return a digest of what makes arrays of some images."""
    made_by = code_digest(
        ("leakfree/data/images", "leakfree_study/models/embeddings"), ("torch", "timm", "pillow")
    )
    return hashlib.sha256("\n".join([made_by, str(EMBEDDED), *ids]).encode()).hexdigest()


def embedded_pixels(name: str, pixels, ids: list[str]) -> np.ndarray:
    """Return embeddings of images, kept."""
    from leakfree_study.models.embeddings import embed

    def make() -> dict[str, np.ndarray]:
        return {"embeddings": embed(np.stack(list(pixels())), description=f"embed {name}")}

    return kept_arrays(CACHE / f"{name}-embeddings.npz", code_of(ids), make, "embeddings")["embeddings"]


def entry(name, task, labels, groups, small, larger) -> Pictures:
    """Put the images of a task together; an image without a label takes no part."""
    taking = labels != ""
    codes = np.unique(labels[taking], return_inverse=True)[1].reshape(-1)
    of_task = np.unique(groups[taking], return_inverse=True)[1].reshape(-1)
    return Pictures(name, task, codes, of_task, {"pixels": small[taking], "embeddings": larger[taking]})


def folder_of(pictures: Pictures, modules: tuple[str, ...]) -> Path:
    """Return where results of these images and this code are kept."""
    code = code_digest(modules, ("numpy", "scikit-learn", "scipy"))
    told = json.dumps([code, pictures.labels.tolist(), pictures.groups.tolist()])
    digest = hashlib.sha256(told.encode())
    for values in pictures.features.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    folder = CACHE / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cells(pictures: Pictures) -> Iterator[dict[str, object]]:
    """Measure a cohort cell by cell; what was measured before is read back."""
    folder = folder_of(pictures, MODULES)

    def kept(kind: str, size: object, features: str, model: str, make) -> list[dict[str, object]]:
        path = folder / f"{kind}-{size}-{features}-{model}.json"
        if not path.exists():
            started = time.process_time()
            rows = make()
            seconds = round(time.process_time() - started, 1)
            write_text(path, json.dumps([{**row, "seconds": seconds} for row in rows]))
            print(
                f"{pictures.cohort} {pictures.task} {kind} {size} {features} {model}: {seconds} s", flush=True
            )
        return json.loads(path.read_text(encoding="utf-8"))

    head = {"cohort": pictures.cohort, "task": pictures.task, "images": len(pictures)}
    numbers = by_cohort.most_others(pictures.groups)
    for features in pictures.features:
        for model in by_cohort.MODELS:
            for size in by_cohort.sizes_of(pictures):

                def one(size=size, features=features, model=model):
                    arms = by_cohort.by_size(pictures, features, model, size, by_cohort.DRAWS)
                    return [asdict(by_cohort.gain(*arms))] if arms[0] else []

                for row in kept("size", size, features, model, one):
                    yield {"kind": "size", **head, "features": features, "model": model, "size": size, **row}

            def others(features=features, model=model):
                found = by_cohort.by_others(pictures, features, model, numbers, by_cohort.DRAWS)
                return [{"others": k, **asdict(by_cohort.gain(found[0], found[k]))} for k in numbers]

            if numbers:
                for row in kept("others", "all", features, model, others):
                    yield {"kind": "others", **head, "features": features, "model": model, **row}


def alike(pictures: Pictures) -> list[dict[str, object]]:
    """Measure retrieval and verification of a cohort in each representation; kept."""
    path = folder_of(pictures, SPACES) / "likeness.json"
    if not path.exists():
        write_text(path, json.dumps(list(compared_by(pictures))))
    return json.loads(path.read_text(encoding="utf-8"))


def compared_by(pictures: Pictures) -> Iterator[dict[str, object]]:
    """Measure the likeness in each representation."""
    for features, values in pictures.features.items():
        yield {"features": features, **row_of(pictures, compared(values))}
    half, space = tuned(compared(pictures.features["embeddings"]), pictures.groups)
    some = pictures.take(half)
    yield {"features": "embeddings, half", **row_of(some, compared(some.features["embeddings"]))}
    yield {"features": "embeddings tuned to patients, half", **row_of(some, space)}


def row_of(pictures: Pictures, vectors: np.ndarray) -> dict[str, object]:
    """Return the likeness of a cohort as columns."""
    found = likeness(pictures.groups, vectors, pictures.labels)
    row: dict[str, object] = {}
    for name, value in vars(found).items():
        if hasattr(value, "estimate"):
            row |= {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            row[name] = value
    return {"cohort": pictures.cohort, "task": pictures.task, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LEAKFREE_REAL_DATA", "../shared/data"))
    )
    parser.add_argument(
        "--only", default="", help="cohorts to measure; the tables are written only without it"
    )
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    only = set(filter(None, given.only.split(",")))
    measured: list[dict[str, object]] = []
    likenesses: list[dict[str, object]] = []
    for name in (*COHORTS, *(f"phantom {identity:g}" for identity in IDENTITIES)):
        if only and name not in only:
            continue
        entries = (
            phantom(float(name.split()[1])) if name not in COHORTS else read(name, given.data, given.jobs)
        )
        likenesses += alike(entries[0])  # the task with all images
        for pictures in entries:
            measured += list(cells(pictures))
    frame, likes = pd.DataFrame(measured), pd.DataFrame(likenesses)
    if only:
        shown = [
            "cohort",
            "task",
            "kind",
            "features",
            "model",
            "size",
            "others",
            "clean",
            "estimate",
            "share",
            "found",
        ]
        print(frame.reindex(columns=shown).to_string(index=False))
        print(
            likes[["cohort", "task", "features", "rank_1", "rank_20", "verification", "found"]].to_string(
                index=False
            )
        )
        return
    likes = likes[["cohort", "task", "features", *likes.columns.drop(["cohort", "task", "features"])]]
    frame["found"] = frame["found"].where(frame["model"] == "1-nn")  # the others have no neighbours
    by_size = frame[frame["kind"] == "size"].drop(columns=["kind", "others", "seconds"])
    by_images = frame[frame["kind"] == "others"].drop(columns=["kind", "size", "seconds"])
    # Where all tested patients have one class there is no ROC AUC.
    by_images = by_images.dropna(subset=["clean"])
    front = ["cohort", "task", "images", "features", "model", "others"]
    by_images = by_images[[*front, *by_images.columns.drop(front)]].astype({"others": int})
    tables = {
        "likeness": likes,
        "inflation_by_size": by_size.astype({"size": int}),
        "inflation_by_images": by_images,
    }
    for name, table in tables.items():
        table.to_csv(DATA / f"{name}.csv", index=False, float_format="%.5f", lineterminator="\n")
    settings = {
        name: getattr(by_cohort, name)
        for name in ("FOLDS", "SIZES", "DRAWS", "WIDTH", "OTHERS", "LEAST_PATIENTS", "MODELS")
    }
    settings |= {"side": SMALL, "side_of_embeddings": EMBEDDED, "phantom_images": PHANTOM_IMAGES}
    described = {
        "command": "python benchmarks/inflation_by_cohort.py",
        "settings": settings,
        "cohorts": {name: asdict(cohort) for name, cohort in COHORTS.items()},
        "versions": versions(),
        "git": git_state(ROOT),
        "processor_seconds": round(
            float(
                frame.drop_duplicates(["cohort", "task", "kind", "features", "model", "size"])[
                    "seconds"
                ].sum()
            )
        ),
    }
    write_text(DATA / "inflation_by_cohort.json", json.dumps(described, indent=1) + "\n")
    written = pd.read_csv(DATA / "inflation_by_size.csv")
    likes = pd.read_csv(DATA / "likeness.csv")
    for name, table in (
        ("likeness_shown", by_cohort_shown.likeness_table(likes)),
        ("inflation_by_cohort_shown", by_cohort_shown.gain_table(written)),
    ):
        table.to_csv(DATA / f"{name}.csv", index=False, lineterminator="\n")
    by_cohort_shown.picture(written).savefig(DATA / "inflation_by_cohort.png", dpi=160)
    learn.write(DATA / "inflation_by_size.csv", DATA / "estimate_left_out.csv")


if __name__ == "__main__":
    main()
