"""The control on phantoms: latent patients, no planted copies, and identity that the estimator can find."""

import numpy as np
import pytest

from deferred import deferred
from leakfree.base import provenance

with deferred:
    from leakfree_study.inflation import control


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("control")


def test_a_phantom_has_latent_patients_and_no_copies(cache):
    material = control.phantom_material(1.0, 1.0, images=150, cache=cache)
    again = control.phantom_material(1.0, 1.0, images=150, cache=cache)
    values = material.features["pixels"].values["film"]
    assert np.array_equal(values, again.features["pixels"].values["film"])
    assert len(np.unique(values, axis=0)) == len(values) == len(material)
    assert values.shape[1] == 32 * 32
    pairs = set(zip(material.groups["series"].tolist(), material.patients.tolist(), strict=True))
    assert len(pairs) == len(set(material.patients)) == material.groups["series"].max() + 1
    other = control.phantom_material(0.0, 1.0, images=150, cache=cache)
    assert not np.array_equal(values, other.features["pixels"].values["film"])


def test_a_damaged_cache_is_drawn_again(cache):
    first = control.phantom_material(0.5, 1.0, images=80, cache=cache)
    for path in (cache / "features").glob("control-*.npz"):
        path.write_bytes(b"no array")
    second = control.phantom_material(0.5, 1.0, images=80, cache=cache)
    assert first.features["pixels"].digests == second.features["pixels"].digests


def test_images_that_other_code_drew_are_drawn_again(cache, monkeypatch):
    control.phantom_material(0.7, 1.0, images=60, cache=cache)
    drawn = []
    kept, images = provenance.package_digest, control._images
    monkeypatch.setattr(control, "_images", lambda *given: drawn.append(given) or images(*given))
    control.phantom_material(0.7, 1.0, images=60, cache=cache)
    assert not drawn
    monkeypatch.setattr(
        provenance,
        "package_digest",
        lambda names: "new" if "leakfree/data/sources/phantom_image" in names else kept(names),
    )
    control.phantom_material(0.7, 1.0, images=60, cache=cache)
    assert drawn


def test_identity_is_found_where_it_is(cache, tmp_path):
    rows = control.control(
        tmp_path,
        cache,
        control.Phantoms(
            identities=(0.0, 2.0),
            diseases=(0.0,),
            doses=(1.0,),
            heads=("1-nn",),
            images=400,
            seeds=range(4),
            n_resamples=100,
        ),
    ).set_index("identity")
    assert rows.loc[0.0, "low"] <= 0 <= rows.loc[0.0, "high"]
    assert rows.loc[2.0, "low"] > 0
    assert rows.loc[2.0, "draws"] == 4
