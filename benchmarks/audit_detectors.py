"""Recall by kind of fault, precision and seconds of the audit and of its peers, on faults of known truth.

Run it with ``python benchmarks/audit_detectors.py --data FOLDER --count 20 --out DIR``; FOLDER is
part/class/image, or ``phantom``. With ``--peers PYTHON`` it also runs ``peers.py`` in an environment that has
cleanvision and imagededup, on the same folder in the same run. Three folders are judged:

``injected``
    ``--count`` faults of every kind.
``none``
    Nothing is injected: what is found beside identical files is false.
``rate``
    Faults of every kind, in all the share ``--rate`` of the images; 0 leaves it out.

The truth: two files show one image if they are byte-identical or one is an injected copy of the other. Images
of one patient are different images, so a cluster that joins them is false. An image stored twice before with
other bytes is unknown to this truth, and counted against every detector that finds it; with
``--adjudicated`` a second precision takes the readers' word for such pairs.

Two levels are scored. Pairs: what a detector says of two files; one that reports groups says it of all pairs
within. Clusters: files joined by any chain of pairs; true if they all show one image. Few long chains hardly
lower the precision of clusters, so read it beside the share of clean images flagged.

Each peer is given at its default and at its best: the setting with the highest F1 of pairs on these very
faults, which favours the peer. ``none`` and ``rate`` take the best setting over from ``injected``.
The seconds of the audit are those of its whole command, start included; the peers' leave their imports out.
A threshold costs a peer nothing more, so all thresholds of a hash have the same seconds.
``recall.csv`` has a row a detector, setting and kind, ``detectors.csv`` one a detector and setting.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from leakfree.audit.copies.alterations import DISGUISES
from leakfree.audit.faults import FAULTS, inject, list_images, write_phantom
from leakfree.base.files import write_text
from leakfree.data.raw import SourceError
from leakfree.data.sources.phantom import PhantomSettings

# All hashes have 64 bits; beyond this, half of all pairs of images agree by chance.
THRESHOLDS = range(17)
# A setting with more pairs joins strangers by the thousand: it is scored only where it is a default.
MOST_PAIRS = 3_000_000
KINDS = (*(kind for kind in FAULTS if kind != "size_shortcut"), *DISGUISES)
AUDIT = "leakfree audit"


@dataclass
class Found:
    """What a detector found: sorted pairs of positions in the list of images, the smaller one first."""

    detector: str
    setting: str
    pairs: np.ndarray
    seconds: float
    default: bool = True
    moved: frozenset[str] = frozenset()  # files of patients that stand in several parts


class Truth:
    """Which images show one image, and which faults were injected."""

    def __init__(self, folder: Path, injected: pd.DataFrame | None, read_as_same: list[tuple[str, str]] = ()):
        table = list_images(folder)
        self.files = table["file"].tolist()
        self.position = {file: i for i, file in enumerate(self.files)}
        self.injected = injected
        same = [group.tolist() for group in table.groupby("sha256").indices.values()]
        if injected is not None:
            copies = injected[injected["kind"] != "patient_moved"]
            same += [[self.position[f], self.position[o]] for f, o in copies[["file", "of"]].to_numpy()]
        self.film = self.components(all_pairs(same))
        # Pairs that blind readers called one image stored twice: told apart from what is known by bytes.
        there = [[self.position[f] for f in pair] for pair in read_as_same if set(pair) <= set(self.position)]
        self.film_with_readers = self.components(all_pairs([*same, *there]))
        self.clean = np.bincount(self.film)[self.film] == 1
        sizes = np.bincount(self.film)
        self.pairs = int((sizes * (sizes - 1) // 2).sum())

    def components(self, pairs: np.ndarray) -> np.ndarray:
        """Give each image the number of its cluster, the images being joined by pairs."""
        n = len(self.files)
        graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        return connected_components(graph, directed=False)[1]

    def pairs_of(self, groups: list[list[str]]) -> np.ndarray:
        """Return all pairs within groups of files."""
        return all_pairs([[self.position[file] for file in group] for group in groups])


def all_pairs(groups: list[list[int]]) -> np.ndarray:
    found = [np.empty(0, dtype=np.int64)]
    for group in groups:
        members = np.array(sorted(group), dtype=np.int64)
        first, second = np.triu_indices(len(members), 1)
        found.append(members[first] << 32 | members[second])  # one number a pair: fast to make unique
    pairs = np.unique(np.concatenate(found))
    return np.column_stack([pairs >> 32, pairs & 0xFFFFFFFF])


def score(truth: Truth, found: Found) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return a row a kind, and the row of the detector."""
    n, pairs = len(truth.files), found.pairs
    cluster = truth.components(pairs)
    keys = pairs[:, 0] * n + pairs[:, 1]
    name = {"detector": found.detector, "setting": found.setting}
    kinds = []
    if truth.injected is not None:
        for kind, rows in truth.injected.groupby("kind", sort=False):
            files = rows["file"].tolist()
            if kind == "patient_moved":
                direct = joined = len(found.moved.intersection(files))
            else:
                ends = [(truth.position[f], truth.position[o]) for f, o in rows[["file", "of"]].to_numpy()]
                a, b = np.sort(np.array(ends), axis=1).T
                # The pairs are sorted, and for a loose threshold there are millions.
                wanted = a * n + b
                place = np.searchsorted(keys, wanted)
                direct = int((keys.take(place, mode="clip") == wanted).sum()) if len(keys) else 0
                joined = int((cluster[a] == cluster[b]).sum())
            kinds.append(
                {
                    **name,
                    "kind": kind,
                    "injected": len(files),
                    "found_as_pair": direct,
                    "found_in_cluster": joined,
                    "recall_pair": direct / len(files),
                    "recall_cluster": joined / len(files),
                }
            )
    true = int((truth.film[pairs[:, 0]] == truth.film[pairs[:, 1]]).sum())
    flagged = np.zeros(n, dtype=bool)
    flagged[pairs.ravel()] = True
    films = pd.Series(truth.film).groupby(cluster).agg(["size", "nunique"])
    films = films[films["size"] > 1]
    clusters, pure = len(films), int((films["nunique"] == 1).sum())
    with_readers = pd.Series(truth.film_with_readers).groupby(cluster).agg(["size", "nunique"])
    pure_with_readers = int((with_readers[with_readers["size"] > 1]["nunique"] == 1).sum())
    clean = int(truth.clean.sum())
    precision = true / len(pairs) if len(pairs) else float("nan")
    recall = true / truth.pairs if truth.pairs else float("nan")
    return kinds, {
        **name,
        "pairs": len(pairs),
        "true_pairs": true,
        "pair_precision": precision,
        "pair_recall": recall,
        "pair_f1": 2 * true / (len(pairs) + truth.pairs) if len(pairs) + truth.pairs else float("nan"),
        "clusters": clusters,
        "true_clusters": pure,
        "cluster_precision": pure / clusters if clusters else float("nan"),
        "adjudicated_precision": pure_with_readers / clusters if clusters else float("nan"),
        "largest_cluster": int(films["size"].max()) if clusters else 0,
        "clean_images": clean,
        "clean_flagged": int((flagged & truth.clean).sum()),
        "share_clean_flagged": float((flagged & truth.clean).sum() / clean) if clean else float("nan"),
        "seconds": round(found.seconds, 2),
    }


def audit_json(folder: Path, out: Path, *options: str) -> tuple[dict, float] | None:
    """Run the project's own audit by its command line; None, and a line, if it gives no report."""
    command = [sys.executable, "-m", "leakfree.cli", "audit", str(folder), "--json", str(out), *options]
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 1) or not out.exists():
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"the audit gave no report (exit {done.returncode}): {reason}", file=sys.stderr)
        return None
    return json.loads(out.read_text(encoding="utf-8"))["checks"], seconds


def run_audit(folder: Path, truth: Truth, work: Path) -> list[Found]:
    skip = ("--skip", "shift", "--skip", "shortcuts")
    answer = audit_json(folder, work / "audit.json", "--thorough", *skip)
    if answer is None:
        return []
    checks, seconds = answer
    names = ("exact_duplicates", "near_duplicates", "label_conflicts")
    groups = [group for name in names for group in checks[name].get("groups", [])]
    moved = frozenset(checks["patients"]["files"])
    return [Found(AUDIT, "thorough", truth.pairs_of(groups), seconds, moved=moved)]


def shortcut_row(folder: Path, injected: int, work: Path) -> list[dict[str, object]]:
    """Return the row of a size shortcut, which is one fault however many images it resizes."""
    answer = audit_json(folder, work / "audit.json", "--skip", "near_duplicates", "--skip", "shift")
    if answer is None:
        return []
    found = int(answer[0]["shortcuts"]["status"] in ("WARN", "FAIL"))
    recall = found / injected if injected else float("nan")  # without one, what is found is there already
    row = {"detector": AUDIT, "setting": "shortcuts", "kind": "size_shortcut", "injected": injected}
    row |= {"found_as_pair": found, "found_in_cluster": found}
    return [{**row, "recall_pair": recall, "recall_cluster": recall}]


def run_peers(python: str, folder: Path, truth: Truth, work: Path, only: list[str]) -> list[Found]:
    """Run `peers.py`; every threshold of a hash is a setting of its own."""
    out = work / "peers.json"
    script = Path(__file__).with_name("peers.py")
    command = [python, str(script), str(folder), "--out", str(out), *(["--only", *only] if only else [])]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"peers: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found = []
    for setting, result in json.loads(out.read_text(encoding="utf-8"))["settings"].items():
        peer, _, option = setting.partition(" ")
        if "not_run" in result:
            continue  # told by the script
        if "hashes" in result:
            pairs, distances = close_pairs(truth, result["hashes"])
            for limit in THRESHOLDS:
                chosen = pairs[distances <= limit]
                default = limit == result["default_threshold"]
                found.append(Found(setting, f"<= {limit}", chosen, result["seconds"], default))
        else:
            groups = result.get("clusters", result.get("pairs"))
            default = option in ("default", "CNN")
            found.append(Found(peer, option, truth.pairs_of(groups), result["seconds"], default))
    return [one for one in found if one.default or len(one.pairs) <= MOST_PAIRS]


def close_pairs(truth: Truth, hashes: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    position = np.array([truth.position[file] for file in hashes])
    order = np.argsort(position)
    position = position[order]
    values = np.array([int(value, 16) for value in hashes.values()], dtype=np.uint64)[order]
    pairs, distances = [], []
    for i in range(len(values)):
        distance = np.bitwise_count(values[i + 1 :] ^ values[i])
        near = np.flatnonzero(distance <= THRESHOLDS[-1])
        pairs.append(np.column_stack([np.full(len(near), position[i]), position[i + 1 + near]]))
        distances.append(distance[near])
    return np.concatenate(pairs), np.concatenate(distances)


def best_settings(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the setting with the highest F1 of pairs, for each detector."""
    best = rows.sort_values("pair_f1", ascending=False, kind="stable").drop_duplicates("detector")
    return set(best[["detector", "setting"]].itertuples(index=False, name=None))


def write_book_tables(folder: Path, name: str, kinds: pd.DataFrame, detectors: pd.DataFrame) -> None:
    """Write ``detectors_recall_<name>.csv`` and ``detectors_summary_<name>.csv`` as the book shows them."""
    shown = kinds[kinds["mode"] == "injected"].copy()
    peer = shown["detector"] != AUDIT
    asked = ~(peer & shown["kind"].isin(["patient_moved", "size_shortcut"]))
    shown["column"] = columns_of(shown)
    shown["cell"] = [
        f"{found} of {n}" if ask else "–"
        for found, n, ask in zip(shown["found_as_pair"], shown["injected"], asked, strict=True)
    ]
    wide = shown.pivot_table(index="kind", columns="column", values="cell", aggfunc="first", sort=False)
    wide = wide.fillna("–").reset_index().rename(columns={"kind": "fault"})
    write_text(folder / f"detectors_recall_{name}.csv", wide.to_csv(index=False))
    summary = pd.DataFrame(
        {
            "injected": detectors["mode"],
            "detector": columns_of(detectors),
            "images": detectors["images"],
            "clusters": detectors["clusters"],
            "of one image": detectors["true_clusters"],
            "precision": detectors["cluster_precision"].map("{:.3f}".format),
            "with readers": detectors["adjudicated_precision"].map("{:.3f}".format),
            "clean images flagged": detectors["share_clean_flagged"].map("{:.2%}".format),
            "largest cluster": detectors["largest_cluster"],
            "seconds": detectors["seconds"].map("{:.1f}".format),
        }
    )
    write_text(folder / f"detectors_summary_{name}.csv", summary.to_csv(index=False))


def columns_of(rows: pd.DataFrame) -> list[str]:
    """Name a detector with its setting, and say which setting that is."""
    names = []
    for row in rows.itertuples():
        if row.detector == AUDIT:
            names.append(AUDIT)
            continue
        which = "default and best" if row.default and row.best else "default" if row.default else "best"
        names.append(f"{row.detector} {row.setting} ({which})")
    return names


class Bench:
    """The rows of all modes, written after each one."""

    def __init__(self, peers: str | None, out: Path, everything: bool, read_as_same: list[tuple[str, str]]):
        self.peers, self.out, self.everything, self.read_as_same = peers, out, everything, read_as_same
        self.kinds: list[dict[str, object]] = []
        self.detectors: list[dict[str, object]] = []
        self.best: set[tuple[str, str]] = set()

    def judge(self, mode: str, folder: Path, injected: pd.DataFrame | None, work: Path) -> None:
        """Run all detectors on a folder and keep their default and best settings."""
        truth = Truth(folder, injected, self.read_as_same)
        found = run_audit(folder, truth, work)
        if self.peers:
            names = {f"{d} {s}" if d == "cleanvision" else d for d, s in self.best if d != AUDIT}
            only = sorted(names | {"cleanvision default", "imagededup PHash"}) if names else []
            found += run_peers(self.peers, folder, truth, work, only)
        scored = []
        for one in found:
            kinds, row = score(truth, one)
            scored.append((one, kinds, row))
        if scored and not self.best:
            self.best = best_settings(pd.DataFrame([row for _, _, row in scored]))
        for one, kinds, row in scored:
            best = (one.detector, one.setting) in self.best
            if not (one.default or best or self.everything):
                continue
            note = {"mode": mode, "default": one.default, "best": best}
            self.kinds += [{**note, **kind} for kind in kinds]
            self.detectors.append({**note, "images": len(truth.files), **row})
        self.write()

    def shortcut(self, mode: str, folder: Path, injected: int, work: Path) -> None:
        """Ask the audit for a size shortcut; `injected` is 1 where there is one and else 0."""
        rows = shortcut_row(folder, injected, work)
        self.kinds += [{"mode": mode, "default": True, "best": True, **row} for row in rows]
        self.write()

    def write(self) -> None:
        """Write both tables."""
        for name, rows in (("recall", self.kinds), ("detectors", self.detectors)):
            write_text(self.out / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.4f"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="phantom", help="phantom, or a folder of part/class/image")
    parser.add_argument("--count", type=int, default=20, help="faults of each kind")
    parser.add_argument("--rate", type=float, default=0.01, help="share of the images, in a run of its own")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter that has the peers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("detectors"))
    parser.add_argument("--book", type=Path, metavar="DIR", help="write the tables of the book there")
    parser.add_argument(
        "--adjudicated", type=Path, metavar="CSV", help="readers' verdicts on pairs of images"
    )
    parser.add_argument("--every-setting", action="store_true", help="write more than default and best")
    given = parser.parse_args()
    same = []
    if given.adjudicated:
        verdicts = pd.read_csv(given.adjudicated)
        same = list(
            verdicts.loc[verdicts["agreed"] == "same", ["first", "second"]].itertuples(index=False, name=None)
        )
    bench = Bench(given.peers, given.out, given.every_setting, same)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            source = Path(given.data)
            if given.data == "phantom":
                # Its own near-duplicates and size shortcut would blur what is injected.
                settings = PhantomSettings(n_images=1200, near_duplicates=0, size_shortcut=0, seed=given.seed)
                source = write_phantom(settings, work / "phantom")
            frame = inject(source, work / "injected", count=given.count, kinds=KINDS, seed=given.seed)
            bench.judge("injected", work / "injected", frame, work)
            bench.judge("none", source, None, work)
            if given.rate:
                count = max(1, round(given.rate * len(list_images(source)) / len(KINDS)))
                frame = inject(source, work / "rate", count=count, kinds=KINDS, seed=given.seed + 1)
                bench.judge("rate", work / "rate", frame, work)
            inject(source, work / "shortcut", count=1, kinds=["size_shortcut"], seed=given.seed)
            bench.shortcut("injected", work / "shortcut", 1, work)
            bench.shortcut("none", source, 0, work)
        except (SourceError, ValueError) as error:
            raise SystemExit(str(error)) from error
    if not bench.detectors:
        raise SystemExit("no detector gave a result")
    kinds, detectors = pd.DataFrame(bench.kinds), pd.DataFrame(bench.detectors)
    if given.book:
        name = "phantom" if given.data == "phantom" else "real" if given.peers else "audit"
        write_book_tables(given.book, name, kinds, detectors)
    table = kinds.pivot_table(
        index="kind", columns=["mode", "detector", "setting"], values="recall_pair", sort=False
    )
    print(table.to_string(float_format="%.2f"), "\n")
    print(detectors.to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
