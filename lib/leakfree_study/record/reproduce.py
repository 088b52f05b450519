"""Check a fresh run against the published one, table by table, and say what differs.

Tables are compared under the rules of ``tolerances.yaml``. Predictions count through the scores that are
computed from them; how many of their files are the same to the byte is told for information.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from leakfree.base.files import file_hash
from leakfree_study.record.run_identity import Identity, RunError, identity
from leakfree_study.record.table_differences import Comparison, TableError, compare_tables, read_table
from leakfree_study.record.tolerances import tolerances

#: Parameters of notebooks that say where and how a run was made, and change no number.
_NO_SETTINGS = ("data", "jobs", "scheduler", "run_dir", "resume")


@dataclass
class Reproduction:
    """What a comparison of two runs found.

    Attributes
    ----------
    published, fresh : Identity
    versions : dict of str to tuple
        Packages whose versions differ: published and fresh.
    settings : list of str
        Parameters that differ, one line each.
    tables : list of Comparison
    predictions : dict of str to int
        Files of predictions: ``published, fresh, both, identical``.
    partial : bool
        Whether the fresh run may lack tables and rows.
    """

    published: Identity
    fresh: Identity
    versions: dict[str, tuple[str, str]]
    settings: list[str]
    tables: list[Comparison]
    predictions: dict[str, int]
    partial: bool

    @property
    def agrees(self) -> bool:
        """Whether no table fails."""
        return not any(table.fails for table in self.tables)


def compare_runs(fresh: Path, published: Path, *, partial: bool = False) -> Reproduction:
    """Compare the tables of two runs.

    Parameters
    ----------
    fresh, published : pathlib.Path
        Run folders.
    partial : bool
        The fresh run may lack tables and rows: they were not run.

    Returns
    -------
    Reproduction

    Raises
    ------
    RunError
        If a folder is no run, has no table, or the runs are of different data.
    """
    fresh, published = Path(fresh), Path(published)
    here, there = identity(fresh), identity(published)
    if here.checksum != there.checksum:
        raise RunError(
            f"not the same data: {fresh} is of {here.data} {here.checksum[:12]}, {published} of {there.data} "
            f"{there.checksum[:12]}; nothing to compare"
        )
    names = {
        folder: {path.stem for path in (folder / "tables").glob("*.csv")} for folder in (fresh, published)
    }
    for folder, found in names.items():
        if not found:
            raise RunError(f"{folder}: has no tables")
    tables = [
        _table(name, published, fresh, partial=partial, opened=here.opened)
        for name in sorted(names[fresh] | names[published])
    ]
    packages = sorted({*here.versions, *there.versions})
    versions = {p: (there.versions.get(p, "none"), here.versions.get(p, "none")) for p in packages}
    return Reproduction(
        published=there,
        fresh=here,
        versions={p: pair for p, pair in versions.items() if pair[0] != pair[1]},
        settings=_settings(there, here),
        tables=tables,
        predictions=_predictions(published, fresh),
        partial=partial,
    )


def _table(name: str, published: Path, fresh: Path, *, partial: bool, opened: bool) -> Comparison:
    before, after = (folder / "tables" / f"{name}.csv" for folder in (published, fresh))
    rules = tolerances().tables.get(name)
    if rules is None:
        return Comparison(name, "no rule")
    if not before.is_file():
        return Comparison(name, "extra")
    try:
        old = read_table(before)
        if after.is_file():
            return compare_tables(
                name, old, read_table(after), rules, tolerances().tolerance, partial=partial, opened=opened
            )
    except TableError as error:
        return Comparison(name, "unreadable", problems=[str(error)])
    if partial:
        return Comparison(name, "not run")
    # Without its file, a table is missing unless all of its rows rest on the sealed test.
    found = compare_tables(name, old, old.iloc[:0], rules, tolerances().tolerance, opened=opened)
    found.status = "missing" if found.lost or not found.sealed else "sealed"
    return found


def _settings(published: Identity, fresh: Identity) -> list[str]:
    lines = []
    for notebook in sorted(set(published.parameters) & set(fresh.parameters)):
        before, after = published.parameters[notebook], fresh.parameters[notebook]
        for name in sorted((set(before) | set(after)) - set(_NO_SETTINGS)):
            old, new = (json.dumps(p[name]) if name in p else "not recorded" for p in (before, after))
            if old != new:
                lines.append(f"{notebook}: {name}: published {old}, fresh {new}")
    return lines


def _predictions(published: Path, fresh: Path) -> dict[str, int]:
    found = [
        {path.relative_to(folder).as_posix() for path in (folder / "predictions").rglob("*.csv*")}
        for folder in (published, fresh)
    ]
    both = found[0] & found[1]
    same = sum(file_hash(published / name) == file_hash(fresh / name) for name in both)
    return {"published": len(found[0]), "fresh": len(found[1]), "both": len(both), "identical": same}
