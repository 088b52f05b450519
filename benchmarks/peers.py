"""What cleanvision and imagededup find in a folder of images, with the seconds they take.

Run it with ``python benchmarks/peers.py FOLDER --out peers.json`` in an environment that has the peers. They
are no dependency of the project and get an environment of their own, here for Python 3.11::

    uv venv --python 3.11 PEERS
    uv pip install --python PEERS/bin/python cleanvision==0.3.7 imagededup==0.3.3.post2 imagehash==4.3.2 \
        torch==2.12.1 torchvision==0.27.1 numpy==2.4.6 pillow==13.0.0
    PEERS/bin/python benchmarks/peers.py FOLDER --out peers.json

imagededup imports torch for its CNN, also where only its hashes are used. Each setting is timed around the
call of the peer alone, without imports, on two processes at most.

cleanvision has no threshold: it groups equal hashes, so its hash type and hash size are scanned. imagededup's
hashes have one: its call is timed at the default (10 of 64 bits), and the hashes are stored, so that any
threshold can be applied afterwards; that this gives the pairs of the peer is checked at the default. Its CNN
runs only where its weights lie in torch's cache of downloads, for this script downloads nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path

WORKERS = 2
# Before numpy and torch are imported, which read them once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = str(WORKERS)
os.environ["TQDM_DISABLE"] = "1"

import numpy as np  # noqa: E402

#: Hash types and sizes of cleanvision; a wavelet hash asks for powers of two. Its colour hash says nothing of
#: grey images and is left out.
CLEANVISION = {
    "phash": (4, 5, 6, 7, 8, 12),
    "dhash": (3, 4, 6, 8),
    "ahash": (4, 6, 8, 16),
    "whash": (4, 8, 16),
}
IMAGEDEDUP = ("PHash", "DHash", "AHash", "WHash")
DEFAULT_THRESHOLD = 10
SETTINGS = (
    "cleanvision default",
    *(f"cleanvision {kind}-{size}" for kind, sizes in CLEANVISION.items() for size in sizes),
    *(f"imagededup {method}" for method in IMAGEDEDUP),
    "imagededup CNN",
)


def run_cleanvision(folder: Path, near: dict[str, object]) -> dict[str, object]:
    from cleanvision import Imagelab

    started = time.perf_counter()
    lab = Imagelab(data_path=str(folder), verbose=False)
    issues = {"exact_duplicates": {}, "near_duplicates": near}
    lab.find_issues(issue_types=issues, n_jobs=WORKERS, verbose=False)
    seconds = time.perf_counter() - started
    # Near sets that equal an exact set are left out by cleanvision, so both lists are needed.
    sets = [lab.info[name]["sets"] for name in issues]
    clusters = [[relative(path, folder) for path in group] for found in sets for group in found]
    return {"seconds": seconds, "images": len(lab.issues), "clusters": clusters}


def relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def run_hash(folder: Path, method: str) -> dict[str, object]:
    from imagededup import methods

    hasher = getattr(methods, method)(verbose=False)
    # The two steps that `find_duplicates` of a folder takes, so that the hashes are at hand afterwards.
    started = time.perf_counter()
    hashes = hasher.encode_images(image_dir=folder, recursive=True, num_enc_workers=WORKERS)
    found = hasher.find_duplicates(encoding_map=hashes, num_dist_workers=WORKERS)
    seconds = time.perf_counter() - started
    pairs = sum(map(len, found.values())) // 2
    values = np.array([int(value, 16) for value in hashes.values()], dtype=np.uint64)
    own = sum(
        int((np.bitwise_count(values[i + 1 :] ^ values[i]) <= DEFAULT_THRESHOLD).sum())
        for i in range(len(values))
    )
    if own != pairs:
        raise SystemExit(f"imagededup {method}: {pairs} pairs at its default, its hashes give {own}")
    return {
        "seconds": seconds,
        "images": len(hashes),
        "default_threshold": DEFAULT_THRESHOLD,
        "hashes": {Path(file).as_posix(): value for file, value in hashes.items()},
    }


def run_cnn(folder: Path) -> dict[str, object]:
    import torch

    cached = Path(torch.hub.get_dir(), "checkpoints")
    if not list(cached.glob("mobilenet_v3_small-*.pth")):
        return {"not_run": "the weights of mobilenet_v3_small are not in torch's cache"}
    from imagededup.methods import CNN

    torch.set_num_threads(WORKERS)
    network = CNN(verbose=False)
    started = time.perf_counter()
    found = network.find_duplicates(image_dir=folder, recursive=True, num_enc_workers=0)
    seconds = time.perf_counter() - started
    pairs = sorted({tuple(sorted((a, b))) for a, others in found.items() for b in others})
    return {"seconds": seconds, "images": len(found), "pairs": pairs}


def run(folder: Path, setting: str) -> dict[str, object]:
    peer, _, option = setting.partition(" ")
    if peer == "imagededup":
        return run_cnn(folder) if option == "CNN" else run_hash(folder, option)
    kind, _, size = option.partition("-")
    return run_cleanvision(folder, {"hash_type": kind, "hash_size": int(size)} if size else {})


def write(path: Path, content: object) -> None:
    # The peers' environment has no leakfree, whose `files` does this elsewhere.
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        part = Path(temporary, path.name)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="SETTING", help="of: " + ", ".join(SETTINGS))
    given = parser.parse_args()
    if not given.folder.is_dir():
        raise SystemExit(f"{given.folder}: no such folder")
    wanted = given.only or SETTINGS
    if unknown := [setting for setting in wanted if setting not in SETTINGS]:
        raise SystemExit(f"unknown setting {unknown[0]!r}; known: {', '.join(SETTINGS)}")
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    names = ("cleanvision", "imagededup", "imagehash", "torch", "numpy", "pillow")
    result: dict[str, object] = {"versions": {name: importlib.metadata.version(name) for name in names}}
    result["workers"] = WORKERS
    settings = result["settings"] = {}
    for setting in wanted:
        settings[setting] = found = run(given.folder, setting)
        told = f"{found['seconds']:.1f} s" if "seconds" in found else f"not run, {found['not_run']}"
        print(f"{setting}: {told}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write(given.out, result)


if __name__ == "__main__":
    main()
