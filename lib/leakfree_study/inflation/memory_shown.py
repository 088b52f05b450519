"""Inflation against training loss, as a reader sees it: a picture, two tables and sentences."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from leakfree_study.inflation.memory import Rule
from leakfree_study.inflation.memory_results import AS_PAPERS, LAST, STRANGERS

CONDITIONS = {
    "base": "ResNet18 from scratch, 64 px",
    "augmented": "ResNet18 from scratch, 64 px, augmentation",
    "larger": "ResNet18 from scratch, 96 px",
    "other-network": "EfficientNet-Lite0 from scratch, 64 px",
    "imagenet": "EfficientNet-Lite0, ImageNet weights, 64 px",
    "published": "EfficientNet-Lite0, ImageNet weights, 64 px, augmentation",
}
EPOCHS = {
    LAST: "after the last epoch",
    STRANGERS: "chosen on other patients",
    AS_PAPERS: "chosen on tested patients",
}
_BLUE, _ORANGE, _GREY = "#1b6ca8", "#c2571a", "#777777"


def epoch_words(epoch: str) -> str:
    """Say how the epoch is chosen."""
    return EPOCHS.get(epoch, f"training {epoch}")


def _interval(row: dict[str, float], form: str = "+.3f") -> str:
    return f"{row['estimate']:{form}} ({row['low']:{form}} to {row['high']:{form}})"


def shown_table(table: pd.DataFrame) -> pd.DataFrame:
    """Put `leakfree_study.inflation.memory_results.table` into the words of a page."""
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "Networks": CONDITIONS[row["condition"]],
                "Epoch": epoch_words(row["epoch"]),
                "Training loss": "" if pd.isna(row["train_loss"]) else f"{row['train_loss']:.3f}",
                "Draws": f"{row['draws']:d}"
                if row["draws"] == row["of_draws"]
                else f"{row['draws']} of {row['of_draws']}",
                "Images": f"{row['n_images']:,d}",
                "Patients": f"{row['n_patients']:,d}",
                "ROC AUC, clean": f"{row['clean']:.3f}",
                "Difference": _interval(row),
                "Share of what was left": f"{row['share']:+.0%}",
                "Over patients alone": f"{row['low_patients']:+.3f} to {row['high_patients']:+.3f}",
                "Verdict": row["verdict"] if isinstance(row["verdict"], str) else "",
                "Precision": row["precision"],
            }
        )
    return pd.DataFrame(rows)


def coverage_shown(coverage: pd.DataFrame) -> pd.DataFrame:
    """Put `leakfree_study.inflation.memory_results.coverage_table` into the words of a page."""
    intervals = {"patients": "patients alone", "training": "training alone", "both": "both, as used here"}
    rows = []
    for row in coverage.to_dict("records"):
        rows.append(
            {
                "Simulated studies": row["world"],
                "Luck of training": f"{row['luck']:.2f}",
                "Interval over": intervals[row["interval"]],
                "Holds the truth": f"{row['share']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
                "Mean width": f"{row['width']:.3f}",
                "Studies": f"{row['studies']:d}",
            }
        )
    return pd.DataFrame(rows)


def said(table: pd.DataFrame, coverage: pd.DataFrame, rules: Rule) -> str:
    """Say what was found, as Markdown: one line a finding, with numbers of the tables."""
    of_base = table[table["condition"] == "base"].set_index("epoch")
    lines = []
    for loss in rules.losses:
        if f"loss {loss:g}" in of_base.index:
            row = of_base.loc[f"loss {loss:g}"].to_dict()
            lines.append(
                f"**At a training loss of {loss:g} or below** the networks gain {_interval(row)}, on "
                f"{row['n_images']:,d} images of {row['n_patients']:,d} patients. Verdict: {row['verdict']}."
                + _draws_left_out(row)
            )
    if LAST in of_base.index:
        row = of_base.loc[LAST].to_dict()
        lines.append(
            f"**After the last epoch**, at a mean training loss of {row['train_loss']:.3f}, they gain "
            f"{_interval(row)} in all {row['draws']} draws. With the leak the ROC AUC is {row['leaky']:.3f}, "
            f"without it {row['clean']:.3f}. The difference is {row['share']:.0%} of what was left to gain."
        )
    chosen = of_base.loc[[name for name in (STRANGERS, AS_PAPERS) if name in of_base.index]]
    if len(chosen) == 2:
        first, second = chosen.to_dict("records")
        lines.append(
            f"**The epoch chosen on validation.** On other patients: {_interval(first)}. On images of tested "
            f"patients, as a split by image does: {_interval(second)}."
        )
    others = table[(table["condition"] != "base") & (table["epoch"] == LAST)].to_dict("records")
    if others:
        told = [
            f"{CONDITIONS[row['condition']]}: {_interval(row)} at a training loss of {row['train_loss']:.3f}"
            for row in others
        ]
        lines.append(
            f"**Other ways to train**, after the last epoch, {others[0]['draws']} draws each; described, not "
            f"tested. {'; '.join(told)}.{_other_precision(of_base.iloc[0].to_dict(), others)}"
        )
    measured = coverage[coverage["world"].str.startswith("as measured")]
    both, alone = (measured[measured["interval"] == name]["share"] for name in ("both", "patients"))
    lines.append(
        f"**The interval.** It holds the truth in {both.min():.0%} to {both.max():.0%} of simulated studies "
        f"like this one. An interval over patients alone holds it in {alone.min():.0%} to {alone.max():.0%}."
    )
    there = set(table["condition"])
    if missing := [CONDITIONS[one.name] for one in rules.conditions if one.name not in there]:
        lines.append(f"**Not trained yet:** {'; '.join(missing)}.")
    hours = table.drop_duplicates("condition")["seconds"].sum() / 3600
    lines.append(f"**Cost.** All networks together took {hours:.1f} hours of one thread.")
    return "".join(f"- {line}\n" for line in lines)


def _other_precision(base: dict[str, Any], others: list[dict[str, Any]]) -> str:
    if (told := " and ".join(sorted({row["precision"] for row in others}))) == base["precision"]:
        return ""
    return (
        f" They were computed in {told}, the {base['of_draws']} draws in {base['precision']}, since the "
        "processor was another one."
    )


def _draws_left_out(row: dict[str, float]) -> str:
    out = int(row["of_draws"] - row["draws"])
    if not out:
        return ""
    return f" In {out} of {row['of_draws']} draws a network did not reach this loss; the draw is left out."


def picture(curve: pd.DataFrame, table: pd.DataFrame, rules: Rule) -> Figure:
    """Draw inflation against training loss, and below it every condition after its last epoch."""
    rows = len(best_known(table))
    figure = plt.figure(figsize=(6.8, 5 + 0.6 * rows), layout="constrained")
    # Each with a width of its own: the names of the ways to train are long.
    above, below = figure.subfigures(2, 1, height_ratios=(4.2, 0.6 * rows))
    _against_loss(above.subplots(), curve, table, rules)
    _by_condition(below.subplots(), table)
    return figure


def _against_loss(axes: Axes, curve: pd.DataFrame, table: pd.DataFrame, rules: Rule) -> None:
    base = curve[curve["condition"] == "base"]
    for number, (_, of_draw) in enumerate(base.groupby("draw")):
        label = "one draw" if number == 0 else None
        axes.plot(of_draw["train_loss"], of_draw["gain"], color=_GREY, lw=0.7, alpha=0.6, label=label)
    points = table[(table["condition"] == "base") & table["epoch"].str.startswith("loss")]
    axes.errorbar(
        points["train_loss"],
        points["estimate"],
        yerr=[points["estimate"] - points["low"], points["high"] - points["estimate"]],
        fmt="o",
        color=_BLUE,
        capsize=4,
        lw=1.8,
        ms=7,
        label="mean of the draws, 95 % interval",
        zorder=3,
    )
    axes.axhline(0, color="#333333", lw=0.8)
    axes.axhspan(-rules.margin, rules.margin, color="#eeeeee", zorder=0, label="margin")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.invert_xaxis()
    axes.set_xlabel("Training loss (the more is known by heart, the further right)")
    axes.set_ylabel("ROC AUC that other images of\nthe tested patients add")
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _by_condition(axes: Axes, table: pd.DataFrame) -> None:
    rows = best_known(table)
    for y, row in enumerate(rows.to_dict("records")):
        colour = _BLUE if row["epoch"] not in (STRANGERS, AS_PAPERS) else _ORANGE
        axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.8)
        axes.plot(row["estimate"], y, "o", color=colour, ms=7)
    names = [
        "\n".join(wrap(CONDITIONS[row.condition], 39)) + f"\n{epoch_words(row.epoch)}, {row.draws} draws"
        for row in rows.itertuples()
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0, color="#333333", lw=0.8)
    axes.set_xlabel("ROC AUC added")


def best_known(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each condition at its last epoch, and both choices by validation of base."""
    last = table[table["epoch"] == LAST]
    chosen = table[(table["condition"] == "base") & table["epoch"].isin([STRANGERS, AS_PAPERS])]
    return pd.concat([last, chosen], ignore_index=True)
