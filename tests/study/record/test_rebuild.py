"""A run is made again from its record: nothing changes, and what would change is named."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from deferred import deferred
from leakfree import cli
from leakfree.base.sums import write_sums
from leakfree.data.cohort import ingest

with deferred:
    import nbformat

    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree_study.compendium import study
    from leakfree_study.record import rebuild as module
    from leakfree_study.record.rebuild import SCRATCH, RebuildError, rebuild
    from leakfree_study.record.verify import verify_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small runs: of two notebooks, of which one shows images and the other fits models; of the first."""
    folder = tmp_path_factory.mktemp("rebuild")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        patch.chdir(ROOT)
        ingest(PhantomSource(PhantomSettings(n_images=240, size=48)), folder / "store")
        arguments = ["--data", str(folder / "store"), "--profile", "smoke", "--no-book"]
        more = ["--only", "01,04", "-p", 'tasks=["etiology"]', "--out", str(folder / "run")]
        assert study.main([*arguments, *more]) == 0
        assert study.main([*arguments, "--only", "01", "--out", str(folder / "short")]) == 0
    # From here on there are no images.
    shutil.rmtree(folder / "store")
    shutil.rmtree(folder / "cache")
    return folder


@pytest.fixture
def copied(runs, tmp_path, monkeypatch):
    """A function that copies one of the runs."""
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)
    return lambda name: Path(shutil.copytree(runs / name, tmp_path / "run"))


@pytest.fixture
def run(copied):
    """The run of two notebooks."""
    return copied("run")


@pytest.fixture
def short(copied):
    """The run of the first notebook."""
    return copied("short")


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.relative_to(folder).parts
    }


@pytest.mark.slow
def test_nothing_changes_and_the_tables_are_really_made_again(run, monkeypatch, capsys):
    before, made = everything(run), []
    take_over = module._take_over

    def look(folder, scratch, found):
        """Look at what was made while it is there."""
        made.append(found)
        for name in before:
            if name.startswith("tables/"):
                assert (scratch / name).stat().st_ino != (run / name).stat().st_ino
                assert (scratch / name).read_bytes() == before[name]
        take_over(folder, scratch, found)

    monkeypatch.setattr(module, "_take_over", look)
    assert cli.main(["rebuild", str(run)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith(": all as they were")
    assert said[0].startswith("kept, since it shows images: figures/01_samples")
    (found,) = made
    assert found.changed == []
    assert (found.tables, found.figures, found.notebooks) == (
        len(list((run / "tables").iterdir())),
        len(list((run / "figures").iterdir())) - 2,  # without the index and the one that shows images
        2,
    )
    assert found.kept == ["figures/01_samples.png"] or found.kept == ["figures/01_samples.svg"]
    assert everything(run) == before
    assert verify_run(run).problems == []
    # No working copy is left.
    assert not (run / SCRATCH).exists()


@pytest.mark.slow
def test_a_changed_prediction_moves_its_table_and_the_run_is_left_as_it_was(run, capsys):
    """Also where whoever changed it wrote all hashes again."""
    path = next((run / "predictions").glob("04_*random_forest*16px*.csv"))
    header, *lines = path.read_text().splitlines()
    place = header.split(",").index("p_bacterial")
    swapped = []
    for line in lines:
        fields = line.split(",")
        fields[place], fields[place + 1] = fields[place + 1], fields[place]
        swapped.append(",".join(fields))
    path.write_text("\n".join([header, *swapped]) + "\n")
    cell = run / "cells" / f"{path.stem}.json"
    content = json.loads(cell.read_text())

    content["outputs"][f"predictions/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    cell.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    write_sums(run)
    before = everything(run)
    assert cli.main(["rebuild", str(run)]) == 1
    said = capsys.readouterr().out
    assert "differs: tables/04_scores.csv: line " in said
    assert "tables/01_classes.csv" not in said
    assert everything(run) == before
    assert (run / SCRATCH / "run" / "tables" / "04_scores.csv").is_file()


@pytest.mark.slow
def test_a_table_changed_by_hand_is_named_and_accepting_puts_the_true_one_back(short, capsys):
    path = short / "tables" / "01_classes.csv"
    true = path.read_bytes()
    path.write_bytes(true.replace(b"1", b"7", 1))
    assert cli.main(["rebuild", str(short)]) == 1
    assert "differs: tables/01_classes.csv: line " in capsys.readouterr().out
    assert path.read_bytes() != true
    assert cli.main(["rebuild", str(short), "--accept"]) == 0
    assert path.read_bytes() == true
    assert verify_run(short).problems == []


@pytest.mark.slow
def test_accepting_a_change_of_a_notebook_renews_what_rests_on_it(short, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", project / "notebooks")
    path = project / "notebooks" / "01_exploration.ipynb"
    notebook = nbformat.read(path, as_version=4)
    old = 'title="Images by part and class"'
    (cell,) = [cell for cell in notebook.cells if old in cell.source]
    cell.source = cell.source.replace(old, 'title="Another title"')
    nbformat.write(notebook, path)
    found = rebuild(short, project)
    assert [line.split(": ")[0] for line in found.changed][-1:] == ["notebooks/01_exploration.ipynb"]
    assert any(line.startswith("figures/01_classes.") for line in found.changed)
    before = everything(short)
    accepted = rebuild(short, project, accept=True)
    assert accepted.changed == found.changed
    after = everything(short)
    moved = {name.split("/")[0] for name in after if after[name] != before.get(name)}
    assert moved == {"figures", "notebooks", "outputs", "provenance.json", "SHA256SUMS"}
    assert "rebuilt" in json.loads(after["provenance.json"])["notebooks"]["01_exploration"]
    assert verify_run(short).problems == []
    assert rebuild(short, project).changed == []
    parameters = next(
        cell.source
        for cell in nbformat.read(short / "notebooks" / "01_exploration.ipynb", as_version=4).cells
        if "injected-parameters" in cell.metadata.get("tags", ())
    )
    assert ".cache" not in parameters


@pytest.mark.slow
def test_a_notebook_that_was_divided_gets_its_parts_from_the_record(short, tmp_path, monkeypatch):
    project = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", project / "notebooks")
    source = (project / "notebooks" / "01_exploration.ipynb").read_text(encoding="utf-8")
    part = project / "notebooks" / "01_part.ipynb"
    part.write_text(source.replace("01_exploration", "01_part"), encoding="utf-8")
    # Another one writes no file: in a run it would have no list of files either.
    silent = nbformat.reads(source, as_version=4)
    silent.cells = [cell for cell in silent.cells if "parameters" in cell.metadata.get("tags", ())]
    nbformat.write(silent, project / "notebooks" / "01_silent.ipynb")
    monkeypatch.setattr(module, "NOTEBOOKS", ("01_exploration", "01_part", "01_silent"))
    monkeypatch.setattr(module, "PART_OF", dict.fromkeys(("01_part", "01_silent"), "01_exploration"))
    # This part draws the figures of the whole once more: the last one is to be the last.
    monkeypatch.setattr(module, "LANES", {"quick": 1})
    assert "notebooks/01_part.ipynb: is new" in rebuild(short, project).changed
    assert not (short / "outputs" / "01_part.run.json").exists()
    rebuild(short, project, accept=True)
    notebooks = json.loads((short / "provenance.json").read_text())["notebooks"]
    assert notebooks["01_part"]["parameters"] == notebooks["01_exploration"]["parameters"]
    assert (notebooks["01_part"]["part_of"], notebooks["01_part"]["seconds"]) == ("01_exploration", 0)
    assert "notebooks/01_part.ipynb" in notebooks["01_part"]["outputs"]
    assert [*notebooks["01_silent"]["outputs"]] == ["notebooks/01_silent.ipynb"]
    assert not (short / "outputs" / "01_silent.json").exists()
    assert verify_run(short).problems == []
    assert rebuild(short, project).changed == []


def test_a_study_of_own_images_gets_no_part_about_chest_x_rays(monkeypatch):
    monkeypatch.setattr(module, "PART_OF", {"b": "a", "c": "a", "e": "d"})
    monkeypatch.setattr(module, "CHEST_ONLY", ("c",))
    whole = {"parameters": {"data": "x"}, "outputs": {"f": "1"}, "seconds": 3.0}
    chest, own, divided = ({"a": dict(whole)} for _ in range(3))
    divided["b"] = {"parameters": {}}
    module._divide(chest, own=False)
    module._divide(own, own=True)
    module._divide(divided, own=False)
    assert (list(chest), list(own)) == (["a", "b", "c"], ["a", "b"])
    assert chest["a"] == whole and chest["b"]["outputs"] == {} and chest["b"]["parameters"] == {"data": "x"}
    assert divided["b"] == {"parameters": {}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("cohort.csv", "SHA-256 is"),
        ("predictions", "SHA-256 is"),
    ],
)
def test_a_damaged_record_is_refused_before_anything_is_made(run, file, says, capsys):
    path = run / file if (run / file).is_file() else next((run / file).glob("*.csv"))
    path.write_bytes(path.read_bytes() + b"\n")
    assert cli.main(["rebuild", str(run)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("leakfree rebuild: ")
    assert path.name in line
    assert says in line
    assert not (run / SCRATCH).exists()


def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys):
    assert cli.main(["rebuild", str(tmp_path)]) == 2
    assert "not a run with a record" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_without_sums_was_not_finished(run):
    (run / "SHA256SUMS").unlink()
    with pytest.raises(RebuildError, match="was not finished"):
        rebuild(run, ROOT)
