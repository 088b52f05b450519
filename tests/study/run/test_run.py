"""A notebook's side of a run: where it writes, what a table looks like, and how a cohort is thinned."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.cohort import CohortError, ingest
from leakfree.data.study_file import OwnStudy, one_task
from leakfree.data.tasks import TASKS

with deferred:
    import matplotlib.pyplot as plt

    from leakfree.base.paths import cache_folder, project_root
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.split.manifest import image_level
    from leakfree_study.run.run import open_run, output_hashes, read_outputs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a small phantom cohort with more copies than usual: linked groups are not just patients."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(PhantomSettings(n_images=200, size=32, exact_duplicates=25)), folder / "store")
        yield folder / "store"


@pytest.fixture
def run(store, tmp_path):
    return open_run("03_leaky_cnn", data=str(store), run_dir=str(tmp_path / "out"), seed=42, jobs=1)


def test_project_root_is_found_from_below_and_falls_back_to_the_start(tmp_path):
    assert project_root(ROOT / "lib" / "leakfree" / "audit") == ROOT
    assert project_root(ROOT) == ROOT
    assert project_root(tmp_path) == tmp_path.resolve()
    (tmp_path / "run_all.py").touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert project_root(deep) == deep.resolve()  # run_all.py alone is not the compendium
    (tmp_path / "notebooks").mkdir()
    assert project_root(deep) == tmp_path.resolve()


def test_project_root_starts_at_the_working_directory(monkeypatch):
    monkeypatch.chdir(ROOT / "tests")
    assert project_root() == ROOT


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder(ROOT) == tmp_path / "elsewhere"
    for unset in (
        lambda: monkeypatch.setenv("LEAKFREE_CACHE", ""),
        lambda: monkeypatch.delenv("LEAKFREE_CACHE"),
    ):
        unset()
        assert cache_folder(tmp_path) == tmp_path / ".cache"


def test_a_run_makes_its_folder_and_knows_how_to_be_made_again(run, store):
    assert run.folder.is_dir()
    assert run.number == "03"
    again = open_run(**run.arguments)
    assert again.folder == run.folder
    assert again.jobs == 1
    assert (again.data, again.seed, again.resume) == (str(store), 42, False)
    assert again.cohort.checksum == run.cohort.checksum


def test_a_run_without_a_folder_takes_the_quick_one_of_its_cohort(store, tmp_path, monkeypatch):
    (tmp_path / "run_all.py").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert (
        open_run("01_exploration", data=str(store)).folder
        == tmp_path.resolve() / "artifacts" / "phantom-quick"
    )
    named = open_run("05_leakfree_deep", data=str(store), folder_ending="train")
    assert named.folder.name == "phantom-train"
    # A process of this run works in the same folder.
    assert open_run(**named.arguments).folder == named.folder


def test_tables_have_six_decimals_and_line_feeds(run):
    table = pd.DataFrame(
        {"name": ["a", "b"], "share": [1 / 3, 2.0], "images": [3, 4], "none": [np.nan, 1e-9]}
    )
    run.save_table("03_test", table)
    path = run.folder / "tables" / "03_test.csv"
    assert path == run.folder / "tables" / "03_test.csv"
    assert path.read_bytes() == b"name,share,images,none\na,0.333333,3,\nb,2.000000,4,0.000000\n"
    assert [p.name for p in path.parent.iterdir()] == ["03_test.csv"]  # no temporary file is left
    pd.testing.assert_frame_equal(
        run.read_table("03_test"), table.round(6), check_exact=False, rtol=0, atol=1e-6
    )


def test_a_table_that_cannot_be_written_leaves_the_old_one(run):
    run.save_table("03_test", pd.DataFrame({"a": [1]}))
    path = run.folder / "tables" / "03_test.csv"
    before = path.read_bytes()

    class Broken(pd.DataFrame):
        def to_csv(self, file, **kwargs):
            Path(file).write_text("half of")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save_table("03_test", Broken({"a": [2]}))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["03_test.csv"]


def test_outputs_are_noted_once_each_and_sorted(run):
    assert read_outputs(run.folder, "03_leaky_cnn") == []
    for name in ("03_b", "03_a", "03_b"):
        run.save_table(name, pd.DataFrame({"a": [1]}))
    manifest = image_level(["x", "y", "z", "u", "v"], seed=1, name="03-test")
    run.save_manifest(manifest)
    noted = read_outputs(run.folder, "03_leaky_cnn")
    assert noted == ["manifests/03-test.json", "tables/03_a.csv", "tables/03_b.csv"]
    assert all((run.folder / name).is_file() for name in noted)
    assert json.loads((run.folder / "manifests" / "03-test.json").read_text())["hash"] == manifest.hash


def test_figures_are_noted_and_named_after_the_notebook(run):
    figure, axis = plt.subplots()
    axis.plot([0, 1], [0, 1])
    axis.set(xlabel="x", ylabel="y")
    run.save_table("03_line", pd.DataFrame({"a": [1]}))
    shown = run.save_figure(figure, "line", "A line.", ("03_line",), alt="It rises.")
    plt.close(figure)
    path = shown.path
    assert path.name.startswith("03_line.")
    assert path.is_file()
    assert f"figures/{path.name}" in read_outputs(run.folder, "03_leaky_cnn")


@pytest.mark.parametrize("pictures", [True, False])
def test_a_study_without_pictures_draws_none(run, monkeypatch, pictures):
    drawn = []

    def draw():
        figure, axis = plt.subplots()
        axis.imshow(np.zeros((4, 4)))
        plt.close(figure)
        drawn.append(figure)
        return figure

    study = OwnStudy(
        name="eyes",
        title="Eyes",
        data="eyes",
        labels=("a", "b"),
        tasks=one_task(("a", "b")),
        patients="none",
        pictures=pictures,
    )
    monkeypatch.setattr(run.cohort, "study", study)
    shown = run.image_figure(draw, "samples", "Images.", alt="Four.")
    entry = json.loads((run.folder / "figures" / "index.json").read_text())["03_samples"]
    assert len(drawn) == pictures and entry["films"] is pictures
    assert ("pictures: false" in shown.caption) is not pictures


@pytest.mark.parametrize("task", [None, "binary", "etiology"])
def test_thinning_keeps_linked_groups_whole(run, task):
    task = None if task is None else TASKS[task]
    full = run.development(task)
    thin = run.development(task, 80)
    assert 60 <= len(thin) <= 80
    groups = pd.Series(run.groups(full), index=full.index)
    assert not set(groups[thin.index]) & set(groups.drop(thin.index))
    assert groups[thin.index].value_counts().max() > 1  # there was something to keep whole
    assert thin.index.is_monotonic_increasing
    assert thin.equals(full.loc[thin.index])


def test_thinning_depends_on_the_seed_alone(run, store, tmp_path):
    def ids(seed):
        other = open_run("05_leakfree_deep", data=str(store), run_dir=str(tmp_path / "other"), seed=seed)
        return other.development(None, 80)["image_id"].tolist()

    assert ids(42) == run.development(None, 80)["image_id"].tolist()
    assert ids(42) != ids(43)


@pytest.mark.parametrize("most", [1, 2])
def test_thinning_that_leaves_no_image_of_a_class_is_one_line(run, most):
    with pytest.raises(
        CohortError, match=rf": max_images = {most} leaves no \w+ image, so the task three-cl"
    ):
        run.development(TASKS["three-class"], most)
    assert len(run.development(None, most)) <= most


def test_no_thinning_when_all_fit_or_none_is_asked_for(run):
    full = run.development()
    assert run.development(None, 0).equals(full)
    assert run.development(None, len(full)).equals(full)
    assert set(full["part"]) == {"train"}  # the official test part is sealed
    assert set(run.development(TASKS["etiology"])["label"]) == {"bacterial", "viral"}


def test_groups_join_patients_and_copies(run):
    table = run.development()
    groups = pd.Series(run.groups(table), index=table.index)
    assert (groups.groupby(table["sha256"]).nunique() == 1).all()
    assert groups.nunique() < run.groups(table.drop_duplicates("sha256")).max() + 1 + 25
    copies = table[table["sha256"].duplicated(keep=False)]
    assert len(copies) >= 50


def test_pixels_are_decoded_once(run, monkeypatch):
    first = run.pixels(16)
    assert first.pixels.shape == (len(run.development()), 16, 16)
    assert first.ids.tolist() == run.development()["image_id"].tolist()
    monkeypatch.setattr("leakfree_study.run.run.load_pixels", lambda *a, **k: pytest.fail("decoded again"))
    assert run.pixels(16) is first


def test_a_missing_table_is_named(run):
    with pytest.raises(FileNotFoundError, match=r"tables/03_scores\.csv is missing: run "):
        run.read_table("03_scores")


def test_a_missing_table_says_which_notebook_writes_it(run):
    with pytest.raises(FileNotFoundError) as caught:
        run.read_table("04_scores")
    assert "04_leakfree_classical" in str(caught.value)


def test_output_hashes_name_what_is_missing(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "b.csv").write_bytes(b"")
    assert output_hashes(tmp_path, ["tables/b.csv", "tables/a.csv"]) == {
        "tables/a.csv": "missing",
        "tables/b.csv": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
