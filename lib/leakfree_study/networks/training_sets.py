"""Keep, beside a network's weights, which images it was trained on.

A training does it itself. For a run that was made before, whose images are at hand::

    python -m leakfree_study.networks.training_sets artifacts/chest_xray --data FOLDER

"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import Arguments, say
from leakfree.base.files import file_hash, write_json
from leakfree.base.sums import renew_sums
from leakfree.data.pixels import PixelCache
from leakfree.predict.calibrated import LIMIT_PARTS
from leakfree.predict.description import DESCRIPTION, PublishedError, add_hashes, read_description
from leakfree.predict.training_set import TrainingSet, TrainingSetError
from leakfree.split.manifest import Manifest
from leakfree_study.run.cells import Cell
from leakfree_study.run.run import Run, open_run, read_outputs

#: Ending of the file's name; it begins as the description of its model does.
NAME = "training_set.safetensors"


def keep_training_set(run: Run, cell: Cell, before: str = "") -> None:
    """Write a network's list of training images, ``models/<before>training_set.safetensors``.

    A run that is made from its record keeps the list that it has. Where no image is held out there is none.

    Parameters
    ----------
    run : Run
    cell : Cell
        Of the network.
    before : str
        What the names of the model's files begin with.
    """
    path = run.folder / "models" / f"{before}{NAME}"
    if run.recorded:
        run.wrote(*[path] if path.is_file() else [])
        return
    try:
        run.wrote(fit_training_set(run.pixels(cell.image_size), cell.manifest).save(path))
    except TrainingSetError as error:
        say(f"no list of training images: {error}", file=sys.stderr)


def fit_training_set(cache: PixelCache, manifest: Manifest) -> TrainingSet:
    """Describe the training part of a split; `leakfree.predict.calibrated.LIMIT_PARTS` set what a copy is."""
    parts = manifest.parts
    held_out = [image_id for part in LIMIT_PARTS for image_id in parts.get(part, ())]
    pixels = (cache.pixels[cache.rows(ids)] for ids in (parts["train"], held_out))
    return TrainingSet.fit(*pixels, manifest.hash)


def add_training_sets(folder: Path, data: str) -> list[Path]:
    """Write the lists of all published networks of a finished run.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder.
    data : str
        The run's images, as ``run_all.py --data``.

    Returns
    -------
    list of pathlib.Path
        What was written.

    Raises
    ------
    leakfree.base.errors.LeakfreeError
        If the images are not those of the run, or a network's split is not in it.
    """
    folder = Path(folder)
    run = open_run("05_network_checks", data=data, run_dir=str(folder))
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    if run.recorded or run.cohort.checksum != provenance["data"]["checksum"]:
        raise PublishedError(f"{data}: not the images that {folder} was made from")
    manifests = [Manifest.load(path) for path in sorted((folder / "manifests").glob("05-*.json"))]
    of_hash = {manifest.hash: manifest for manifest in manifests}
    written = []
    for path in sorted((folder / "models").glob(f"*{DESCRIPTION}")):
        described = read_description(path)
        if described.manifest_hash not in of_hash:
            raise PublishedError(
                f"{path}: the split that it was trained under is not in {folder / 'manifests'}"
            )
        training_set = fit_training_set(run.pixels(described.image_size), of_hash[described.manifest_hash])
        written.append(training_set.save(path.with_name(path.name.removesuffix(DESCRIPTION) + NAME)))
        _list(provenance, folder, written[-1], beside=path)
        if described.files is not None:
            _list(provenance, folder, add_hashes(path), beside=path)
    write_json(folder / "provenance.json", provenance)
    renew_sums(folder)
    return written


def _list(provenance: dict[str, Any], folder: Path, added: Path, beside: Path) -> None:
    """Note a file as an output of what made the file beside it, in the provenance and in the records."""
    name, known = (path.relative_to(folder).as_posix() for path in (added, beside))
    makers = provenance["notebooks"] | provenance.get("trainings", {})
    for maker, record in makers.items():
        if known not in record["outputs"]:
            continue
        record["outputs"][name] = file_hash(added)
        listed, ran = (folder / "outputs" / f"{maker}{ending}" for ending in (".json", ".run.json"))
        if listed.is_file():
            write_json(listed, sorted({*read_outputs(folder, maker), name}))
        if ran.is_file():
            content = json.loads(ran.read_text(encoding="utf-8"))
            write_json(ran, {**content, "outputs": record["outputs"]})


def main() -> int:
    """Write the lists of a run; see the module."""
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder, such as artifacts/chest_xray")
    parser.add_argument("--data", required=True, help="its images, as run_all.py --data")
    given = parser.parse_args()
    try:
        for path in add_training_sets(given.folder, given.data):
            say(f"{path}: {path.stat().st_size:,} bytes")
    except (LeakfreeError, OSError, ValueError, KeyError) as error:
        say(f"training_sets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
