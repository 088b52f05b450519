"""The figures of the study: one style, fixed colours, files that are the same when the data are.

Plots return a closed `matplotlib.figure.Figure`: a notebook shows it once, as the last value of its cell.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
from PIL import Image

from leakfree.base.files import replacing, write_json
from leakfree.scores.metrics import point_estimates, roc_points
from leakfree.scores.predictions import Predictions
from leakfree_study.figures.names import model_name

#: Colours that colour-blind readers tell apart (Okabe and Ito, "Color Universal Design", 2008).
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
_FIXED = {
    # Classes and parts.
    "blue": ("normal", "train"),
    "vermillion": ("bacterial",),
    "orange": ("viral", "val", "validation"),
    "purple": ("pneumonia",),
    "green": ("test",),
    "black": ("official", "unsplit"),
}
_MODELS = {
    "blue": ("resnet18",),
    "vermillion": ("simplecnn", "simplecnn16", "simplecnn32"),
    "orange": ("xgboost",),
    "purple": ("efficientnetlite0", "efficientnetlite0imagenet"),
    "green": ("randomforest",),
    "sky": ("logisticregression",),
    "black": ("1nn",),
}
_PROTOCOLS = {
    "green": ("clean", "patient", "patientlevel"),
    # The same patient on both sides.
    "vermillion": ("leaky", "image", "imagelevel", "siblings", "naturalsiblings", "tuning", "foldscores"),
    # The same image on both sides.
    "blue": ("notestset", "exact", "near", "oversampled", "augmented"),
    # Fitted or chosen on more than the training part.
    "black": ("scaling", "pca", "selection"),
    "orange": ("threshold", "earlystopping", "bestepoch"),
    "purple": ("sizeandmode",),
}
#: Colour of each class, protocol, part and model, by its name's letters and digits in lower case.
COLOURS = {
    name: OKABE_ITO[colour]
    for fixed in (_FIXED, _MODELS, _PROTOCOLS)
    for colour, names in fixed.items()
    for name in names
}
# What names without a colour of their own get, in this order; yellow is too pale for lines on white.
_SPARE = ("sky", "purple", "black", "orange", "green", "blue", "vermillion")
_METRIC_NAMES = {
    "loss": "Cross-entropy loss (nats)",
    "accuracy": "Accuracy",
    "roc_auc": "ROC AUC",
    "macro_f1": "Macro F1",
    "average_precision": "Average precision",
    "sensitivity_at_90_specificity": "Sensitivity at 90 % specificity",
}
_MARKERS = "osD^vP*X"
_DPI = 150
_THUMBNAIL = 96
#: End of the name of the version for a phone.
NARROW = "-narrow.svg"


def use_style() -> None:
    """Set the style of every figure of the study (seaborn theme and matplotlib settings)."""
    sns.set_theme(context="notebook", style="whitegrid", palette=list(OKABE_ITO.values())[1:])
    mpl.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "figure.titlesize": 12,
            "figure.dpi": _DPI,
            "savefig.dpi": _DPI,
            "grid.color": "#dddddd",
            "axes.edgecolor": "#555555",
            "lines.linewidth": 1.8,
            # A dollar sign in a label is one, and begins no formula.
            "text.parse_math": False,
            # Ids inside an SVG come from this instead of from a random number.
            "svg.hashsalt": "leakfree",
        }
    )


def colour(name: str) -> str:
    """Return the fixed colour of a class, part, model or protocol; grey where it has none."""
    return COLOURS.get(re.sub(r"[^a-z0-9]", "", str(name).lower()), "#888888")


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name: its own in `COLOURS`, else one that no other name here has."""
    names = list(dict.fromkeys(names))
    chosen: dict[str, str] = {}
    for name in names:
        own = COLOURS.get(re.sub(r"[^a-z0-9]", "", str(name).lower()))
        if own and own not in chosen.values():
            chosen[name] = own
    spare = [OKABE_ITO[c] for c in _SPARE if OKABE_ITO[c] not in chosen.values()]
    for i, name in enumerate(name for name in names if name not in chosen):
        chosen[name] = spare[i] if i < len(spare) else "#888888"
    return {name: chosen[name] for name in names}


@dataclass(frozen=True)
class Entry:
    """What the index of figures says of one.

    Attributes
    ----------
    caption : str
        What the figure shows; it can be read alone.
    alt : str
        What is seen, for readers who do not see it.
    source : str
        Notebook or script that made it.
    tables : sequence of str
        Files of the run, relative to it, that it was made from.
    images : bool
        Whether it shows images of the cohort, so that it cannot be made without them.
    """

    caption: str
    alt: str
    source: str
    tables: Sequence[str] = ()
    images: bool = False


def save(
    fig: Figure | None,
    run_dir: str | os.PathLike,
    name: str,
    entry: Entry,
    narrow: Figure | None = None,
) -> Path:
    """Write ``figures/<name>`` as SVG or PNG, whichever is lighter, and its entry in ``figures/index.json``.

    A figure that has a version for a phone is written as SVG and as PNG, and that version beside it as
    ``<name>-narrow.svg``.

    Parameters
    ----------
    fig : matplotlib.figure.Figure or None
        The figure; the same figure gives the same bytes. None keeps the file that stands there.
    run_dir : path-like
        The run folder.
    name : str
        Lower-case letters, digits, ``_`` and ``-``.
    entry : Entry
        What the index says of it.
    narrow : matplotlib.figure.Figure, optional
        The same for a phone.

    Returns
    -------
    pathlib.Path
        The file that pages show; see `files_of`.

    Raises
    ------
    ValueError
        The name is not allowed, a text is empty, or the index that stands there is not one.
    FileNotFoundError
        There is no figure, and no file stands there.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"figure name {name!r}: only lower-case letters, digits, _ and - are allowed")
    if not entry.caption.strip() or not entry.alt.strip():
        raise ValueError(f"figure {name}: caption and alternative text are needed")
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    if fig is None:
        path = _kept(folder, name)
    elif narrow is None:
        path = _write_lighter(fig, folder, name)
    else:
        path = _write(folder, f"{name}.svg", _drawn(fig, name, "svg"))
        _write(folder, f"{name}.png", _drawn(fig, name, "png"))
        _write(folder, f"{name}{NARROW}", _drawn(narrow, f"{name}-narrow", "svg"))
    index = folder / "index.json"
    # Notebooks of one run may run side by side and share the index.
    with _locked(folder):
        try:
            entries = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
        except ValueError as error:
            raise ValueError(f"{index}: not an index of figures: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f"{index}: not an index of figures: not a mapping")
        entries[name] = {
            "caption": entry.caption,
            "alt": entry.alt,
            "source": entry.source,
            "tables": list(entry.tables),
            "files": [file.name for file in files_of(path)] if narrow else [path.name],
            "films": entry.images,
        }
        write_json(index, entries)
    return path


def note_cells(run_dir: str | os.PathLike, cells: Mapping[str, int]) -> None:
    """Write into ``figures/index.json`` which cell of its notebook shows each figure, by execution count."""
    folder = Path(run_dir) / "figures"
    with _locked(folder):
        index = folder / "index.json"
        entries = json.loads(index.read_text(encoding="utf-8"))
        for name, cell in cells.items():
            entries[name]["cell"] = cell
        write_json(index, entries)


def files_of(path: Path) -> list[Path]:
    """Return the files of a figure that stand beside the one that pages show, that one first."""
    others = [path.with_suffix(".png"), path.with_name(f"{path.stem}{NARROW}")]
    return [path, *(other for other in others if other != path and other.is_file())]


def _drawn(fig: Figure, name: str, kind: str) -> bytes:
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": f"leakfree {name}"}):
        fig.savefig(stream, format=kind, dpi=_DPI, metadata=metadata[kind], bbox_inches="tight")
    return stream.getvalue()


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _write_lighter(fig: Figure, folder: Path, name: str) -> Path:
    drawn = {kind: _drawn(fig, name, kind) for kind in ("svg", "png")}
    kind = min(drawn, key=lambda kind: len(drawn[kind]))
    path = _write(folder, f"{name}.{kind}", drawn[kind])
    for other in set(drawn) - {kind}:
        path.with_suffix(f".{other}").unlink(missing_ok=True)
    path.with_name(f"{name}{NARROW}").unlink(missing_ok=True)
    return path


def _kept(folder: Path, name: str) -> Path:
    for kind in ("svg", "png"):
        if (path := folder / f"{name}.{kind}").is_file():
            return path
    raise FileNotFoundError(f"figures/{name}: shows images and is not in the record of the run")


def learning_curves(history: pd.DataFrame, title: str = "Learning curves") -> Figure:
    """Draw loss and metrics by epoch, a panel each, training solid and validation dashed.

    Parameters
    ----------
    history : pandas.DataFrame
        ``epoch``; ``protocol`` and/or ``model``; any of ``loss, accuracy, roc_auc, macro_f1,
        average_precision``, each bare or after ``train_`` or ``val_``. Rows that share an epoch (seeds) are
        drawn as their mean with the range between the least and the greatest.
    title : str
        Title of the figure.
    """
    label = _labels(history)
    palette = colours(label)
    panels = {
        m: [c for c in _variants(m) if c in history and history[c].notna().any()] for m in _METRIC_NAMES
    }
    panels = {metric: found for metric, found in panels.items() if found}
    if not panels:
        raise ValueError("history has no column of a loss or metric")
    fig, axes = _panels(len(panels), width=4.2, height=3.4)
    for ax, (metric, found) in zip(axes, panels.items(), strict=True):
        for column in found:
            dashed = column.startswith("val_")
            sns.lineplot(
                data=pd.DataFrame({"x": history["epoch"], "y": history[column], "label": label}),
                **{"x": "x", "y": "y", "hue": "label", "palette": palette, "ax": ax, "legend": False},
                **{"marker": "s" if dashed else "o", "linestyle": "--" if dashed else "-"},
                errorbar=("pi", 100),
            )
        ax.set(xlabel="Epoch", ylabel=_METRIC_NAMES[metric])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], color=colour, label=name) for name, colour in palette.items()]
    used = [column for found in panels.values() for column in found]
    if any(column.startswith("val_") for column in used):
        handles += [
            Line2D([], [], color="#555555", marker="o", label="training"),
            Line2D([], [], color="#555555", marker="s", linestyle="--", label="validation"),
        ]
    return _finish(fig, title, handles)


def intervals(table: pd.DataFrame, title: str = "Scores on the test images") -> Figure:
    """Draw estimates with their intervals, a panel for each metric, all on one axis.

    Parameters
    ----------
    table : pandas.DataFrame
        ``metric, estimate, low, high``, with ``level`` where known, and ``model`` and/or ``protocol``. With
        both, models are rows and protocols are colours. Undefined estimates are marked in words.
    title : str
        Title of the figure.

    Raises
    ------
    ValueError
        The table mixes tasks, or holds one metric twice for the same model and protocol.
    """
    if "task" in table and len(set(table["task"])) > 1:
        raise ValueError("intervals of different tasks do not share a figure")
    keys = [column for column in ("model", "protocol") if column in table]
    if not keys:
        raise ValueError("intervals need a column model or protocol")
    if table.duplicated(["metric", *keys]).any():
        raise ValueError(f"intervals need one row for each metric and {' and '.join(keys)}")
    row_key, hue = keys[0], keys[-1]
    rows, palette = list(table[row_key].unique()), colours(table[hue])
    metrics = list(table["metric"].unique())
    shift = {n: 0.0 for n in palette}
    if row_key != hue:
        shift = dict(zip(palette, np.linspace(-0.18, 0.18, len(palette)), strict=True))
    fig, axes = _panels(len(metrics), width=3.6, height=1.5 + 0.5 * len(rows), sharex=True, sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        for record in table[table["metric"] == metric].to_dict("records"):
            name = record[hue]
            y = rows.index(record[row_key]) + shift[name]
            if np.isnan(record["estimate"]):
                ax.text(0.5, y, "undefined", transform=ax.get_yaxis_transform(), ha="center", va="center")
                continue
            marker = _MARKERS[list(palette).index(name) % len(_MARKERS)] if row_key != hue else "o"
            ax.plot([record["low"], record["high"]], [y, y], color=palette[name], lw=2.2)
            ax.plot(record["estimate"], y, marker, color=palette[name], ms=7, mec="white", mew=0.8)
        level = table["level"].iloc[0] if "level" in table else 0.95
        text = _METRIC_NAMES.get(metric, metric)
        ax.set(xlabel=f"{text} ({level:.0%} interval)".replace("%", " %"))
        named = [textwrap.fill(model_name(str(row)), 24) for row in rows]
        ax.set(yticks=range(len(rows)), yticklabels=named, ylim=(len(rows) - 0.5, -0.5))
        ax.xaxis.set_major_locator(MaxNLocator(4))
    handles = []
    if row_key != hue:
        handles = [
            Line2D([], [], color=colour, marker=_MARKERS[i % len(_MARKERS)], label=name)
            for i, (name, colour) in enumerate(palette.items())
        ]
    return _finish(fig, title, handles)


def confusion_matrix(frame: pd.DataFrame, title: str = "Confusion matrix") -> Figure:
    """Draw counts of images with the share of their true class (see `leakfree.scores.metrics.confusion`)."""
    counts = frame.to_numpy()
    total = counts.sum(axis=1, keepdims=True)
    share = counts / np.where(total > 0, total, 1)
    text = np.array(
        [
            [f"{n:,}\n({s:.1%})".replace("%", " %") for n, s in zip(*row, strict=True)]
            for row in zip(counts, share, strict=True)
        ]
    )
    size = 1.6 + 1.1 * len(frame)
    fig, ax = plt.subplots(figsize=(size + 0.9, size), layout="constrained")
    sns.heatmap(
        pd.DataFrame(share, frame.index, frame.columns),
        **{"annot": text, "fmt": "", "cmap": "Blues", "vmin": 0, "vmax": 1, "square": True, "ax": ax},
        cbar_kws={
            "label": "Share of the true class",
            "format": PercentFormatter(1, symbol=" %"),
            "shrink": 0.8,
        },
    )
    ax.set(xlabel="Predicted class", ylabel="True class")
    ax.tick_params(axis="y", rotation=0)
    return _finish(fig, title)


def roc_curves(curves: Sequence[tuple[str, Predictions]], title: str = "ROC curves") -> Figure:
    """Draw ROC curves of several predictions of one task; with three classes, a panel for each class.

    Parameters
    ----------
    curves : sequence of (str, Predictions)
        Name and predictions. The legend gives ROC AUC (the mean over classes where there are three).
    title : str
        Title of the figure.

    Raises
    ------
    ValueError
        There is no curve, or the predictions have different classes.
    """
    if len({p.classes for _, p in curves}) != 1:
        raise ValueError("ROC curves share a figure only where the classes are the same")
    classes = curves[0][1].classes
    classes = classes[1:] if len(classes) == 2 else classes
    palette = colours(name for name, _ in curves)
    fig, axes = _panels(len(classes), width=3.6, height=4.4)
    for ax, shown in zip(axes, classes, strict=True):
        ax.plot([0, 1], [0, 1], color="#999999", lw=1, ls=":")
        for i, (name, predictions) in enumerate(curves):
            points = roc_points(predictions)
            points = points[points["class"] == shown]
            style = ("-", "--", "-.", (0, (1, 1)))[i % 4]
            ax.plot(points["fpr"], points["tpr"], color=palette[name], ls=style)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=f"{shown} against the rest")
        ax.set(xlabel="False positive rate", ylabel="True positive rate")
    if len(classes) == 1:
        axes[0].set_title(f"positive class: {classes[0]}")
    average = "mean AUC" if len(classes) > 1 else "AUC"
    handles = []
    for i, (name, predictions) in enumerate(curves):
        area = point_estimates(predictions, ["roc_auc"])["roc_auc"]
        style = ("-", "--", "-.", (0, (1, 1)))[i % 4]
        label = f"{name} ({average} {area:.3f})"
        handles.append(Line2D([], [], color=palette[name], ls=style, label=label))
    handles.append(Line2D([], [], color="#999999", lw=1, ls=":", label="chance"))
    return _finish(fig, title, handles, columns=2)


def class_bars(counts: pd.DataFrame, title: str = "Images by class") -> Figure:
    """Draw numbers of images as bars.

    Parameters
    ----------
    counts : pandas.DataFrame
        ``label, images``, and ``part`` where the bars are to stand by part.
    title : str
        Title of the figure.
    """
    palette = colours(counts["label"])
    group = "part" if "part" in counts else "label"
    n_bars = len(counts)
    fig, ax = plt.subplots(figsize=(max(4.5, 1.6 + 0.75 * n_bars), 3.6), layout="constrained")
    sns.barplot(
        counts,
        x=group,
        y="images",
        hue="label",
        palette=palette,
        saturation=1,
        ax=ax,
        legend=False,
        errorbar=None,
    )
    for bars in ax.containers:
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=2)
    ax.margins(y=0.12)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="Part" if group == "part" else "Class", ylabel="Images")
    ax.grid(axis="x", visible=False)
    handles = [Patch(color=colour, label=name) for name, colour in palette.items()]
    return _finish(fig, title, handles if group == "part" else [])


def images_per_patient(
    counts: Sequence[int] | Mapping[str, Sequence[int]], title: str = "Images of one patient"
) -> Figure:
    """Draw how many patients have how many images, patients on a logarithmic axis.

    Parameters
    ----------
    counts : sequence of int, or mapping of str to sequence of int
        Number of images of each patient; with a mapping, a panel for each group (such as class).
    title : str
        Title of the figure.
    """
    groups = counts if isinstance(counts, Mapping) else {"": counts}
    groups = {name: np.asarray(values, dtype=np.int64) for name, values in groups.items()}
    if any(values.size == 0 or values.min() < 1 for values in groups.values()):
        raise ValueError("images_per_patient needs patients with one image or more")
    palette = colours(groups)
    if "" in palette:
        palette[""] = OKABE_ITO["blue"]
    most = max(values.max() for values in groups.values())
    alone = 6.0 if len(groups) == 1 else 3.6
    fig, axes = _panels(len(groups), width=alone, height=3.4, sharey=True)
    for ax, (name, values) in zip(axes, groups.items(), strict=True):
        sns.histplot(
            x=values, bins=np.arange(0.5, most + 1), color=palette[name], alpha=1, edgecolor="white", ax=ax
        )
        several = (values > 1).mean()
        about = f"{len(values):,} patients, {several:.1%} with several images".replace("%", " %")
        ax.set(yscale="log", xlabel="Images of the patient", ylabel="Patients", xlim=(0.3, most + 0.7))
        # From half a patient, so that bars of one patient can be seen.
        ax.set_ylim(bottom=0.5)
        ax.set_title(f"{name}\n{about}" if name else about, fontsize=9)
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        step = 5 * -(-most // 60) if most > 12 else 1
        ax.set_xticks(sorted({1, *range(step, most + 1, step)}))
        ax.grid(axis="x", visible=False)
    return _finish(fig, title)


def contact_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 6,
    *,
    credit: str,
    title: str = "Sample images",
) -> Figure:
    """Draw grey images as thumbnails of at most 96 pixels a side.

    Parameters
    ----------
    images : uint8 array of shape (n, h, w), or sequence of n arrays of shape (h_i, w_i)
        Grey values, 0 black; the aspect ratio is kept.
    titles : sequence of str
        One above each image; long ones are cut.
    columns : int
        Images in a row.
    credit : str
        Source and licence of the images, written below them.
    title : str
        Title of the figure.
    """
    if len(images) == 0 or len(images) != len(titles):
        raise ValueError(f"contact_sheet needs one title an image, got {len(images)} and {len(titles)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = max(1.25 * columns, 3.6)
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, 1.45 * rows + 0.7), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, pixels, text in zip(axes.flat, images, titles, strict=False):
        thumbnail = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
        thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        ax.imshow(np.asarray(thumbnail), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(text if len(text) <= 18 else f"{text[:17]}…", fontsize=7, pad=2)
    # Where a text is wrapped, Matplotlib looks for formulas whatever the style says.
    shown = credit.replace("$", r"\$")
    fig.supxlabel(shown, fontsize=7, color="#555555", wrap=True, parse_math=True)
    return _finish(fig, title)


def words_alone(text: str) -> Figure:
    """Draw a line of text where a figure would be."""
    fig, ax = plt.subplots(figsize=(6.0, 0.6), layout="constrained")
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color="#555555", transform=ax.transAxes)
    plt.close(fig)
    return fig


def _variants(metric: str) -> tuple[str, ...]:
    return (f"train_{metric}", f"val_{metric}", metric)


def _labels(table: pd.DataFrame) -> pd.Series:
    """Return the name of each row's curve: of protocol and model, what tells the rows apart."""
    keys = [column for column in ("model", "protocol") if column in table]
    if not keys:
        raise ValueError("history needs a column protocol or model")
    keys = [column for column in keys if len(set(table[column])) > 1] or keys[:1]
    return table[keys].astype(str).agg(", ".join, axis=1)


def _panels(n: int, width: float, height: float, **options: object) -> tuple[Figure, np.ndarray]:
    fig, axes = plt.subplots(
        1, n, figsize=(max(width * n, 4.8), height), layout="constrained", squeeze=False, **options
    )
    return fig, axes[0]


def _finish(fig: Figure, title: str, handles: Sequence[Line2D | Patch] = (), columns: int = 4) -> Figure:
    """Add title and legend outside the axes, and close the figure so that notebooks do not show it twice."""
    fig.suptitle(title)
    fig.get_layout_engine().set(w_pad=0.09, h_pad=0.06)
    if handles:
        columns = min(len(handles), columns)
        fig.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3)
    plt.close(fig)
    return fig


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out while the block runs; the lock ends with the process and leaves no file."""
    try:
        import fcntl
    except ImportError:  # Windows: runs there write one figure at a time
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# Whoever draws imports this module.
use_style()
