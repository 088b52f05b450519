"""What a run is, from its provenance: settings, data, versions, machine."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakfree.base.errors import LeakfreeError
from leakfree_study.run.made_with import precisions

#: Openings of the sealed test, see `leakfree_study.networks.sealed`, which imports what opens cohorts.
_SEALED_LOG = "sealed_test.jsonl"


class RunError(LeakfreeError):
    """A folder is no run that can be compared; the message is one line."""


@dataclass(frozen=True)
class Identity:
    """What a run is, from its provenance.

    Attributes
    ----------
    folder : str
    profile, seed, data, checksum, machine : str
        ``not recorded`` where the provenance does not say.
    images : int
    precision : str
        What its networks were trained in, ``bfloat16`` or ``float32`` or both; ``none`` without a network.
    accelerator : str
        Name of a GPU that PyTorch could use, ``none``, or ``not recorded``.
    versions : dict of str to str
    parameters : dict of str to dict
        Of each notebook that ran: as given, else the default that its executed copy declares.
    outputs : dict of str to str
        Table to the notebook that wrote it.
    opened : bool
        Whether the sealed test was opened.
    """

    folder: str
    profile: str
    seed: str
    data: str
    checksum: str
    images: int
    machine: str
    precision: str
    accelerator: str
    versions: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    outputs: dict[str, str]
    opened: bool

    def line(self) -> str:
        """Describe the run in one line."""
        return (
            f"{self.folder}: profile {self.profile}, seed {self.seed}, data {self.data} {self.checksum[:12]} "
            f"({self.images:,} images), {self.machine}"
        )


def identity(folder: Path) -> Identity:
    """Read what a run is.

    Raises
    ------
    RunError
        If the folder is no run, or its provenance cannot be read.
    """
    path = Path(folder) / "provenance.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        data, notebooks, machine = content["data"], content["notebooks"], content.get("machine", {})
        parameters = {
            name: _parameters(Path(folder), name, record["parameters"]) for name, record in notebooks.items()
        }
        place = [machine.get(name, "") for name in ("cpu", "system", "architecture")]
        return Identity(
            folder=str(folder),
            profile=_several(p["profile"] for p in parameters.values() if "profile" in p),
            seed=_several(p["seed"] for p in parameters.values() if "seed" in p),
            data=str(data["name"]),
            checksum=str(data["checksum"]),
            images=int(data["images"]),
            machine=", ".join([f"{machine.get('cores', '?')} cores", *(str(p) for p in place if p)]),
            precision=" and ".join(precisions(folder, _cells(folder))) or "none",
            accelerator=str(machine.get("accelerator", "not recorded")),
            versions={name: str(version) for name, version in content.get("versions", {}).items()},
            parameters=parameters,
            outputs={
                Path(output).stem: name
                for name, record in notebooks.items()
                for output in record["outputs"]
                if output.startswith("tables/")
            },
            opened=any(line.strip() for line in _lines(Path(folder) / _SEALED_LOG)),
        )
    except OSError as error:
        raise RunError(f"{folder}: not a finished run: {path.name}: {error.strerror or error}") from error
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: not the provenance of a run: {error}") from error


def _cells(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in Path(folder).glob("cells/*.json")]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _parameters(folder: Path, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Add to the parameters that a notebook was given the defaults that its executed copy declares."""
    notebook = folder / "notebooks" / f"{name}.ipynb"
    if not notebook.is_file():
        return dict(given)
    from leakfree_study.run.notebooks import known_parameters  # brings Papermill along, which takes seconds

    defaults = known_parameters(notebook)
    return {parameter: ast.literal_eval(value) for parameter, value in defaults.items()} | given


def _several(values: Iterable[Any]) -> str:
    return " and ".join(sorted({str(value) for value in values})) or "not recorded"
