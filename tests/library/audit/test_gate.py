"""The gate before training: a split that leaks, other than its protocol declares, is refused."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from deferred import deferred
from leakfree.base.paths import cache_folder
from leakfree.data.cohort import ingest
from leakfree.data.patients import patient_ids
from leakfree.split import protocols
from leakfree.split.protocols import CLEAN, IMAGE_LEVEL, NO_TEST_SET

with deferred:
    from leakfree.audit import linked
    from leakfree.audit.gate import GateError, gate
    from leakfree.audit.linked import CohortAudit, CohortCopies, cohort_copies
    from leakfree.data.groups import linked_groups
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.split import manifest as splits
    from leakfree.split.manifest import Manifest


@pytest.fixture(scope="module")
def phantom_source():
    """As in conftest, with images of the default size: at 48 px a copy encoded again has lost too much."""
    return PhantomSource(
        PhantomSettings(
            n_images=72, exact_duplicates=2, near_duplicates=4, conflicting_labels=1, missing_identifiers=0.1
        )
    )


@pytest.fixture(scope="module")
def phantom_cohort(phantom_source, tmp_path_factory):
    return ingest(phantom_source, tmp_path_factory.mktemp("gate") / "store")


@pytest.fixture(scope="module")
def searched(phantom_cohort):
    return CohortAudit(phantom_cohort, jobs=2)


@pytest.fixture(scope="module")
def copies(searched):
    return searched.copies()


@pytest.fixture(scope="module")
def table(phantom_cohort):
    return phantom_cohort.development()


def clean_split(table, copies, **described):
    groups = linked_groups(patient_ids(table), copies.keys(table))
    labels = table["label"].to_numpy(dtype=object)
    return splits.patient_level(table["image_id"], groups, labels, seed=3, scope="series", **described)


def move(manifest, image_id, part):
    parts = {name: tuple(i for i in ids if i != image_id) for name, ids in manifest.parts.items()}
    return replace(manifest, parts={**parts, part: (*parts[part], image_id)})


def part_with(manifest, image_id):
    return next(part for part, ids in manifest.parts.items() if image_id in ids)


def test_copies_are_the_planted_ones(copies, phantom_source):
    truth = phantom_source.truth()
    planted = truth[truth["planted"] != "none"]
    together = {image_id: number for number, ids in enumerate(copies.groups) for image_id in ids}
    for fault in planted.itertuples():
        assert together[fault.file] == together[fault.of], f"{fault.planted} {fault.file}"
    original = truth["of"].where(truth["of"].notna(), truth["file"])
    image = dict(zip(truth["file"], original, strict=True))
    assert all(len({image[image_id] for image_id in ids}) == 1 for ids in copies.groups)


def test_a_clean_split_passes_and_tells_what_was_checked(table, copies):
    checks = gate(table, copies, clean_split(table, copies), CLEAN)
    assert set(checks) == {"patients", "linked_groups"}
    assert checks["linked_groups"].count == checks["patients"].count == 0
    assert not any(check.fails for check in checks.values())


def test_a_patient_on_both_sides_is_refused(table, copies):
    manifest = clean_split(table, copies)
    patients = dict(zip(table["image_id"], patient_ids(table), strict=True))
    sizes = table.groupby(patient_ids(table))["image_id"].agg(list)
    several = next(ids for ids in sizes if len(ids) > 1 and part_with(manifest, ids[0]) == "train")
    with pytest.raises(GateError, match=r"patients stand in several parts.*does not allow it"):
        gate(table, copies, move(manifest, several[0], "test"), CLEAN)
    assert patients[several[0]] == patients[several[1]]


def test_a_copy_on_both_sides_is_refused_although_no_patient_is_shared(table, copies):
    manifest = clean_split(table, copies)
    patients = dict(zip(table["image_id"], patient_ids(table), strict=True))
    inside = set(table["image_id"])
    crossing = None
    for ids in copies.groups:
        ids = [image_id for image_id in ids if image_id in inside]
        for image_id in ids:
            alone = sum(patient == patients[image_id] for patient in patients.values()) == 1
            if len(ids) > 1 and alone and part_with(manifest, image_id) == "train":
                crossing = image_id
    assert crossing is not None
    moved = move(manifest, crossing, "test")
    with pytest.raises(GateError, match="linked groups stand in several parts"):
        gate(table, copies, moved, CLEAN)
    # Without knowledge of the copies the same split looks clean: the search is what finds it.
    none = CohortCopies((), copies.pairs)
    assert gate(table, none, moved, CLEAN)["patients"].count == 0


def test_a_declared_leak_is_let_through(table, copies):
    naive = splits.image_level(table["image_id"], seed=1)
    with pytest.raises(GateError):
        gate(table, copies, naive, CLEAN)
    assert gate(table, copies, naive, IMAGE_LEVEL)["linked_groups"].count > 0


def test_images_that_are_not_there_and_empty_parts_are_refused(table, copies):
    manifest = clean_split(table, copies)
    strange = replace(manifest, parts={**manifest.parts, "val": ("train/NORMAL/nobody.jpeg",)})
    with pytest.raises(GateError, match=r"1 images are not in the cohort, such as train/NORMAL/nobody\.jpeg"):
        gate(table, copies, strange, CLEAN)
    with pytest.raises(GateError, match="part val is empty"):
        gate(table, copies, replace(manifest, parts={**manifest.parts, "val": ()}), CLEAN)


def test_copies_are_kept_and_read_back(phantom_cohort, searched, copies, tmp_path, monkeypatch):
    def never():
        raise AssertionError("searched again")

    asked = []
    with monkeypatch.context() as patched:
        # Who is not given a search makes one: this one, which has been made.
        patched.setattr(
            linked, "CohortAudit", lambda *given, **more: (asked.append((given, more)), searched)[1]
        )
        first = cohort_copies(phantom_cohort, tmp_path, jobs=2)
    assert asked == [((phantom_cohort,), {"jobs": 2})]
    again = cohort_copies(phantom_cohort, tmp_path, search=never)
    assert first.groups == again.groups == copies.groups
    assert first.pairs.equals(again.pairs)
    kept = next((tmp_path / "copies").glob("*.json"))
    kept.write_text("{", encoding="utf-8")
    with pytest.raises(AssertionError, match="searched again"):
        cohort_copies(phantom_cohort, tmp_path, search=never)


def test_keys_are_shared_by_copies_and_by_nothing_else(table, copies):
    keys = copies.keys(table)
    inside = set(table["image_id"])
    expected = [tuple(i for i in ids if i in inside) for ids in copies.groups]
    shared = {}
    for image_id, key in zip(table["image_id"], keys, strict=True):
        shared.setdefault(key, []).append(image_id)
    assert {frozenset(ids) for ids in shared.values() if len(ids) > 1} == {
        frozenset(ids) for ids in expected if len(ids) > 1
    }
    assert len(keys) == len(table) and len(np.unique(keys)) == len(shared)


def test_reports_under_several_splits_need_one_search(searched, table, copies, monkeypatch):
    monkeypatch.setattr("leakfree.audit.linked.scan", None)
    monkeypatch.setattr("leakfree.audit.auditor.scan", None)
    manifest = clean_split(table, copies, name="clean")
    clean = searched.report(manifest)
    assert clean.images == {part: len(ids) for part, ids in manifest.parts.items()}
    assert not clean.leaks
    assert clean.checks["exact_duplicates"].count > 0  # inside the parts
    naive = searched.report(splits.image_level(table["image_id"], seed=1, name="naive"))
    assert naive.leaks and naive.checks["patients"].fails
    assert any("that the split does not name" in line for line in naive.unchecked)
    official = searched.report()
    assert set(official.images) == {"train", "test"}
    assert any("sealed" in line for line in official.unchecked)


def test_an_image_in_two_parts_is_refused_unless_declared(table, copies):
    """The one kind of manifest that may hold an image twice passes under its own protocol only."""
    fault = splits.no_test_set(table["image_id"])
    for protocol in (CLEAN, IMAGE_LEVEL):
        with pytest.raises(GateError, match=rf"^{fault.name}: {len(table)} images stand in several parts"):
            gate(table, copies, fault, protocol)
    gate(table, copies, fault, NO_TEST_SET)


@pytest.mark.real
@pytest.mark.slow
def test_the_published_splits_pass_with_near_duplicates_joined(real_cohort, repository):
    """Each under the protocol that trained on it; the leaky ones under no other."""
    published = repository / "artifacts" / "chest_xray"
    known = {p.name: p for p in vars(protocols).values() if isinstance(p, protocols.Protocol)}
    trained = {}
    for path in (published / "ledgers").glob("*.json"):
        ledger = json.loads(path.read_text(encoding="utf-8"))
        trained.setdefault(ledger["manifest"], set()).add(ledger["protocol"])
    trained.setdefault("patient-level-all", {"clean"})
    # A minute of searching; kept for the next time, until the code of the search or the images change.
    copies = cohort_copies(real_cohort, cache_folder(repository))
    assert copies.groups == CohortCopies.load(published / "copies.json").groups
    table = real_cohort.development()
    seen = Counter()
    for name, (protocol,) in sorted(trained.items()):  # a split serves one protocol
        manifest = Manifest.load(published / "manifests" / f"{name}.json")
        checks = gate(table, copies, manifest, known[protocol])
        seen[protocol] += 1
        if protocol == "clean":
            assert checks["linked_groups"].count == 0, name
        else:
            with pytest.raises(GateError):
                gate(table, copies, manifest, CLEAN)
    assert seen["clean"] >= 8 and {"image-level", "siblings", "no-test-set"} <= set(seen), seen


def test_kept_copies_are_stale_with_another_package(phantom_cohort, copies, tmp_path, monkeypatch):
    def never():
        raise AssertionError("searched again")

    cohort_copies(phantom_cohort, tmp_path, search=lambda: SimpleNamespace(copies=lambda: copies))
    assert cohort_copies(phantom_cohort, tmp_path, search=never).groups == copies.groups
    monkeypatch.setattr("leakfree.audit.linked.versions", lambda: {"opencv-python-headless": "0"})
    with pytest.raises(AssertionError, match="searched again"):
        cohort_copies(phantom_cohort, tmp_path, search=never)


def test_every_module_that_finds_copies_makes_kept_ones_stale():
    import rooms

    edges, needed, seen = rooms.imports(), ["leakfree.audit.copies.duplicates"], set()
    while needed:
        name = needed.pop()
        seen.add(name.replace(".", "/"))
        found = {
            used for module, used in edges if module == name and used.startswith("leakfree.audit.copies")
        }
        needed += [used for used in found if used.replace(".", "/") not in seen]
    assert seen <= set(linked._MODULES)
