"""Fixtures that several test files share: the real data, a small phantom cohort, a folder writer."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def encode_image(mode="L", size=(32, 24), format="JPEG", seed=0, **options):
    """Encode a seeded smooth image of one colour mode; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encode():
    """The function `encode_image`."""
    return encode_image


@pytest.fixture(scope="session")
def repository():
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data():
    """Folder with ``chest_xray``, ``hub_v3_sample`` and ``originals``; skips where there is none."""
    named = os.environ.get("LEAKFREE_REAL_DATA")
    path = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (path / "chest_xray").is_dir():
        pytest.skip(f"real X-rays not found at {path}; set LEAKFREE_REAL_DATA")
    return path


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
    """A phantom of 72 films of 48 px with every kind of planted trouble."""
    from leakfree.sources.phantom import PhantomSettings, PhantomSource

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
    from leakfree.cohort import ingest

    return ingest(phantom_source, tmp_path_factory.mktemp("phantom") / "store")
