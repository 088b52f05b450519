"""The command line of the study: arguments, one line for an error, run folders, resuming after a kill."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deferred import deferred
from leakfree.data.cohort import ingest
from leakfree_study.run.config import NOTEBOOKS, PROFILES, Settings, select_notebooks

with deferred:
    import deeplake
    import nbformat

    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree_study.compendium import study
    from leakfree_study.run.notebooks import known_parameters

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def quiet_logging():
    """Undo what `main` does to the loggers of this process."""
    names = (None, "leakfree", "papermill")
    before = [(log := logging.getLogger(n), log.level, log.handlers[:], log.filters[:]) for n in names]
    yield
    for log, level, handlers, filters in before:
        log.setLevel(level)
        log.handlers[:], log.filters[:] = handlers, filters


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keep stores and pixels out of the project, and draw the phantom once for this file."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def store(cache):
    """Return a phantom cohort smaller than the default, as a store that ``--data`` accepts."""
    ingest(PhantomSource(PhantomSettings(n_images=240, size=48)), cache / "store")
    return cache / "store"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["extra"], "unrecognized arguments: extra"),
        (["--only", "02,9"], "--only 9: no such notebook; known: 01_exploration"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--jobs", "-1"], "jobs: Input should be greater than or equal to 0"),
        (["--jobs", "two"], "invalid int value: 'two'"),
        (["-p", "seed"], "--parameter seed: NAME=VALUE is needed"),
    ],
)
def test_arguments_that_cannot_be_used_leave_with_code_2(arguments, says, capsys):
    with pytest.raises(SystemExit) as caught:
        study.main(arguments)
    assert caught.value.code == 2
    usage, line = capsys.readouterr().err.rstrip("\n").rsplit("\n", 1)
    assert line.startswith("run_all.py: error: ")
    assert says in line
    assert usage.startswith("usage: run_all.py")


def test_no_argument_is_the_quick_phantom():
    assert study.parse([]) == Settings(data="phantom", profile="quick", book=True)


def test_arguments_become_settings():
    line = (
        "--data folder --profile smoke --out run --only 02,results --resume --jobs 3 --scheduler tcp://a:1 "
        "--no-book --allow-problems -p seed=7 -p weights=r.pth -p seeds=[1,2] --parameter scope=person"
    )
    settings = study.parse(line.split())
    assert settings.model_dump() == {
        "data": "folder",
        "profile": "smoke",
        "out": Path("run"),
        "only": ("02", "results"),
        "resume": True,
        "jobs": 3,
        "scheduler": "tcp://a:1",
        "book": False,
        "allow_problems": True,
        "parameters": {"seed": 7, "weights": "r.pth", "seeds": [1, 2], "scope": "person"},
    }


def test_notebooks_run_in_their_order_and_once():
    assert select_notebooks(()) == list(NOTEBOOKS)
    assert select_notebooks(("results", "02", "01_exploration", "02")) == [
        "01_exploration",
        "02_leakage_analysis",
        "results",
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_set_parameters_that_the_notebooks_have(profile):
    assert tuple(PROFILES[profile]) == NOTEBOOKS
    for name, values in PROFILES[profile].items():
        known = known_parameters(ROOT / "notebooks" / f"{name}.ipynb")
        assert set(values) <= set(known), name
        assert {"data", "profile", "seed", "run_dir", "jobs", "resume", "allow_problems"} <= set(known), name


def offline(*_, **__):
    raise RuntimeError("The query source is not found.\n  Source 1: GET resource\n  Source 2: no route")


FAILURES = {
    "parameter": (["-p", "sede=1"], "--parameter sede: no notebook of this run has it; known: batch_size, "),
    "parameter-of-another-notebook": (
        ["--only", "02", "-p", "epochs=1"],
        "--parameter epochs: no notebook of this run has it; known: seed, split_seeds",
    ),
    "reserved-parameter": (["-p", "run_dir=x"], "--parameter run_dir: has an option of its own"),
    "missing-folder": (["--data", "no/such/folder"], "no/such/folder: no such file or folder"),
    "offline-hub": (["--data", "hub"], "hub://activeloop/chest-xray-train: cannot be read: "),
    "offline-address": (["--data", "hub://someone/else"], "hub://someone/else: cannot be read: "),
}


@pytest.fixture
def failed(request, tmp_path, monkeypatch, capfd):
    """Run the command line with arguments that fail; return exit code, standard error and the run folder."""
    monkeypatch.setattr(deeplake, "query", offline)
    monkeypatch.setattr(study, "execute", lambda *a, **k: pytest.fail("a notebook was executed"))
    monkeypatch.chdir(ROOT)
    arguments, says = FAILURES[request.param]
    code = study.main([*arguments, "--out", str(tmp_path / "out")])
    return code, capfd.readouterr().err, says, tmp_path / "out"


@pytest.mark.parametrize("failed", FAILURES, indirect=True)
def test_what_cannot_be_run_leaves_with_code_1_and_says_what(failed):
    code, err, says, out = failed
    assert code == 1
    last = err.rstrip("\n").splitlines()[-1]
    assert last.startswith("run_all: ")
    assert says in last
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize("failed", FAILURES, indirect=True)
def test_what_cannot_be_run_is_one_line(failed):
    assert failed[1].count("\n") == 1
    assert failed[1].startswith("run_all: ")


def test_a_run_folder_that_cannot_be_made_is_one_line(store, tmp_path, capfd):
    (tmp_path / "taken").write_text("a file")
    assert study.main(["--data", str(store), "--only", "01", "--out", str(tmp_path / "taken")]) == 1
    assert capfd.readouterr().err.rstrip("\n").splitlines()[-1].startswith("run_all: ")


def test_a_failed_notebook_leaves_with_code_1(store, tmp_path, monkeypatch, capfd):
    def fail(source, *_, **__):
        raise study.NotebookError(f"{source.name}: cell 3 failed: ValueError: no")

    monkeypatch.setattr(study, "execute", fail)
    options = ["--no-book", "--jobs", "1"]  # side by side, either of two would be told
    assert study.main(["--data", str(store), "--out", str(tmp_path / "out"), *options]) == 1
    err = capfd.readouterr().err
    assert err.endswith("run_all: 01_exploration.ipynb: cell 3 failed: ValueError: no\n")
    assert not (tmp_path / "out" / "provenance.json").exists()


def test_a_book_without_its_notebooks_is_one_line_that_says_what_to_do(store, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(study, "_run_notebook", lambda *_: None)
    monkeypatch.setattr(study, "_write_provenance", lambda *_: None)
    assert study.main(["--data", str(store), "--only", "01", "--out", str(tmp_path / "out")]) == 1
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert last.startswith("run_all: book: page run/results: ")
    assert last.endswith("or add --no-book")


def test_a_book_that_lacks_a_table_is_one_line_too(store, tmp_path, monkeypatch, capfd):
    def build(folder, _):
        (folder / "tables" / "03_scores.csv").read_text()

    monkeypatch.setattr(study, "_run_notebook", lambda *_: None)
    monkeypatch.setattr(study, "_write_provenance", lambda *_: None)
    monkeypatch.setattr("leakfree_study.book.build.build", build)
    assert study.main(["--data", str(store), "--only", "01", "--out", str(tmp_path / "out")]) == 1
    last = capfd.readouterr().err.rstrip("\n").splitlines()[-1]
    assert "03_scores.csv: the book needs it, and it is not there; with --only" in last
    assert last.endswith("or add --no-book")


def test_an_interrupt_says_how_to_go_on(monkeypatch, capfd):
    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_study", interrupt)
    assert study.main([]) == 130
    assert capfd.readouterr().err == "run_all: interrupted; run again with --resume to go on\n"


@dataclass
class Named:
    name: str
    checksum: str = "c"
    study: object = None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(profile="full"), "project/artifacts/chest_xray"),
        (Settings(profile="quick"), "project/artifacts/chest_xray-quick"),
        (Settings(profile="smoke"), "project/artifacts/chest_xray-smoke"),
        (Settings(profile="full", out=Path("elsewhere/run")), "elsewhere/run"),
    ],
)
def test_a_quick_run_never_touches_the_published_one(settings, expected):
    assert study.run_folder(settings, Named("chest_xray"), Path("project")) == Path(expected)


def key(parameters, tmp_path, name="05_leakfree_deep", checksum="c"):
    source = ROOT / "notebooks" / f"{name}.ipynb"
    return study._key(name, parameters, Named("phantom", checksum), tmp_path, source)


def test_key_follows_what_the_numbers_depend_on(tmp_path):
    given = {"seed": 42, "epochs": 3, "jobs": 1, "data": "a"}
    first = key(given, tmp_path)
    assert key({**given, "jobs": 2, "data": "b"}, tmp_path) == first  # neither changes a number
    assert key({**given, "epochs": 4}, tmp_path) != first
    assert key(given, tmp_path, checksum="d") != first
    assert key(given, tmp_path, name="03_leaky_cnn") != first


def test_key_of_the_results_follows_the_tables(tmp_path):
    (tmp_path / "tables").mkdir()
    seen = set()
    for name in ("03_scores", "reference_counts"):
        for content in ("1", "2"):
            (tmp_path / "tables" / f"{name}.csv").write_text(content)
            seen.add(key({}, tmp_path, name="results"))
    assert len(seen) == 4
    (tmp_path / "tables" / "summary.csv").write_text("its own output")
    assert key({}, tmp_path, name="results") in seen


def test_key_of_the_checks_follows_the_networks_that_validation_compared(tmp_path):
    (tmp_path / "tables").mkdir()
    seen = set()
    for content in ("1", "2"):
        (tmp_path / "tables" / "05_validation.csv").write_text(content)
        seen.add(key({}, tmp_path, name="05_network_checks"))
    assert len(seen) == 2
    (tmp_path / "tables" / "05_coverage.csv").write_text("its own output")
    assert key({}, tmp_path, name="05_network_checks") in seen


def test_key_follows_the_content_of_a_file_of_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    first = key({"weights": str(path)}, tmp_path)
    path.write_bytes(b"two")
    assert key({"weights": str(path)}, tmp_path) != first


@pytest.mark.parametrize("odd", [5, None, ["a"]])
def test_key_takes_weights_that_are_no_path(odd, tmp_path):
    assert key({"weights": odd}, tmp_path) != key({"weights": "auto"}, tmp_path)


def command(store, out, *more):
    options = ["--profile", "smoke", "--only", "01,02", "--no-book", "--jobs", "1"]
    return [
        sys.executable,
        str(ROOT / "run_all.py"),
        *("--data", str(store), "--out", str(out), *options, *more),
    ]


def run_all(store, out, *more):
    done = subprocess.run(
        command(store, out, *more), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_record_has_paths_as_seen_from_where_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert study._from_here(str(tmp_path / "images")) == "../images"
    for as_it_is in ("../images", "phantom:240", "hub", "https://example.org/a", 42, ["/a"]):
        assert study._from_here(as_it_is) == as_it_is


@pytest.fixture(scope="module")
def whole(store, cache):
    """Return the folder of an uninterrupted run of the first two notebooks."""
    run_all(store, cache / "whole")
    return cache / "whole"


@pytest.mark.slow
def test_a_run_leaves_its_artifacts(whole, store):
    for name in ("01_exploration", "02_leakage_analysis"):
        notebook = nbformat.read(whole / "notebooks" / f"{name}.ipynb", as_version=4)
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
        assert (whole / "notebooks" / f"{name}.html").is_file()
        record = study._read_json(whole / "outputs" / f"{name}.run.json")
        assert record["outputs"]
        assert all((whole / output).is_file() for output in record["outputs"])
    assert (whole / "tables" / "reference_counts.csv").is_file()
    assert (whole / "manifests" / "patient-level-all.json").is_file()
    assert not (whole / "book").exists()
    provenance = study._read_json(whole / "provenance.json")
    assert provenance["settings"]["profile"] == "smoke"
    assert provenance["data"]["images"] == 240
    assert set(provenance["notebooks"]) == {"01_exploration", "02_leakage_analysis"}
    assert provenance["versions"]["numpy"] != "unknown"
    # The store was given by its whole path; nothing that is written names it so.
    written = [p for p in whole.rglob("*") if p.suffix in (".json", ".ipynb")]
    assert written and not [p for p in written if f'"{store}' in p.read_text(encoding="utf-8")]
    # No temporary file is left; the lock is a file that nobody holds any more.
    assert not [p for p in whole.rglob(".*") if p.is_file() and p.name != ".lock"]


@pytest.mark.slow
def test_resume_skips_what_is_up_to_date_and_repeats_what_is_not(store, whole):
    before = contents(whole)
    err = run_all(store, whole, "--resume")
    assert "01_exploration: up to date, skipped" in err
    assert "02_leakage_analysis: up to date, skipped" in err
    assert "Executing" not in err
    after = contents(whole)
    assert after.keys() == before.keys()
    # The provenance says how it was last called, which the list of hashes follows.
    assert sorted(n for n in after if after[n] != before[n]) == ["SHA256SUMS", "provenance.json"]

    times = {p.name: p.stat().st_mtime_ns for p in (whole / "notebooks").glob("*.ipynb")}
    (whole / "tables" / "01_classes.csv").unlink()
    err = run_all(store, whole, "--resume")
    assert "01_exploration: tables/01_classes.csv changed or missing, running again" in err
    assert "02_leakage_analysis: up to date, skipped" in err
    again = {p.name: p.stat().st_mtime_ns for p in (whole / "notebooks").glob("*.ipynb")}
    assert [name for name in times if times[name] != again[name]] == ["01_exploration.ipynb"]
    assert contents(whole / "tables") == {
        name.removeprefix("tables/"): content
        for name, content in before.items()
        if name.startswith("tables/")
    }


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")
def test_a_killed_run_that_is_resumed_gives_the_same_tables(store, whole, cache):
    out = cache / "killed"
    with (cache / "killed.log").open("w") as log:
        process = subprocess.Popen(command(store, out), cwd=ROOT, stdout=log, stderr=log)
        children = []
        try:
            deadline = time.monotonic() + 240
            while not (out / "tables" / "reference_counts.csv").exists():  # 02 has begun to write
                assert process.poll() is None, (cache / "killed.log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
            # The notebook's kernel outlives its parent by a second.
            for child in children:
                if child.is_running():
                    child.kill()
            psutil.wait_procs(children, timeout=20)
    assert not (out / "outputs" / "02_leakage_analysis.run.json").exists()
    assert not (out / "notebooks" / "02_leakage_analysis.ipynb").exists()
    assert not (out / "provenance.json").exists()
    assert contents(out / "tables") != contents(whole / "tables")
    err = run_all(store, out, "--resume")
    assert "01_exploration: up to date, skipped" in err
    assert "02_leakage_analysis: up to date" not in err
    assert contents(out / "tables") == contents(whole / "tables")
    assert contents(out / "manifests") == contents(whole / "manifests")
