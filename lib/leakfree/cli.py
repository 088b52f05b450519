"""The command line ``leakfree``, a thin layer over the library: a command imports what it uses as it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from leakfree import __version__
from leakfree.base.escape import Arguments, log_lines, say
from leakfree.base.precision import PrecisionError, forced
from leakfree.models.recipes import RECIPES

#: Exit codes of ``leakfree audit`` and ``leakfree verify``.
CLEAN, LEAK, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    log_lines()
    given = _parser().parse_args(arguments)
    try:
        forced()
        return given.run(given)
    except BrokenPipeError:
        # The reader of our output has gone, such as `head`; Python's last flush would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except PrecisionError as error:
        return _refuse("", str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse("", f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        say("leakfree: interrupted", file=sys.stderr)
        return 130


class _Command(Arguments):
    """A command that may add options only when it is called, where their defaults need an import."""

    later: Callable[[_Command], None] | None = None

    def parse_known_args(self, args=None, namespace=None):
        if self.later is not None:
            self.later(self)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="leakfree", description="Find leaks in a split of images, and prove what a run consumed."
    )
    parser.add_argument("--version", action="version", version=f"leakfree {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    _add_audit(commands)
    _add_demo(commands)
    _add_new(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_serve(commands)
    _add_unseal(commands)
    _add_rebuild(commands)
    verify = commands.add_parser("verify", help="check a finished run from its files")
    verify.add_argument("folder", metavar="RUN", help="run folder, such as artifacts/chest_xray")
    verify.set_defaults(run=_verify)
    _add_reproduce(commands)
    return parser


def _add_audit(commands: argparse._SubParsersAction) -> None:
    audit = commands.add_parser(
        "audit",
        help="find every way in which a split leaks",
        description="Find every way in which a split leaks. Exit code: 0 no leak in what was checked, "
        "1 leak found, 2 the input cannot be used, or not all of it.",
    )
    audit.add_argument(
        "target",
        metavar="TARGET",
        help="folder of part/class/image; CSV with columns path, part, label, patient; or a cohort "
        "(phantom, or a Deep Lake store)",
    )
    audit.add_argument("--manifest", type=Path, metavar="F", help="split manifest that says the parts")
    audit.add_argument("--json", type=Path, metavar="F", help="write all findings as JSON")
    audit.add_argument("--html", type=Path, metavar="F", help="write one page with pictures")
    audit.add_argument("--junit", type=Path, metavar="F", help="write JUnit XML for a CI system")
    audit.add_argument(
        "--skip", action="append", default=[], metavar="CHECK", help="check to leave out (repeat, or a,b)"
    )
    audit.add_argument(
        "--scope", metavar="S", help="patient scope that decides: series, person, merged, patient"
    )
    audit.add_argument(
        "--fail-on", action="append", metavar="CHECKS", help="checks that fail (default: what crosses parts)"
    )
    audit.add_argument(
        "--patient-pattern", metavar="REGEX", help="its first group, searched in the path, is the patient"
    )
    audit.add_argument(
        "--thorough",
        action="store_true",
        help="also look for shifted, cropped, slightly turned and padded copies",
    )
    audit.add_argument(
        "--allow-problems", action="store_true", help="exit 0 also when files could not be read"
    )
    audit.add_argument("--jobs", type=int, default=0, metavar="N", help="threads (default: all cores)")
    audit.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers see the files")
    audit.add_argument("--seed", type=int, default=0, help="seed of resamples and permutations (default: 0)")
    audit.add_argument("--quiet", action="store_true", help="no report on the terminal")
    audit.set_defaults(run=_audit)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo", help="audit a small synthetic cohort with planted faults of every kind, offline"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("leakfree-demo"), metavar="DIR", help="default: leakfree-demo"
    )
    demo.add_argument("--seed", type=int, default=2018, help="seed of the cohort (default: 2018)")
    demo.set_defaults(run=_demo)


def _add_new(commands: argparse._SubParsersAction) -> None:
    new = commands.add_parser(
        "new",
        help="start a study on a folder of your own images",
        description="Start a study on your own images: writes study.yaml, audits the images, and says how "
        "to run the study. Exit code: 0 the study is ready, whatever the audit found; 2 the input cannot be "
        "used.",
    )
    new.add_argument("folder", type=Path, metavar="FOLDER", help="images, in folders of part/class or class")
    new.add_argument("--out", type=Path, metavar="DIR", help="folder of the study (default: FOLDER-study)")
    new.add_argument(
        "--patient-pattern",
        default="",
        metavar="REGEX",
        help="its first group, searched in the path, is the patient",
    )
    new.add_argument(
        "--csv", type=Path, metavar="F", help="CSV that names labels, perhaps parts and patients"
    )
    for name in ("path", "label", "part", "patient"):
        new.add_argument(f"--{name}-column", default="", metavar="C", help=f"its column with the {name}")
    new.add_argument("--title", default="", help="title of the book")
    new.add_argument("--name", default="", help="short name (default: that of the folder)")
    new.add_argument("--image", default="image", metavar="WORD", help="what the book calls one image")
    new.add_argument("--credit", default="", help="whose images these are, shown under pictures")
    new.add_argument("--run", action="store_true", dest="run_study", help="go on, and run the study")
    new.add_argument("--allow-problems", action="store_true", help="go on without files that cannot be read")
    new.add_argument("--jobs", type=int, default=0, metavar="N", help="cores to use (default: all)")
    new.later = _add_new_profile
    new.set_defaults(run=_new)


def _add_new_profile(new: argparse.ArgumentParser) -> None:
    from leakfree_study.run.config import PROFILES

    new.add_argument(
        "--profile", choices=list(PROFILES), help="size of its runs (default: quick; --run: smoke)"
    )


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train a leak-free network and publish its weights, ledger and calibration",
        description="Train one network of the study as the published ones were: the same split, seeds and "
        "settings unless told otherwise. An interrupted training goes on where it was.",
    )
    train.add_argument("--data", default="phantom", help="as run_all.py --data (default: phantom)")
    train.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder (default: artifacts/<cohort>-train)"
    )
    train.add_argument("--model", default="resnet18", metavar="M", help=f"one of {', '.join(RECIPES)}")
    train.add_argument("--task", default="", help="one of the cohort (default: its first)")
    train.add_argument("--seed", type=int, default=42, help="seed of the network (default: 42)")
    train.add_argument("--split-seed", type=int, default=42, help="seed of the split (default: 42)")
    train.add_argument("--weights", default="imagenet", help="for resnet18-imagenet: imagenet, or a file")
    earlier = train.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="go on where an earlier training was cut off (the default)"
    )
    earlier.add_argument("--fresh", action="store_true", help="take nothing over from an earlier training")
    train.add_argument("--allow-problems", action="store_true", help="go on without unusable files")
    train.later = _add_train_sizes
    train.set_defaults(run=_train)


def _add_train_sizes(train: argparse.ArgumentParser) -> None:
    from leakfree_study.run.config import PROFILES

    made = PROFILES["full"]["05_leakfree_deep"]
    for name, what in (
        ("image_size", "side in pixels"),
        ("epochs", "epochs of the run"),
        ("batch_size", "images a step"),
    ):
        option, default = f"--{name.replace('_', '-')}", made[name]
        train.add_argument(
            option, type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    train.set_defaults(patience=made["patience"])


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="classify films: class, calibrated probability, prediction set",
        description="Classify chest films with a published model. Not a medical device. Exit code: 0 all "
        "files were predicted, 2 the input cannot be used, or not all of it.",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, folders, globs, or - for standard input (an image, or names of files, one a line)",
    )
    _add_model(predict)
    predict.add_argument("--format", default="table", choices=("table", "json", "csv"))
    predict.add_argument("--out", type=Path, metavar="F", help="write there, not to standard output")
    predict.add_argument(
        "--overlay", type=Path, metavar="DIR", help="write pictures of what the network looks at (Grad-CAM)"
    )
    predict.add_argument("--jobs", type=int, default=0, metavar="N", help="threads (default: all cores)")
    predict.add_argument("--quiet", action="store_true", help="no progress bar")
    predict.set_defaults(run=_predict)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    serve = commands.add_parser(
        "serve",
        help="answer POST /predict, and show a page for films",
        description="Serve a published model over HTTP: a page at /, POST /predict, GET /health, "
        "/metrics and /openapi.json. Not a medical device.",
    )
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    serve.add_argument("--port", type=int, metavar="N", help="default: 9696")
    _add_model(serve)
    for name, what in (
        ("workers", "processes (default: one for each four cores)"),
        ("threads", "requests at the same time, in each worker (default: 32)"),
        ("inference-threads", "cores that predict, in each worker (default: the cores, shared out)"),
        ("batch", "films predicted at once, at most (default: 8)"),
        ("batch-ms", "what a batch may take, in milliseconds; makes batches smaller (default: 50)"),
        ("queue", "films that may wait (default: 128)"),
        ("images", "images in one request, at most (default: 32)"),
        ("body-bytes", "size of a request, at most (default: 32,000,000)"),
        ("receive-seconds", "for a request to arrive whole (default: 15)"),
    ):
        serve.add_argument(f"--{name}", type=int, metavar="N", help=what)
    serve.set_defaults(run=_serve)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="models/ of a run, or one model's preprocessing.json in it (default: LEAKFREE_MODEL, then the "
        "published one)",
    )


def _add_unseal(commands: argparse._SubParsersAction) -> None:
    unseal = commands.add_parser(
        "unseal",
        help="score the official test once, for all that a committed plan names",
        description="Open the sealed official test of a run: sealed_plan.yaml in the run folder, committed "
        "before, names what is scored. The opening is written to sealed_test.jsonl before the labels are "
        "read; a second opening is a second line.",
    )
    unseal.add_argument("folder", type=Path, metavar="RUN", help="run folder with trained networks")
    unseal.add_argument("--data", required=True, help="as run_all.py --data")
    unseal.set_defaults(run=_unseal)


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    reproduce = commands.add_parser(
        "reproduce",
        help="check a fresh run against the published one, table by table",
        description="Compare the tables of two runs under the committed rules of tolerances.yaml: counts, "
        "splits and models on pixels to the last digit, networks and embeddings within a tolerance. Exit "
        "code: 0 all agree, 1 something differs or is missing, 2 the runs cannot be compared.",
    )
    reproduce.add_argument("folder", type=Path, metavar="FRESH_RUN", help="run folder to check")
    reproduce.add_argument(
        "--published", type=Path, metavar="RUN", help="run to check against (default: artifacts/chest_xray)"
    )
    reproduce.add_argument(
        "--partial",
        action="store_true",
        help="tables and rows that the fresh run lacks were not run, and do not fail",
    )
    reproduce.add_argument("--json", type=Path, metavar="F", help="write everything as JSON")
    reproduce.set_defaults(run=_reproduce)


def _add_rebuild(commands: argparse._SubParsersAction) -> None:
    rebuild = commands.add_parser(
        "rebuild",
        help="make all tables and figures of a finished run again from its predictions",
        description="Delete and remake all tables and figures of a run from its committed record: no images, "
        "no training. Exit code: 0 nothing changed, 1 something came out differently (the run is left as it "
        "was), 2 the run cannot be rebuilt.",
    )
    rebuild.add_argument("folder", type=Path, metavar="RUN", help="run folder, such as artifacts/chest_xray")
    rebuild.add_argument(
        "--accept",
        action="store_true",
        help="take over what came out differently, after a change of a notebook or a plot; exit code 0",
    )
    rebuild.set_defaults(run=_rebuild)


def _names(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _audit(given: argparse.Namespace) -> int:
    from PIL import Image
    from pydantic import ValidationError

    from leakfree.audit.auditor import AuditSettings, audit_and_scan, unusable
    from leakfree.audit.report import print_report, write_html, write_json, write_junit
    from leakfree.audit.target import TargetError, open_target

    # A file of too many pixels is refused and reported; Pillow's warning says no more.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    options = {} if given.fail_on is None else {"fail_on": _names(given.fail_on)}
    try:
        settings = AuditSettings(
            scope=given.scope,
            skip=_names(given.skip),
            thorough=given.thorough,
            manifest=given.manifest,
            patient_pattern=given.patient_pattern,
            jobs=given.jobs,
            scheduler=given.scheduler,
            seed=given.seed,
            **options,
        )
        target = open_target(
            given.target, manifest=settings.manifest, patient_pattern=settings.patient_pattern
        )
        report, read = audit_and_scan(target, settings)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        return _refuse("audit", f"--{str(first['loc'][0]).replace('_', '-')}: {message}")
    except TargetError as error:
        return _refuse("audit", str(error))
    except Exception as error:
        from leakfree.base.parallel import SchedulerError

        if not isinstance(error, SchedulerError):
            raise
        return _refuse("audit", str(error))
    if given.json:
        write_json(report, given.json)
    if given.junit:
        write_junit(report, given.junit)
    if given.html:
        from leakfree.audit.report.pictures import Pictures

        pictures = Pictures(target, read)
        write_html(report, given.html, pictures.picture, pictures.describe)
    if not given.quiet:
        _to_stdout(lambda: print_report(report, sys.stdout))
    lost = unusable(report)
    if report.leaks:
        return LEAK
    if not len(read.table):
        return _refuse(
            "audit", f"{given.target}: none of {len(target.table)} files could be read as an image"
        )
    if lost and not given.allow_problems:
        return _refuse(
            "audit",
            f"{given.target}: {len(lost)} files could not be read, such as {lost[0]}; "
            "repair or remove them, or pass --allow-problems",
        )
    return CLEAN


def _demo(given: argparse.Namespace) -> int:
    from leakfree.audit.demo import run_demo

    return run_demo(given.out, given.seed)


def _new(given: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from leakfree.data.sources.base import SourceError
    from leakfree.data.study_file import RUN_FOLDER, StudyFileError
    from leakfree_study.compendium.new import Wanted, compendium, start, tell

    options = {name: getattr(given, name) for name in Wanted.__dataclass_fields__}
    options["profile"] = given.profile or "quick"
    try:
        started = start(Wanted(**options))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        return _refuse("new", f"{'.'.join(map(str, first['loc']))}: {message}")
    except (StudyFileError, SourceError) as error:
        return _refuse("new", str(error))
    _to_stdout(lambda: tell(started))
    if not given.run_study:
        return CLEAN
    if compendium() is None:
        return _refuse("new", "the study is ready; running it needs the compendium with its notebooks")
    if started.unreadable and not started.study.allow_problems:
        lost = started.unreadable[0]
        return _refuse("new", f"{lost}: cannot be read; pass --allow-problems to go on without it")
    from leakfree_study.compendium.study import main as run_all

    arguments = ["--data", str(started.path), "--profile", given.profile or "smoke", "--resume"]
    return run_all([*arguments, "--out", str(started.path.parent / RUN_FOLDER), "--jobs", str(given.jobs)])


def _train(given: argparse.Namespace) -> int:
    from leakfree.data.cohort import CohortError
    from leakfree.data.sources import SourceError
    from leakfree.models.networks import WeightsError
    from leakfree.models.training import TrainingError
    from leakfree.predict.weights import PublishedError
    from leakfree_study.networks.deep import train_model, trained_line
    from leakfree_study.run.run import Run

    try:
        run = Run(
            "05_leakfree_deep",
            data=given.data,
            run_dir=str(given.out or ""),
            folder_ending="train",
            seed=given.split_seed,
            resume=not given.fresh,
            allow_problems=given.allow_problems,
        )
        result = train_model(
            run,
            given.model,
            given.task,
            given.seed,
            image_size=given.image_size,
            epochs=given.epochs,
            batch_size=given.batch_size,
            patience=given.patience,
            weights=given.weights,
        )
    except (CohortError, SourceError, WeightsError, TrainingError, PublishedError, ValueError) as error:
        return _refuse("train", str(error))
    facts = result.facts
    say(
        f"{result.cell.label}, {result.cell.task.name}: {facts['n_train']:,} films in training, "
        f"no linked group shared; epoch {facts['epoch']} kept by validation"
    )
    say(f"weights {facts['weights_sha256']}; everything is in {run.folder}, see models/ and ledgers/")
    say(trained_line(run, result))
    return CLEAN


def _predict(given: argparse.Namespace) -> int:
    from leakfree.base.files import write_text
    from leakfree.base.parallel import available_cores
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.predict_files import FORMATS, InputError, find_films, predict_films, report_unusable
    from leakfree.predict.weights import PublishedError, default_model

    if given.jobs < 0:
        return _refuse("predict", f"--jobs: must be 0 or more, not {given.jobs}")
    try:
        films, left_out = find_films(given.images, sys.stdin.buffer.read)
        classifier = Classifier.load(given.model or default_model())
    except (InputError, PublishedError) as error:
        return _refuse("predict", str(error))
    rows = list(
        predict_films(
            classifier,
            films,
            jobs=given.jobs or available_cores(),
            overlays=given.overlay,
            progress=not given.quiet,
        )
    )
    text = FORMATS[given.format](rows, classifier)
    if given.out:
        write_text(given.out, text)
    elif sys.stdout.isatty():
        _to_stdout(lambda: [say(line) for line in text.removesuffix("\n").split("\n")])
    else:
        _to_stdout(lambda: sys.stdout.write(text))
    report_unusable(rows, left_out)
    return UNUSABLE if any(row.answer is None for row in rows) else CLEAN


def _serve(given: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from leakfree.predict.weights import PublishedError, default_model
    from leakfree.serving.server import serve
    from leakfree.serving.settings import ServiceSettings

    names = ServiceSettings.model_fields
    options = {name: value for name, value in vars(given).items() if name in names and value is not None}
    try:
        serve(ServiceSettings(**{"model": default_model(), **options}))
    except ValidationError as error:
        first = error.errors()[0]
        return _refuse("serve", f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}")
    except PublishedError as error:
        return _refuse("serve", str(error))
    return CLEAN


def _unseal(given: argparse.Namespace) -> int:
    from leakfree.data.cohort import CohortError
    from leakfree.data.sources import SourceError
    from leakfree.predict.weights import PublishedError
    from leakfree_study.figures.tables import readable
    from leakfree_study.networks.official import open_official
    from leakfree_study.networks.sealed import SealError
    from leakfree_study.run.run import Run

    try:
        run = Run("05_leakfree_deep", data=given.data, run_dir=str(given.folder.resolve()))
        scores = open_official(run)
    except (CohortError, SourceError, SealError, PublishedError) as error:
        return _refuse("unseal", str(error))
    for line in readable(scores, ["task", "model", "seed"]).to_string(index=False).splitlines():
        say(line)
    return CLEAN


def _rebuild(given: argparse.Namespace) -> int:
    from leakfree.data.cohort import CohortError
    from leakfree_study.record.rebuild import RebuildError, rebuild
    from leakfree_study.run.notebooks import NotebookError
    from leakfree_study.run.run import project_root

    logging.getLogger("leakfree").setLevel(logging.INFO)
    try:
        found = rebuild(given.folder, project_root(Path(__file__).parent), accept=given.accept)
    except (RebuildError, NotebookError, CohortError) as error:
        return _refuse("rebuild", str(error))
    for line in found.changed:
        say(f"{'changed' if given.accept else 'differs'}: {line}")
    for name in found.kept:
        say(f"kept, since it shows images: {name}")
    outcome = "all as they were" if not found.changed else f"{len(found.changed)} files changed"
    if found.changed and not given.accept:
        outcome += f"; the run is left as it was, what was made is in {found.scratch}"
    say(
        f"{given.folder}: {found.tables} tables, {found.figures} figures and {found.notebooks} notebooks "
        f"made again from the record in {found.seconds:.0f} s: {outcome}"
    )
    return LEAK if found.changed and not given.accept else CLEAN


def _verify(given: argparse.Namespace) -> int:
    from leakfree_study.record.verify import verify_command

    return verify_command(given.folder)


def _reproduce(given: argparse.Namespace) -> int:
    from leakfree.base.files import write_json
    from leakfree_study.record.reproduce import compare_runs, published_run
    from leakfree_study.record.reproduce_report import as_json, report
    from leakfree_study.record.run_identity import RunError

    try:
        found = compare_runs(given.folder, given.published or published_run(), partial=given.partial)
    except RunError as error:
        return _refuse("reproduce", str(error))
    if given.json:
        write_json(given.json, as_json(found))
    _to_stdout(lambda: [say(line) for line in report(found)])
    return CLEAN if found.agrees else LEAK


def _to_stdout(write: Callable[[], None]) -> None:
    """Write to standard output; a reader that has gone, such as `head`, does not change the exit code."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        # Else Python flushes once more at its end and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(command: str, message: str) -> int:
    say(f"{' '.join(['leakfree', command]).strip()}: {message}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
