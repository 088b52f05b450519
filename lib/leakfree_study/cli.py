"""The commands of the study: they register themselves with ``leakfree``, see `leakfree.cli`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import say
from leakfree.cli import CLEAN, LEAK, positive, to_stdout
from leakfree_study.models.recipes import RECIPES


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``new``, ``train``, ``unseal``, ``rebuild``, ``verify`` and ``reproduce``."""
    _add_new(commands)
    _add_train(commands)
    _add_unseal(commands)
    _add_rebuild(commands)
    verify = commands.add_parser("verify", help="check a finished run from its files")
    verify.add_argument("folder", metavar="RUN", help="run folder, such as artifacts/chest_xray")
    verify.set_defaults(run=_verify)
    _add_reproduce(commands)


def _add_new(commands: argparse._SubParsersAction) -> None:
    new = commands.add_parser(
        "new",
        help="start a study on a folder of your own images",
        description="Start a study on your own images: writes study.yaml, audits the images, and says how "
        "to run the study. Exit code: 0 the study is ready, whatever the audit found; 2 the input cannot be "
        "used.",
    )
    new.add_argument(
        "folder",
        type=Path,
        metavar="IMAGES",
        help="what `leakfree audit` opens: a folder, a table, an archive",
    )
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
    new.add_argument(
        "--no-pictures",
        action="store_false",
        dest="pictures",
        help="show no image in the run and in the page of the audit, where a licence forbids it",
    )
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
            option, type=positive, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    train.set_defaults(patience=made["patience"])


def _add_unseal(commands: argparse._SubParsersAction) -> None:
    unseal = commands.add_parser(
        "unseal",
        help="score the official test once, for all that a committed plan names",
        description="Open the sealed official test of a run: sealed_plan.yaml in the run folder names what "
        "is scored (sealed_plan_2.yaml for a second opening), and --prepare predicts its images. Commit "
        "both, then open. The opening is written to sealed_test.jsonl before the labels are read; a second "
        "opening is a second line.",
    )
    unseal.add_argument("folder", type=Path, metavar="RUN", help="run folder with trained networks")
    unseal.add_argument("--data", required=True, help="as run_all.py --data")
    unseal.add_argument(
        "--prepare", action="store_true", help="predict the sealed images, without opening; commit the files"
    )
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


def _new(given: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from leakfree.data.study_file import RUN_FOLDER
    from leakfree_study.compendium.new import Wanted, compendium, start, tell

    options = {name: getattr(given, name) for name in Wanted.__dataclass_fields__}
    options["profile"] = given.profile or "quick"
    try:
        started = start(Wanted(**options))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise LeakfreeError(f"{'.'.join(map(str, first['loc']))}: {message}") from error
    to_stdout(lambda: tell(started))
    if not given.run_study:
        return CLEAN
    if compendium() is None:
        raise LeakfreeError("the study is ready; running it needs the compendium with its notebooks")
    if started.unreadable and not started.study.allow_problems:
        lost = started.unreadable[0]
        raise LeakfreeError(f"{lost}: cannot be read; pass --allow-problems to go on without it")
    from leakfree_study.compendium.study import main as run_all

    arguments = ["--data", str(started.path), "--profile", given.profile or "smoke", "--resume"]
    return run_all([*arguments, "--out", str(started.path.parent / RUN_FOLDER), "--jobs", str(given.jobs)])


def _train(given: argparse.Namespace) -> int:
    from leakfree_study.networks.deep import train_model, trained_line
    from leakfree_study.run.run import open_run

    try:
        run = open_run(
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
    except ValueError as error:  # of a setting
        raise LeakfreeError(str(error)) from error
    facts = result.facts
    say(
        f"{result.cell.label}, {result.cell.task.name}: {facts['n_train']:,} images in training, "
        f"no linked group shared; epoch {facts['epoch']} kept by validation"
    )
    say(f"weights {facts['weights_sha256']}; everything is in {run.folder}, see models/ and ledgers/")
    say(trained_line(run, result))
    return CLEAN


def _unseal(given: argparse.Namespace) -> int:
    from leakfree_study.figures.tables import readable
    from leakfree_study.networks.official import open_official, prepare_opening
    from leakfree_study.run.run import open_run

    run = open_run("05_leakfree_deep", data=given.data, run_dir=str(given.folder.resolve()))
    if given.prepare:
        for path in prepare_opening(run):
            say(f"wrote {path.relative_to(run.folder)}; commit it before the opening")
        return CLEAN
    scores = open_official(run)
    for line in readable(scores, ["task", "model", "seed"]).to_string(index=False).splitlines():
        say(line)
    return CLEAN


def _rebuild(given: argparse.Namespace) -> int:
    from leakfree.base.paths import project_root
    from leakfree_study.record.rebuild import rebuild

    logging.getLogger("leakfree").setLevel(logging.INFO)
    found = rebuild(given.folder, project_root(Path(__file__).parent), accept=given.accept)
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
    from leakfree.base.paths import published_run
    from leakfree_study.record.reproduce import compare_runs
    from leakfree_study.record.reproduce_report import as_json, report

    found = compare_runs(given.folder, given.published or published_run(), partial=given.partial)
    if given.json:
        write_json(given.json, as_json(found))
    to_stdout(lambda: [say(line) for line in report(found)])
    return CLEAN if found.agrees else LEAK
