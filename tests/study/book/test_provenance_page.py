"""The page on provenance says what the files of a run say."""

import json

import pytest

from deferred import deferred

with deferred:
    from provenance_page import (
        SECTIONS,
        data_section,
        files_section,
        manifests_section,
        notebooks_section,
        provenance_of,
        sealed_section,
        settings_section,
        weights_section,
    )


@pytest.fixture(scope="module")
def published(repository):
    return repository / "artifacts" / "chest_xray"


@pytest.fixture
def bare(tmp_path):
    """The least that a run can be: a phantom, without official test, manifests and weights."""
    content = {
        "data": {
            "name": "phantom",
            "checksum": "ab" * 32,
            "images": 1234,
            "left_out": [{"name": "a/broken|one.jpeg", "reason": "cut off"}],
        },
        "git": {"commit": "unknown", "changed_files": "unknown"},
        "machine": {"cores": 2, "accelerator": None},
        "notebooks": {
            "01_exploration": {
                "seconds": 8.2,
                "git": {"commit": "c" * 40, "changed_files": ["lib/x.py"]},
                "parameters": {"data": "/home/someone/films", "jobs": 0},
                "outputs": {"tables/01_classes.csv": "d" * 64},
            }
        },
        "settings": {"data": "/home/someone/films", "profile": "smoke", "parameters": {}},
        "versions": {"python": "3.11", "numpy": "2"},
        "seconds": 9,
    }
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "01_classes.csv").write_text("x")
    (tmp_path / "tables" / "stray.csv").write_text("x")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").write_text("x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_text("x")
    return tmp_path


def test_the_published_run_is_told(published):
    content = provenance_of(published)
    assert f"{content['data']['images']:,}" in data_section(published)
    assert content["data"]["checksum"] in data_section(published)
    notebooks = notebooks_section(published)
    for name, notebook in content["notebooks"].items():
        row = next(line for line in notebooks.splitlines() if f"<code>{name}</code>" in line)
        assert f"| {len(notebook['outputs']):,} |" in row
        assert notebook["git"]["commit"] in row
    for name, version in content["versions"].items():
        assert f"| <code>{name}</code> | {version} |" in SECTIONS["versions"](published)


def test_manifests_weights_and_openings_of_the_published_run(published):
    manifest = json.loads((published / "manifests" / "05-patient-level-binary.json").read_text())
    row = next(
        r for r in manifests_section(published).splitlines() if f"<code>{manifest['name']}</code>" in r
    )
    assert manifest["hash"] in row
    assert all(f"{part} {len(ids):,}" in row for part, ids in manifest["parts"].items())
    weights = json.loads((published / "models" / "preprocessing.json").read_text())
    assert weights["weights_sha256"] in weights_section(published)
    lines = (published / "sealed_test.jsonl").read_text().splitlines()
    opening = json.loads(lines[0])
    sealed = sealed_section(published)
    assert opening["plan_commit"] in sealed and opening["date"][:10] in sealed
    assert len(sealed.strip().splitlines()) == 2 + len(lines)


def test_a_run_without_official_test_and_models_has_every_section(bare):
    for name, section in SECTIONS.items():
        assert section(bare).strip(), name
    assert "no opening" in sealed_section(bare)
    assert "no split manifest" in manifests_section(bare)
    assert "no weights" in weights_section(bare)


def test_what_was_left_out_is_named(bare):
    text = data_section(bare)
    assert "broken&#124;one.jpeg" in text and "cut off" in text


def test_no_path_of_a_machine_is_shown(bare):
    text = "".join(section(bare) for section in SECTIONS.values())
    assert "/home" not in text
    assert "<code>films</code>" in settings_section(bare)


def test_changed_files_are_named(bare):
    assert "<code>lib/x.py</code>" in notebooks_section(bare)


def test_files_are_counted_without_caches_and_the_book(bare):
    rows = [line.split(" | ") for line in files_section(bare).splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["<code>tables/</code>", "beside the folders"]
    assert rows[0][1] == "2" and rows[0][3].rstrip(" |") == "1", "one of two is listed with its hash"


def test_sums_are_counted(bare):
    (bare / "SHA256SUMS").write_text("a  b\nc  d\n")
    assert "SHA-256 of 2 files" in files_section(bare)


def test_a_run_without_provenance_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no provenance\.json"):
        provenance_of(tmp_path)
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        data_section(tmp_path)
