"""The command line ``leakfree``, a thin layer over the library: a command imports what it uses as it runs.

Another package adds commands by an entry point of the group ``leakfree.commands``: a function that takes the
subparsers of `argparse` and adds its own, as `leakfree_study.cli.add_commands` does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakfree import __version__
from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import Arguments, log_lines, say
from leakfree.base.failures import internal_error
from leakfree.base.precision import forced
from leakfree.estimate import options as estimate_options
from leakfree.splitter.options import add_options

if TYPE_CHECKING:
    from pydantic import ValidationError

    from leakfree.audit.auditor import AuditSettings
    from leakfree.audit.baseline import Accepted
    from leakfree.audit.checks.findings import Report
    from leakfree.audit.copies.scan import Scan
    from leakfree.audit.target import Target
    from leakfree.data.reading.wishes import Wishes

#: Exit codes: no leak, or all agrees; a leak, or a difference; the input cannot be used or was not
#: understood; `leakfree.base.failures` has one more.
CLEAN, LEAK, UNUSABLE = 0, 1, 2
#: Which extra brings a package, and else which one a command needs; see pyproject.toml.
_EXTRA_OF_MODULE = {"deeplake": "store", "dask": "cluster", "distributed": "cluster"}
_EXTRA_OF_COMMAND = {"predict": "serve", "score": "serve", "serve": "serve", "train": "study"}


#: Shown below the options of ``leakfree audit``.
_EXAMPLES = r"""examples:
  train/ and test/ with a folder for each class, however they are spelled
      leakfree audit PATH/TO/IMAGES --html report.html
  patients in the names of the files, such as subject12_3.png
      leakfree audit IMAGES --patient-pattern 'subject(\d+)'
  a table that says label, part and patient
      leakfree audit IMAGES --csv labels.csv --part-column split --patient-column case
  a list of names for each part
      leakfree audit IMAGES --part-list train=train_list.txt --part-list test=test_list.txt
  two folders, or two files with images inside, that are one part each
      leakfree audit data/full data/val
  images that are not split yet
      leakfree audit IMAGES --no-parts
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        2 for every `LeakfreeError`, with its one line on standard error; 130 where the user interrupts.
    """
    _open_closed_streams()
    log_lines()
    words = _joined(sys.argv[1:] if arguments is None else arguments)
    given = _parser(words).parse_args(words)
    try:
        forced()
        return given.run(given)
    except BrokenPipeError:
        # The reader of our output has gone, such as `head`; Python's last flush would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except LeakfreeError as error:
        return refuse(given.command, str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing.startswith("leakfree"):
            return internal_error("leakfree", error)
        extra = _EXTRA_OF_MODULE.get(missing) or _EXTRA_OF_COMMAND.get(given.command, "study")
        return refuse(
            given.command, f"needs {missing}, which is not installed: pip install 'leakfree[{extra}]'"
        )
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return refuse("", f"{where}{error.strerror or error}")
    except MemoryError:
        return refuse("", "there is not enough memory for this input")
    except KeyboardInterrupt:
        say("leakfree: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return internal_error("leakfree", error)


def _open_closed_streams() -> None:
    """Give commands streams to write to where the caller closed them; what is written there is lost."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _joined(arguments: Sequence[str]) -> list[str]:
    """Bind a pattern to its option: one that begins with a dash is no option of its own."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--patient-pattern", "--part-pattern"):
            joined[-1] = f"{joined[-1]}={word}"
        else:
            joined.append(word)
    return joined


class Command(Arguments):
    """A command that may add options only when it is called, where their defaults need an import."""

    later: Callable[[Command], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add what is added late, then parse."""
        if self.later is not None:
            self.later(self)
        return super().parse_known_args(args, namespace)


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = Arguments(
        prog="leakfree", description="Find leaks in a split of images, and prove what a run consumed."
    )
    parser.add_argument("--version", action="version", version=f"leakfree {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", parser_class=Command)
    _add_audit(commands)
    _add_split(commands)
    _add_estimate(commands)
    _add_check(commands)
    _add_demo(commands)
    _add_predict(commands)
    _add_score(commands)
    _add_serve(commands)
    called = next((str(word) for word in arguments if not str(word).startswith("-")), "")
    if called not in commands.choices:  # finding the others takes a moment
        for entry in entry_points(group="leakfree.commands"):
            entry.load()(commands)
    return parser


def _add_audit(commands: argparse._SubParsersAction) -> None:
    audit = commands.add_parser(
        "audit",
        help="find every way in which a split leaks",
        description="Find every way in which a split leaks. Exit code: 0 no leak in what was checked, "
        "1 leak found, 2 the input cannot be used or was not understood, or not all of it, "
        "3 an error of leakfree itself.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument(
        "target",
        nargs="+",
        metavar="TARGET",
        help="folder of images, table that names them (CSV, Excel, Parquet, JSON lines), file with images "
        "inside, or a cohort (phantom, or a Deep Lake store); several are one part each",
    )
    _add_reading(audit)
    audit.add_argument("--manifest", type=Path, metavar="F", help="split manifest that says the parts")
    audit.add_argument("--json", type=Path, metavar="F", help="write all findings as JSON")
    audit.add_argument("--html", type=Path, metavar="F", help="write one page with pictures")
    audit.add_argument("--sarif", type=Path, metavar="F", help="write SARIF for code scanning")
    audit.add_argument(
        "--baseline", type=Path, metavar="F", help="known findings, which are accepted: only new ones fail"
    )
    audit.add_argument(
        "--accept", metavar="REASON", help="write what is found now to the baseline, with this reason"
    )
    audit.add_argument(
        "--diff", type=Path, metavar="OLD", help="an earlier report (--json): say what appeared and what went"
    )
    audit.add_argument("--junit", type=Path, metavar="F", help="write JUnit XML for a CI system")
    audit.add_argument(
        "--skip", action="append", default=[], metavar="CHECK", help="check to leave out (repeat, or a,b)"
    )
    audit.add_argument(
        "--scope",
        metavar="S",
        help="patient scope that decides: patient, series, person, merged, or a --group-column",
    )
    audit.add_argument(
        "--fail-on", action="append", metavar="CHECKS", help="checks that fail (default: what crosses parts)"
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
    audit.add_argument(
        "--no-cache", action="store_true", help="keep nothing of the images, and use nothing that was kept"
    )
    audit.add_argument("--seed", type=int, default=0, help="seed of resamples and permutations (default: 0)")
    audit.add_argument("--quiet", action="store_true", help="no report on the terminal")
    audit.set_defaults(run=_audit, parser=audit)


def _add_split(commands: argparse._SubParsersAction) -> None:
    # Reads all that the audit reads, by the same options, and ends with an audit.
    split = commands.add_parser(
        "split",
        parents=[commands.choices["audit"]],
        add_help=False,
        help="make a split that does not leak, or repair one that does",
        description="Make a split in which no patient and no copy is in two parts, stratified by label, or "
        "repair the parts that there are. Ends with the audit of what it made. Exit code: 0 no leak in what "
        "was checked, 1 the split leaks, 2 the input cannot be used, or not all of it.",
    )
    split.audit_options = {action.dest for action in commands.choices["audit"]._actions}
    add_options(split)
    split.set_defaults(run=_split, parser=split)


def _add_estimate(commands: argparse._SubParsersAction) -> None:
    estimate = commands.add_parser(
        "estimate",
        help="say what a split by image would do to your own images, and to a score",
        description="How many test images would have another image of their patient in training if the "
        "images were split without regard to patients, how well a patient is recognised, and how much a "
        "score would likely gain. Learned from four cohorts only, and says so. Exit code: 0 estimated, 2 it "
        "cannot tell, or the input cannot be used.",
        epilog=estimate_options.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    estimate.add_argument(
        "target", nargs="+", metavar="TARGET", help="what leakfree audit opens: a folder, a table, a cohort"
    )
    _add_reading(estimate)
    estimate_options.add_options(estimate)
    estimate.set_defaults(run=_estimate, parser=estimate)


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check",
        help="read training code, and say where it leaks",
        description="Read scripts and notebooks without running them, and say where test rows reach training "
        "or choose something. Exit code: 0 nothing but notes, 1 findings, 2 a file cannot be read.",
    )
    check.add_argument("files", nargs="+", metavar="FILE", help="scripts, notebooks, or folders of them")
    check.add_argument("--json", type=Path, metavar="F", help="write all findings as JSON")
    check.add_argument("--sarif", type=Path, metavar="F", help="write SARIF for code scanning")
    check.add_argument("--quiet", action="store_true", help="no report on the terminal")
    check.set_defaults(run=_check)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add what declares part, label and patient of the images."""
    told = command.add_argument_group("what is part, label and patient, where the names do not say it")
    told.add_argument(
        "--csv", action="append", default=[], type=Path, metavar="TABLE", help="its rows name images (repeat)"
    )
    for name in ("path", "part", "label", "patient"):
        told.add_argument(f"--{name}-column", default="", metavar="C", help=f"column with the {name}")
    told.add_argument(
        "--group-column",
        action="append",
        default=[],
        metavar="C",
        help="column that groups images too (repeat)",
    )
    told.add_argument("--columns", metavar="A,B,...", help="names of the columns of tables without a header")
    told.add_argument(
        "--part-list",
        action="append",
        default=[],
        metavar="PART=FILE",
        help="list of a part's images (repeat)",
    )
    told.add_argument(
        "--part-pattern", default="", metavar="REGEX", help="its first group in the path is the part"
    )
    told.add_argument(
        "--patient-pattern", default="", metavar="REGEX", help="its first group in the path is the patient"
    )
    told.add_argument("--no-parts", action="store_true", help="the images are not split, and need not be")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo", help="audit a small synthetic cohort with planted faults of every kind, offline"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("leakfree-demo"), metavar="DIR", help="default: leakfree-demo"
    )
    demo.add_argument("--seed", type=int, default=2018, help="seed of the cohort (default: 2018)")
    demo.set_defaults(run=_demo)


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="classify images: class, calibrated probability, prediction set",
        description="Classify chest X-rays with a published model. Not a medical device. Exit code: 0 all "
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


def _add_score(commands: argparse._SubParsersAction) -> None:
    score = commands.add_parser(
        "score",
        help="score a published network on labelled images of your own",
        description="How does a published network do on your images? Sensitivity, specificity, ROC AUC, "
        "calibration and prediction sets, with intervals over patients, by columns that you name, and "
        "on the same images zoomed, padded and moved. Exit code: 0 scored, 2 the input cannot be used, or "
        "not all of it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  leakfree score artifacts/chest_xray/models --data XRAYS --no-parts
  leakfree score MODELS --data XRAYS --csv labels.csv --label-column finding --by site,view
  leakfree score MODELS --data XRAYS --class pneumonia=bacterial,viral --leave-out other --out report
""",
    )
    score.add_argument(
        "model", type=Path, metavar="MODEL", help="folder of a model, or its description in it"
    )
    score.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="D",
        help="folder, table or file with images (repeat)",
    )
    _add_reading(score)
    score.add_argument(
        "--manifest", type=Path, metavar="F", help="split manifest whose parts are those of the images"
    )
    score.add_argument("--part", default="", metavar="P", help="score this part alone")
    score.add_argument("--scope", metavar="S", help="who is a patient (default: as leakfree audit)")
    score.add_argument(
        "--class",
        dest="class_label",
        action="append",
        default=[],
        metavar="CLASS=LABELS",
        help="labels that stand for a class of the network (repeat)",
    )
    score.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="LABELS",
        help="labels whose images do not take part",
    )
    score.add_argument(
        "--by", action="append", default=[], metavar="COLUMNS", help="score each group of a column"
    )
    score.add_argument("--out", type=Path, metavar="DIR", help="write a page, tables and predictions there")
    score.add_argument(
        "--resamples", type=positive, default=1000, metavar="N", help="of the bootstrap (default: 1000)"
    )
    score.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    score.add_argument("--jobs", type=int, default=0, metavar="N", help="threads (default: all cores)")
    score.add_argument("--allow-problems", action="store_true", help="go on without unusable files")
    score.add_argument("--quiet", action="store_true", help="do not say how the images were read")
    score.set_defaults(run=_score)


def positive(text: str) -> int:
    """Read a whole number from 1 on, as the value of an option."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text}")
    return int(text)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    serve = commands.add_parser(
        "serve",
        help="answer POST /predict, and show a page for images",
        description="Serve a published model over HTTP: a page at /, POST /predict, GET /health and "
        "/openapi.json; /metrics at an address of its own. Not a medical device.",
    )
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    serve.add_argument("--port", type=int, metavar="N", help="default: 9696")
    serve.add_argument("--metrics-host", help="address of /metrics alone (default: 127.0.0.1)")
    serve.add_argument(
        "--metrics-port", type=int, metavar="N", help="of /metrics alone (default: the one after --port)"
    )
    serve.add_argument("--book", metavar="URL", help="address of the book, for a link on the page")
    _add_model(serve)
    for name, what in (
        ("workers", "processes (default: one for each four cores)"),
        ("threads", "requests at the same time, in each worker (default: 32)"),
        ("inference-threads", "cores that predict, in each worker (default: the cores, shared out)"),
        ("batch", "images predicted at once, at most (default: 8)"),
        ("batch-ms", "what a batch may take, in milliseconds; makes batches smaller (default: 50)"),
        ("queue", "images that may wait (default: 128)"),
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
        metavar="PATH",
        help="models/ of a run, or one model's .safetensors or preprocessing.json in it (default: "
        "LEAKFREE_MODEL, then the published one)",
    )


def _names(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _audit(given: argparse.Namespace) -> int:
    return _auditing(given, _audit_target)


def _split(given: argparse.Namespace) -> int:
    # A split that is clean only where one looked quickly is none. (A default of the parser would be the
    # audit's too: they share the option.)
    given.thorough = not given.fast
    return _auditing(given, _split_target)


def _estimate(given: argparse.Namespace) -> int:
    from PIL import Image
    from pydantic import ValidationError

    from leakfree.audit.auditor import AuditSettings
    from leakfree.audit.report import print_reading
    from leakfree.audit.target import open_target
    from leakfree.base.files import writable, write_text
    from leakfree.estimate.command import estimate, lines_of

    if given.json:
        writable(given.json)
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # Parts that there are make no difference, and parts that are not understood are no reason to stop.
    given.no_parts = given.no_parts or not (given.part_column or given.part_list or given.part_pattern)
    wishes, named = _wishes(given), given.target[0]
    try:
        settings = AuditSettings(
            wishes=wishes,
            scope=given.scope,
            jobs=given.jobs,
            seed=given.seed,
            cache=not given.no_cache,
        )
    except ValidationError as error:
        raise LeakfreeError(wrong_option(error)) from error
    target = open_target(given.target, wishes=wishes)
    if not given.quiet and (reading := target.reading) is not None:
        to_stdout(lambda: print_reading(reading.as_json(), sys.stdout))
    columns = tuple(given.group_column)
    made = estimate(target, settings, named, columns, test_share=given.test_share, score=given.score)
    if given.json:
        write_text(given.json, json.dumps(made.as_json(), indent=1) + "\n")
    to_stdout(lambda: say_lines(lines_of(made, given.score)))
    if made.cannot_tell:
        raise LeakfreeError(f"{named}: cannot tell what a score would gain: {'; '.join(made.cannot_tell)}")
    if made.lost and not given.allow_problems:
        raise LeakfreeError(
            f"{len(made.lost):,} files could not be read, such as {made.lost[0]}; they were not counted"
        )
    _refuse_what_is_unclear(given, target, parts=False)
    return CLEAN


def _check(given: argparse.Namespace) -> int:
    from leakfree.check.command import run

    return run(given.files, json=given.json, sarif_file=given.sarif, quiet=given.quiet)


def _auditing(
    given: argparse.Namespace, do: Callable[[argparse.Namespace, AuditSettings, Target], int]
) -> int:
    """Open what is to be audited, say how it is read, and do it."""
    from PIL import Image
    from pydantic import ValidationError

    from leakfree.audit.auditor import AuditSettings
    from leakfree.audit.report import print_reading
    from leakfree.audit.target import open_target
    from leakfree.base.files import writable

    for path in (given.json, given.html, given.junit, given.sarif):
        if path:
            writable(path)
    # A file of too many pixels is refused and reported; Pillow's warning says no more.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    options = {} if given.fail_on is None else {"fail_on": _names(given.fail_on)}
    wishes = _wishes(given)
    try:
        settings = AuditSettings(
            scope=given.scope,
            skip=_names(given.skip),
            thorough=given.thorough,
            manifest=given.manifest,
            patient_pattern=given.patient_pattern or None,
            wishes=wishes,
            jobs=given.jobs,
            scheduler=given.scheduler,
            seed=given.seed,
            cache=not given.no_cache,
            **options,
        )
    except ValidationError as error:
        raise LeakfreeError(wrong_option(error)) from error
    target = open_target(given.target, manifest=settings.manifest, wishes=wishes)
    if not given.quiet and (reading := target.reading) is not None:
        to_stdout(lambda: print_reading(reading.as_json(), sys.stdout))
    return do(given, settings, target)


def _wishes(given: argparse.Namespace) -> Wishes:
    """Return what the options say of how the images are read."""
    from leakfree.data.reading.wishes import Wishes

    lists = [entry.partition("=") for entry in given.part_list]
    if wrong := [
        entry for entry, (_, sign, file) in zip(given.part_list, lists, strict=True) if not (sign and file)
    ]:
        raise LeakfreeError(f"--part-list {wrong[0]}: is no PART=FILE, such as test=test_list.txt")
    return Wishes(
        csv=tuple(given.csv),
        columns=_names([given.columns or ""]),
        path_column=given.path_column,
        part_column=given.part_column,
        label_column=given.label_column,
        patient_column=given.patient_column,
        group_columns=tuple(given.group_column),
        part_lists=tuple((part, Path(file)) for part, _, file in lists),
        part_pattern=given.part_pattern,
        patient_pattern=given.patient_pattern,
        no_parts=given.no_parts,
    )


def _split_target(given: argparse.Namespace, settings: AuditSettings, target: Target) -> int:
    from leakfree.audit.commands import reading_options
    from leakfree.splitter.command import audit_command, make, tell

    if unfit := [name for name in ("baseline", "accept", "diff") if getattr(given, name) is not None]:
        raise LeakfreeError(f"--{unfit[0]} goes with leakfree audit: a split that was made has no leak")
    made = make(target, settings, given)
    report = made.report
    _write_report(given, report, target, made.material.read)
    to_stdout(lambda: tell(made, given))
    say(f"{made.out}: written. Check it: {audit_command(made, reading_options(given))}")
    if report.leaks:
        return LEAK
    if made.material.lost and not given.allow_problems:
        lost = made.material.lost
        raise LeakfreeError(f"{len(lost)} files could not be read, such as {lost[0]}; they are in no part")
    _refuse_what_is_unclear(given, target, parts=given.repair)
    return CLEAN


def _audit_target(given: argparse.Namespace, settings: AuditSettings, target: Target) -> int:
    from leakfree.audit.auditor import audit_and_scan, unusable
    from leakfree.audit.commands import advised, reading_options

    earlier, known = _expected(given)
    report, read = audit_and_scan(target, settings)
    report = advised(report, reading_options(given), given.manifest and str(given.manifest))
    report, lines = _compared(report, given, earlier, known)
    _write_report(given, report, target, read)
    to_stdout(lambda: say_lines(lines))
    lost = unusable(report)
    if report.leaks:
        return LEAK
    named = " ".join(given.target)
    if not len(read.table):
        raise LeakfreeError(f"{named}: none of {len(target.table)} files could be read as an image")
    if lost and not given.allow_problems:
        raise LeakfreeError(
            f"{named}: {len(lost)} files could not be read, such as {lost[0]}; "
            "repair or remove them, or pass --allow-problems"
        )
    _refuse_what_is_unclear(given, target)
    return CLEAN


def _write_report(given: argparse.Namespace, report: Report, target: Target, read: Scan) -> None:
    """Write a report in every form that was asked for, and show it."""
    from leakfree.audit.report import print_report, write_html, write_json, write_junit, write_sarif

    if given.json:
        write_json(report, given.json)
    if given.junit:
        write_junit(report, given.junit)
    if given.sarif:
        write_sarif(report, given.sarif, _root(given))
    if given.html:
        from leakfree.audit.report.pictures import Pictures

        pictures = Pictures(target, read)
        write_html(report, given.html, pictures.picture, pictures.describe)
    if not given.quiet:
        to_stdout(lambda: print_report(report, sys.stdout, reading=False))


def _refuse_what_is_unclear(given: argparse.Namespace, target: Target, *, parts: bool = True) -> None:
    """Raise where the input was not understood: nothing that was found is cleared by that."""
    reading, named = target.reading, " ".join(given.target)
    if reading is not None and reading.unclear and parts:
        raise LeakfreeError(f"{named}: {reading.unclear[0]}")
    if reading is not None and reading.partial and not given.allow_problems:
        raise LeakfreeError(f"{named}: {reading.partial[0]}")


def _root(given: argparse.Namespace) -> str:
    """Return the folder that the names of the images start from, empty for a store."""
    named = given.target if isinstance(given.target, str) else given.target[0]
    folder = named if os.path.isdir(named) else os.path.dirname(named) if os.path.isfile(named) else ""
    return os.path.relpath(folder) if folder else ""


def _expected(given: argparse.Namespace) -> tuple[Report | None, list[Accepted]]:
    """Read the earlier report and the baseline, before minutes are spent on an audit."""
    from leakfree.audit.baseline import BaselineError, read_baseline
    from leakfree.audit.report import load_json

    if given.accept is not None and (given.baseline is None or not given.accept.strip()):
        raise BaselineError("--accept needs a reason, and --baseline F to write it to")
    try:
        earlier = load_json(given.diff) if given.diff else None
    except ValueError as error:
        raise BaselineError(f"--diff {error}") from error
    new = given.baseline is None or (given.accept is not None and not given.baseline.exists())
    return earlier, [] if new else read_baseline(given.baseline)


def _compared(
    report: Report, given: argparse.Namespace, earlier: Report | None, known: list[Accepted]
) -> tuple[Report, list[str]]:
    """Compare a report with an earlier one and with the baseline; return it with lines to print."""
    from datetime import date

    from leakfree.audit.baseline import accept, against, difference, write_baseline

    lines = []
    if earlier is not None:
        lines += difference(earlier, report) or [f"No finding appeared or went since {given.diff}."]
    if given.accept is not None:
        known = accept(report, known, given.accept, date.today().isoformat())
        write_baseline(known, given.baseline)
        lines.append(f"{given.baseline}: written, {len(known):,} findings accepted")
    if given.baseline:
        report, told = against(report, known)
        lines += told
    return report, lines


def _demo(given: argparse.Namespace) -> int:
    from leakfree.audit.demo import run_demo

    return run_demo(given.out, given.seed)


def _predict(given: argparse.Namespace) -> int:
    from leakfree.base.files import writable, write_text
    from leakfree.base.parallel import available_cores
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.description import default_model
    from leakfree.predict.predict_files import (
        FORMATS,
        find_images,
        predict_images,
        refuse_input,
        report_unusable,
    )

    if given.jobs < 0:
        raise LeakfreeError(f"--jobs: must be 0 or more, not {given.jobs}")
    images, left_out = find_images(given.images, sys.stdin.buffer.read)
    if given.out:
        writable(given.out)
        refuse_input(given.out, images)
    if given.overlay:
        writable(given.overlay / "overlay.png")
    classifier = Classifier.load(given.model or default_model())
    rows = list(
        predict_images(
            classifier,
            images,
            jobs=given.jobs or available_cores(),
            overlays=given.overlay,
            progress=not given.quiet,
        )
    )
    text = FORMATS[given.format](rows, classifier)
    if given.out:
        # A file name need not be valid Unicode.
        write_text(given.out, text.encode("utf-8", "backslashreplace").decode("utf-8"))
    elif sys.stdout.isatty():
        to_stdout(lambda: say_lines(text.removesuffix("\n").split("\n")))
    else:
        to_stdout(lambda: sys.stdout.write(text))
    report_unusable(rows, left_out)
    return UNUSABLE if any(row.answer is None for row in rows) else CLEAN


def _score(given: argparse.Namespace) -> int:
    from leakfree.audit.report import print_reading
    from leakfree.audit.target import open_target
    from leakfree.base.files import writable
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.score_images import ScoreSettings, score_images, sealed_files
    from leakfree.predict.score_report import text_of, write_report

    if given.out:
        writable(given.out / "scores.csv")
    classes = [entry.partition("=") for entry in given.class_label]
    if wrong := [
        e for e, (_, sign, said) in zip(given.class_label, classes, strict=True) if not (sign and said)
    ]:
        raise LeakfreeError(f"--class {wrong[0]}: is no CLASS=LABEL,LABEL, such as pneumonia=bacterial,viral")
    settings = ScoreSettings(
        classes={name: _names([said]) for name, _, said in classes},
        leave_out=_names(given.leave_out),
        by=_names(given.by),
        part=given.part,
        scope=given.scope,
        resamples=given.resamples,
        seed=given.seed,
        jobs=given.jobs,
    )
    target = open_target(given.data, manifest=given.manifest, wishes=_wishes(given))
    if not given.quiet and (reading := target.reading) is not None:
        to_stdout(lambda: print_reading(reading.as_json(), sys.stdout))
    classifier = Classifier.load(given.model)
    scored = score_images(classifier, target, settings, sealed_files(given.model))
    to_stdout(lambda: say_lines(text_of(scored, classifier, target.name)))
    if given.out:
        write_report(scored, classifier, target.name, given.out)
        say(f"{given.out}: written; open {given.out / 'index.html'}")
    if scored.problems and not given.allow_problems:
        lost = scored.problems[0]
        raise LeakfreeError(
            f"{len(scored.problems):,} files could not be read, such as {lost.file}: {lost.reason}; "
            "--allow-problems scores the others"
        )
    return CLEAN


def _serve(given: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from leakfree.predict.description import default_model
    from leakfree.serving.server import serve
    from leakfree.serving.settings import ServiceSettings

    names = ServiceSettings.model_fields
    options = {name: value for name, value in vars(given).items() if name in names and value is not None}
    try:
        serve(ServiceSettings(**{"model": default_model(), **options}))
    except ValidationError as error:
        raise LeakfreeError(wrong_option(error)) from error
    return CLEAN


def say_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    for line in lines:
        say(line)


def to_stdout(write: Callable[[], object]) -> None:
    """Write to standard output; a reader that has gone, such as `head`, does not change the exit code."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        # Else Python flushes once more at its end and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(command: str, message: str) -> int:
    """Say in one line on standard error why a command cannot go on; return its exit code."""
    say(f"{' '.join(['leakfree', command]).strip()}: {message}", file=sys.stderr)
    return UNUSABLE


def wrong_option(error: ValidationError) -> str:
    """Return in one line which option has a wrong value, and why."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"--{str(first['loc'][0]).replace('_', '-')}: {message}"


if __name__ == "__main__":
    sys.exit(main())
