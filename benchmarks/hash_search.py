"""Time, memory and recall of the two searches for near-duplicates, up to a million images.

Run it with ``python benchmarks/hash_search.py FOLDER --out DIR``; FOLDER holds images, and without it the
phantom's are taken. Each case has a process of its own, so that its peak of memory is its own too; the peak
includes the data. Seconds are those of the search on ``--threads`` threads; CPU seconds, of all threads
together, do not grow when the machine is busy with other work, and the exponents are fitted to them.

Hashes (``hash_cases.csv``), of which ``--pairs`` pairs are planted 1 to 12 bits apart:

``random``
    Independent fair bits; also searched with faiss's `IndexBinaryMultiHash`.
``film-like``
    A Gaussian copula with the frequency of each bit and the tetrachoric correlation of each two bits of the
    images' hashes, and 10,000 identical hashes among them.
``crowd``
    The same with 10,000 different hashes within 6 bits of one, as nearly blank images have: more than
    `BUCKET` share a band, so pairs of the crowd are dropped; it must come out as one cluster.

Growth (``growth.csv``, ``growth.png``): both searches at each of ``--sizes``, hashes film-like, and vectors
of `keypoints.embed` from a normal distribution with the images' mean and covariance, with pairs planted at
cosine 0.6 to 0.9, where copies of images are that were turned, shifted, cropped or padded. faiss's graph
index stands beside them, up to ``--hnsw`` vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.integrate import cumulative_trapezoid
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

from leakfree.audit.copies import hashes, keypoints
from leakfree.audit.copies.scan import scan
from leakfree.audit.copies.vectors import near_vectors
from leakfree.audit.faults import write_phantom
from leakfree.audit.target import TargetError, open_target
from leakfree.base.files import write_text
from leakfree.data.sources.phantom import PhantomSettings
from leakfree_study.figures.plots import OKABE_ITO, use_style

CROWD = 10_000
FARTHEST = 12
KINDS = (
    ("random", "near_pairs"),
    ("random", "faiss"),
    ("film-like", "near_pairs"),
    ("crowd", "near_pairs"),
)
SEARCHES = {
    "near_pairs": ("hashes: near_pairs", "blue", "o", "-"),
    "near_vectors": ("vectors: near_vectors", "vermillion", "s", "--"),
    "hnsw": ("for comparison: faiss HNSW", "black", "^", ":"),
}


def fit(folder: str | None, out: Path) -> None:
    """Write the copula of the images' hashes, and the mean and covariance of their vectors."""
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            settings = PhantomSettings(exact_duplicates=0, near_duplicates=0, conflicting_labels=0)
            folder = str(write_phantom(settings, Path(temporary) / "phantom"))
        films = scan(open_target(folder), thorough=True, jobs=2)
    bits = np.unpackbits(films.hashes.view(np.uint8), axis=1).astype(np.float64)
    vectors = keypoints.embed(films.keypoints)
    thresholds, loadings = copula(bits)
    np.savez(
        out,
        films=len(bits),
        thresholds=thresholds.astype(np.float32),
        loadings=loadings.astype(np.float32),
        mean=vectors.mean(axis=0),
        root=np.linalg.cholesky(np.cov(vectors.T) + 1e-8 * np.eye(vectors.shape[1])).astype(np.float32),
    )


def copula(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds and loadings: a bit is set where its latent, normal value is below the threshold.

    The correlation of two latents is the one at which both bits are set as often as they are, from the
    integral of the bivariate normal density over its correlation.
    """
    n, width = bits.shape
    share, both = bits.mean(axis=0), bits.T @ bits / n
    at = norm.ppf(np.clip(share, 0.5 / n, 1 - 0.5 / n))
    grid = np.linspace(-0.98, 0.98, 197)
    one = 1.0 - grid**2
    latent = np.eye(width)
    for i in range(width):
        density = np.exp(-(at[i] ** 2 - 2 * at[i] * np.outer(at, grid) + at[:, None] ** 2) / (2 * one))
        rise = cumulative_trapezoid(density / (2 * np.pi * np.sqrt(one)), grid, axis=1, initial=0)
        rise -= rise[:, [len(grid) // 2]]
        excess = both[i] - share[i] * share
        for j in range(width):
            if i != j and 0 < share[i] < 1 and 0 < share[j] < 1:
                latent[i, j] = np.interp(excess[j], rise[j], grid)
    values, axes = np.linalg.eigh(latent)
    loadings = axes * np.sqrt(np.maximum(values, 0.0))  # the nearest that is a correlation matrix, nearly
    return at, loadings / np.linalg.norm(loadings, axis=1, keepdims=True)


def film_like(model: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw hashes from the copula."""
    out = np.empty((n, hashes.BITS // 64), dtype=np.uint64)
    for start in range(0, n, 50_000):
        count = min(50_000, n - start)
        latent = rng.standard_normal((count, hashes.BITS), dtype=np.float32) @ model["loadings"].T
        out[start : start + count] = np.packbits(latent < model["thresholds"], axis=1).view(np.uint64)
    return out


def flipped(base: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flip so many bits, drawn at random, of each hash."""
    rank = rng.random((len(base), hashes.BITS)).argsort(axis=1).argsort(axis=1)
    bits = np.unpackbits(np.ascontiguousarray(base).view(np.uint8), axis=1)
    return np.packbits(bits ^ (rank < counts[:, None]), axis=1).view(np.uint64)


def plant(
    data: str, n: int, pairs: int, model: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes, rows of planted pairs, their distances and the rows of the crowd."""
    if data == "random":
        drawn = rng.integers(0, 2**64, (n, hashes.BITS // 64), dtype=np.uint64)
    else:
        drawn = film_like(model, n, rng)
    rows = rng.permutation(n)
    crowd = np.sort(rows[2 * pairs : 2 * pairs + (0 if data == "random" else min(CROWD, n // 10))])
    if data == "crowd":
        within = flipped(np.repeat(drawn[crowd[:1]], len(crowd), axis=0), rng.integers(0, 7, len(crowd)), rng)
        drawn[crowd] = within
    elif len(crowd):
        drawn[crowd] = drawn[crowd[0]]
    planted = np.sort(rows[: 2 * pairs].reshape(-1, 2), axis=1)
    bits = 1 + np.arange(pairs) % FARTHEST
    drawn[planted[:, 1]] = flipped(drawn[planted[:, 0]], bits, rng)
    return drawn, planted, bits, crowd


def threaded(threads: int) -> Callable[[Callable, list[tuple]], Iterator[np.ndarray]]:
    """Return what runs the bands of `near_pairs` on threads."""

    def run(function: Callable, tasks: list[tuple]) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(lambda task: function(*task), tasks)

    return run


def near_pairs(drawn: np.ndarray, threads: int) -> tuple[np.ndarray, int]:
    """Search, and count the pairs whose bits are compared."""
    compared, lock, distance = [0], threading.Lock(), hashes.distance

    def counting(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        with lock:
            compared[0] += len(first)
        return distance(first, second)

    hashes.distance = counting
    try:
        return hashes.near_pairs(drawn, run=threaded(threads))[:, :2], compared[0]
    finally:
        hashes.distance = distance


def multi_hash(drawn: np.ndarray, threads: int) -> tuple[np.ndarray, int]:
    """Search with faiss: 12 bands of 20 bits."""
    import faiss

    faiss.omp_set_num_threads(threads)
    octets = np.ascontiguousarray(drawn).view(np.uint8)
    index = faiss.IndexBinaryMultiHash(hashes.BITS, 12, 20)
    index.add(octets)
    faiss.cvar.indexBinaryHash_stats.reset()
    limits, _, found = index.range_search(octets, hashes.RADIUS + 1)
    first = np.repeat(np.arange(len(drawn)), np.diff(limits).astype(np.int64))
    kept = first < found
    return np.column_stack([first[kept], found[kept]]), int(faiss.cvar.indexBinaryHash_stats.ndis)


def has(found: np.ndarray, wanted: np.ndarray, n: int) -> np.ndarray:
    return np.isin(wanted[:, 0] * n + wanted[:, 1], found[:, 0] * n + found[:, 1])


def hash_case(case: dict, model: dict[str, np.ndarray], threads: int) -> dict[str, object]:
    n, rng = case["n"], np.random.default_rng(case["seed"])
    drawn, planted, bits, crowd = plant(case["data"], n, case["pairs"], model, rng)
    search = multi_hash if case["method"] == "faiss" else near_pairs
    started, cpu = time.perf_counter(), time.process_time()
    found, compared = search(drawn, threads)
    result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    hit = has(found, planted, n)
    graph = coo_array((np.ones(len(found), np.int8), (found[:, 0], found[:, 1])), shape=(n, n))
    label = connected_components(graph, directed=False)[1]
    result |= {"compared": compared, "found": len(found), "recall": hit.mean()}
    result |= {f"recall_{k}": hit[bits == k].mean() for k in range(1, FARTHEST + 1)}
    return result | {"crowd": len(crowd), "crowd_clusters": len(np.unique(label[crowd]))}


def index_case(case: dict, model: dict[str, np.ndarray], threads: int) -> dict[str, object]:
    import faiss

    faiss.omp_set_num_threads(threads)
    n, pairs, rng = case["n"], case["pairs"], np.random.default_rng(case["seed"])
    vectors = np.empty((n, len(model["mean"])), dtype=np.float32)
    for start in range(0, n, 50_000):
        part = vectors[start : start + 50_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) @ model["root"].T + model["mean"]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    planted = np.sort(rng.permutation(n)[: 2 * pairs].reshape(-1, 2), axis=1)
    cosine = rng.uniform(0.6, 0.9, pairs).astype(np.float32)[:, None]
    one, other = vectors[planted[:, 0]], vectors[planted[:, 1]]
    other = other - (one * other).sum(axis=1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    vectors[planted[:, 1]] = cosine * one + np.sqrt(1 - cosine**2) * other
    started, cpu = time.perf_counter(), time.process_time()
    found = (
        hnsw(vectors) if case["method"] == "hnsw" else near_vectors(vectors, keypoints.NEIGHBOURS, threads)
    )
    result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    hit, third = has(found, planted, n), np.minimum((cosine[:, 0] - 0.6) / 0.1, 2).astype(int)
    result |= {"found": len(found), "recall": hit.mean()}
    return result | {f"recall_{6 + k}0_{7 + k}0": hit[third == k].mean() for k in range(3)}


def hnsw(vectors: np.ndarray, k: int = keypoints.NEIGHBOURS) -> np.ndarray:
    """Take the k nearest neighbours from faiss's graph index."""
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 64, 64
    index.add(vectors)
    second = index.search(vectors, k + 1)[1].astype(np.int64).reshape(-1)
    first = np.repeat(np.arange(len(vectors)), k + 1)
    kept = (second >= 0) & (second != first)
    pairs = np.column_stack([np.minimum(first, second)[kept], np.maximum(first, second)[kept]])
    return np.unique(pairs, axis=0)


def peak_gb() -> float:
    """Return the largest resident memory of this process, in GB of 2^30 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts what the parent had when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def apart(case: dict, model: Path, threads: int) -> dict[str, object]:
    """Run a case in a process of its own."""
    variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    variables["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that waits takes no CPU seconds
    command = [sys.executable, __file__, "--case", json.dumps(case), "--model", str(model)]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{case}: ended with {done.returncode}")
    result = case | json.loads(done.stdout.splitlines()[-1])
    print({name: round(v, 3) if isinstance(v, float) else v for name, v in result.items()}, flush=True)
    return result


def exponent(rows: pd.DataFrame, column: str = "cpu_seconds") -> tuple[float, float]:
    """Return slope and intercept of log10 seconds against log10 n, by least squares."""
    slope, intercept = np.polyfit(np.log10(rows["n"]), np.log10(rows[column]), 1)
    return float(slope), float(intercept)


def plot(growth: pd.DataFrame) -> Figure:
    """Draw CPU seconds against the number of images, both on logarithmic scales."""
    use_style()
    fig = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = fig.subplots()
    for name, (label, colour, marker, line) in SEARCHES.items():
        rows = growth[growth["method"] == name].sort_values("n")
        if len(rows) < 2:
            continue
        slope, intercept = exponent(rows)
        ends = np.array([rows["n"].min(), rows["n"].max()])
        axes.plot(rows["n"], rows["cpu_seconds"], marker, color=OKABE_ITO[colour], markersize=7)
        axes.plot(
            ends, 10**intercept * ends**slope, line, color=OKABE_ITO[colour], marker=marker, markevery=[],
            label=rf"{label}, $\propto n^{{{slope:.2f}}}$",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="Images n", ylabel="CPU time of the search (s)")
    axes.set_title("Time of the near-duplicate search grows nearly in proportion to the images", fontsize=10)
    axes.legend(loc="lower right")
    return fig


def write_book(out: Path, book: Path) -> None:
    """Write what the book shows, from the two tables in `out`, whichever run they are from."""
    cases, growth = pd.read_csv(out / "hash_cases.csv"), pd.read_csv(out / "growth.csv")
    shown = {
        "hashes": cases["data"],
        "search": cases["method"].replace("faiss", "faiss IndexBinaryMultiHash"),
        "seconds": cases["seconds"].map("{:.1f}".format),
        "CPU seconds": cases["cpu_seconds"].map("{:.1f}".format),
        "peak GB": cases["peak_gb"].map("{:.2f}".format),
        "pairs compared": cases["compared"].map("{:,.0f}".format),
        "recall": cases["recall"].map("{:.4f}".format),
        "lowest recall at a distance": cases.filter(regex=r"^recall_\d+$").min(axis=1).map("{:.4f}".format),
    }
    write_text(book / "hash_search.csv", pd.DataFrame(shown).to_csv(index=False))
    shown = {
        "search": growth["method"],
        "films": growth["n"].map("{:,}".format),
        "seconds": growth["seconds"].map("{:.2f}".format),
        "CPU seconds": growth["cpu_seconds"].map("{:.2f}".format),
        "recall": growth["recall"].map("{:.3f}".format),
        "peak GB": growth["peak_gb"].map("{:.2f}".format),
    }
    table = pd.DataFrame(shown).sort_values("search", kind="stable")
    write_text(book / "search_time.csv", table.to_csv(index=False))
    plot(growth).savefig(book / "search_time.png", dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="images that the data resemble; the phantom without it")
    parser.add_argument("--n", type=int, default=1_000_000, help="hashes of the first table; 0 leaves it out")
    parser.add_argument("--pairs", type=int, default=2400, help="planted pairs, as many for each distance")
    parser.add_argument("--sizes", default="10000,30000,100000,300000,1000000", help="for the growth")
    parser.add_argument("--hnsw", type=int, default=300_000, help="largest size for the graph index")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("hash-search"))
    parser.add_argument("--book", type=Path, metavar="DIR", help="write the tables and the plot of the book")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        case, model = json.loads(given.case), dict(np.load(given.model))
        result = (index_case if case["method"] in ("near_vectors", "hnsw") else hash_case)(
            case, model, given.threads
        )
        result["peak_gb"] = peak_gb()
        print(json.dumps(result, default=float))
        return
    try:
        sizes = [int(size) for size in given.sizes.split(",") if size]
    except ValueError:
        parser.error(f"--sizes {given.sizes}: whole numbers with commas between")
    given.out.mkdir(parents=True, exist_ok=True)
    model = given.model or given.out / "model.npz"
    if not model.exists():
        try:
            fit(given.folder, model)
        except TargetError as error:
            raise SystemExit(str(error)) from error
    cases, growth = [], []
    common = {"pairs": given.pairs, "seed": given.seed}
    for data, method in KINDS if given.n else ():
        cases.append(apart({"data": data, "method": method, "n": given.n, **common}, model, given.threads))
        write_text(given.out / "hash_cases.csv", pd.DataFrame(cases).to_csv(index=False, float_format="%.4f"))
    for n in sizes:
        for method in SEARCHES:
            if method == "hnsw" and n > given.hnsw:
                continue
            case = {"data": "film-like", "method": method, "n": n, **common}
            growth.append(apart(case, model, given.threads))
            write_text(
                given.out / "growth.csv", pd.DataFrame(growth).to_csv(index=False, float_format="%.4f")
            )
    if len(sizes) > 1:
        plot(pd.DataFrame(growth)).savefig(given.out / "growth.png", dpi=200)
    if given.book:
        write_book(given.out, given.book)


if __name__ == "__main__":
    main()
