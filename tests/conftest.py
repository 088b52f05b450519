"""Fixtures that several test files share: the real data, a small phantom cohort, a folder writer."""

import io
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deferred

ROOT = Path(__file__).resolve().parents[1]
# An audit keeps what it computed in the user's cache folder: tests neither write there nor read from there.
os.environ["LEAKFREE_NO_CACHE"] = "1"


LOADED = pytest.StashKey()
#: Test files that take minutes, longest first.
LONGEST = ("test_new.py", "test_rebuild.py", "test_study.py")


def pytest_xdist_auto_num_workers(config):
    """Run the whole suite on several processes; one file, or one test, in the process that was asked."""
    few = config.option.keyword or all(Path(arg.partition("::")[0]).is_file() for arg in config.args)
    workers = 0 if few else min(os.cpu_count() or 1, 8)
    if workers:
        # One thread each: two networks of two threads each wait for one another at every layer.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    return workers


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Let the imports of test files wait; note which slow packages something imported all the same."""
    deferred.deferred.collecting = True
    try:
        return (yield)
    finally:
        deferred.deferred.collecting = False
        session.config.stash[LOADED] = [name for name in deferred.SLOW if name in sys.modules]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the longest files, then others with slow tests, lest one process is left alone with them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, places.get(item.path.name, len(places))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Import what the test's file waits for."""
    deferred.load(item.module)


def encode_image(mode="L", size=(32, 24), format="JPEG", seed=0, **options):
    """Encode a seeded smooth image of one colour mode; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def free_port():
    """Return a port that is free, as the next one is, which the counters of a service take."""
    while True:
        with socket.socket() as probe, socket.socket() as following:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with suppress(OSError, OverflowError):
                following.bind(("127.0.0.1", port + 1))
                return port


@pytest.fixture(scope="session")
def encode():
    """The function `encode_image`."""
    return encode_image


@pytest.fixture(scope="session")
def repository():
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """A function that makes a folder once for all processes of a session: ``once(name, make)``.

    Whoever comes first calls ``make(folder)``, which fills the folder and may return what JSON can hold; all
    get the folder and what was returned.
    """
    import json

    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name, make):
        folder, kept = base / f"once-{name}", base / f"once-{name}.json"
        with FileLock(base / f"once-{name}.lock"):
            if not kept.exists():
                folder.mkdir()  # fails where an earlier call failed half-way
                kept.write_text(json.dumps(make(folder)), encoding="utf-8")
        return folder, json.loads(kept.read_text(encoding="utf-8"))

    return made


@pytest.fixture(scope="session")
def real_data():
    """Folder with ``chest_xray``, ``hub_v3_sample`` and ``originals``; skips where there is none."""
    named = os.environ.get("LEAKFREE_REAL_DATA")
    path = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (path / "chest_xray").is_dir():
        pytest.skip(f"real X-rays not found at {path}; set LEAKFREE_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def real_ingest(once, real_data):
    """All real images, ingested once, in a process of its own: folder of the cache, and peak memory in GB."""
    import subprocess

    code = (
        "import resource, sys; from pathlib import Path; from leakfree.data.open import open_cohort\n"
        "open_cohort(sys.argv[1], Path(sys.argv[2]))\n"
        "peak, status = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Path('/proc/self/status')\n"
        # On Linux the parent's memory at the fork is in the child's ru_maxrss; VmHWM begins anew.
        "if status.exists(): peak = status.read_text().split('VmHWM:')[1].split()[0]\n"
        "print(peak)"
    )

    def ingest(cache):
        command = [sys.executable, "-c", code, str(real_data / "chest_xray"), str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e9

    return once("real-cohort", ingest)


@pytest.fixture(scope="session")
def real_cache(real_ingest):
    """Folder of a cache that holds the real cohort; read it, and add to it under other names."""
    return real_ingest[0]


@pytest.fixture(scope="session")
def real_cohort(real_ingest, real_data):
    """The cohort of all real images."""
    from leakfree.data.open import open_cohort

    return open_cohort(str(real_data / "chest_xray"), real_ingest[0])


@pytest.fixture(scope="session")
def published_book(once):
    """The published run's book as a clone builds it: its ``html`` folder, and ``log``."""
    import shutil
    import subprocess
    from types import SimpleNamespace

    from leakfree_study.book.build import JUPYTER_BOOK, OPTIONS

    def build(project):
        ignored = shutil.ignore_patterns("_build", "run", "__pycache__")
        shutil.copytree(ROOT / "book", project / "book", ignore=ignored)
        environment = {key: value for key, value in os.environ.items() if key != "LEAKFREE_REPOSITORY"}
        environment["LEAKFREE_RUN"] = str(ROOT / "artifacts" / "chest_xray")
        command = [*JUPYTER_BOOK, "build", *OPTIONS, "book"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return {"log": done.stdout + done.stderr}

    project, found = once("published-book", build)
    return SimpleNamespace(html=project / "book" / "_build" / "html", **found)


@pytest.fixture
def write_folder(tmp_path):
    """A function that writes ``{relative path: bytes}`` to a new folder and returns the folder."""

    def write(files, name="films"):
        root = tmp_path / name
        root.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root

    return write


@pytest.fixture(scope="session")
def phantom_source():
    """A phantom of 72 images of 48 px with every kind of planted trouble."""
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

    return PhantomSource(
        PhantomSettings(
            n_images=72,
            size=48,
            exact_duplicates=2,
            near_duplicates=2,
            conflicting_labels=1,
            missing_identifiers=0.1,
        )
    )


@pytest.fixture(scope="session")
def phantom_cohort(phantom_source, tmp_path_factory):
    """The store of `phantom_source`; read it, never change it."""
    from leakfree.data.cohort import ingest

    return ingest(phantom_source, tmp_path_factory.mktemp("phantom") / "store")


@pytest.fixture(scope="session")
def models(once):
    """A folder of one published model that knows nothing: ResNet18 with drawn weights, at 48 px."""
    import json

    import torch
    from safetensors.torch import save_file

    from leakfree.base.files import file_hash
    from leakfree.data.images import to_grey
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.models.resnet import ResNet18
    from leakfree.predict.calibrated import Calibrated
    from leakfree.predict.novelty import Novelty
    from leakfree.predict.training_set import TrainingSet
    from leakfree.scores.conformal import Conformal

    def make(folder):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = ResNet18(2)
            network.train()(torch.randn(16, 1, 48, 48))
            network.fc.weight.data.mul_(4)  # so that images differ in their probabilities
        weights = folder / "drawn.safetensors"
        save_file(
            {name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()},
            weights,
        )
        described = {
            "model": "resnet18", "task": "binary", "classes": ["normal", "pneumonia"], "image_size": 48,
            "grey": "ITU-R 601 luma", "resize": "bilinear", "scale": "grey / 255", "mean": 0.45, "std": 0.2,
            "weights": weights.name, "weights_sha256": file_hash(weights), "manifest_hash": "m",
        }  # fmt: skip
        (folder / "preprocessing.json").write_text(json.dumps(described), encoding="utf-8")
        scores = np.linspace(0.01, 0.95, 30)
        conformal = Conformal(
            ("normal", "pneumonia"), tuple(scores.tolist()), tuple(np.arange(30.0, 0, -1).tolist()), 30, 0.1
        )
        Calibrated(1.3, conformal).save(folder / "calibration.json", described["weights_sha256"])
        films = [raw.data for raw in PhantomSource(PhantomSettings(**WITHOUT_COPIES))]
        pixels = np.stack([to_grey(film, 48) for film in films])
        Novelty.fit(pixels[:50], pixels[50:], "m").save(folder / "novelty.safetensors")
        TrainingSet.fit(pixels[:50], pixels[50:], "m").save(folder / "training_set.safetensors")

    return once("models", make)[0]


#: The phantom that `models` learned from: no image in its first half has a copy in the other.
WITHOUT_COPIES = {
    "n_images": 80, "size": 64, "exact_duplicates": 0, "near_duplicates": 0, "conflicting_labels": 0,
}  # fmt: skip


@pytest.fixture(scope="session")
def learned():
    """An encoded image that `models` was trained on."""
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

    return next(iter(PhantomSource(PhantomSettings(**WITHOUT_COPIES)))).data


@pytest.fixture(scope="session")
def tiny_app():
    """A function that makes a ready service around a network too small to take time."""
    import torch
    from torch import nn

    from leakfree.predict.calibrated import Calibrated
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.description import Description
    from leakfree.serving.app import create_app
    from leakfree.serving.settings import ServiceSettings

    def make(conformal=None, **settings):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            convolution = nn.Conv2d(1, 4, 3, stride=4, padding=1)
            network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        classes = ("normal", "pneumonia")
        described = Description(
            Path("tiny.safetensors"), "0" * 64, "binary", "tiny", classes, 32, 0.45, 0.2, "m", "p"
        )
        app = create_app(
            Classifier(described, network.eval(), Calibrated(1.0, conformal), None, precision="float32"),
            ServiceSettings(**{"model": Path("none"), "inference_threads": 1, **settings}),
        )
        app.extensions["batcher"].start()
        return app

    return make


@pytest.fixture(scope="session")
def films():
    """Encoded images of a small phantom that no fixture learned from."""
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

    return [raw.data for raw in PhantomSource(PhantomSettings(n_images=60, size=64, seed=7))][:24]
