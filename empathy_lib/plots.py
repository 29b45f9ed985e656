"""The figures of the notebooks. English labels (no Chinese font is assumed); each returns a Matplotlib figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Keep a figure as ``<folder>/<name>.png`` and hand it back for the notebook to show."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return close(figure)


def close(figure: Figure) -> Figure:
    """Forget a figure, so that it is shown once, as the cell's value."""
    plt.close(figure)
    return figure


def bars(counts: Mapping[str, float], title: str, xlabel: str = "count") -> Figure:
    """Horizontal bars with their values, in the order given: a funnel, reasons, sizes."""
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(counts) + 1))
    axis.bar_label(axis.barh(list(counts), list(counts.values()), color="#4c72b0"), fmt="{:,.4g}", padding=3)
    axis.invert_yaxis()
    axis.set(title=title, xlabel=xlabel, xmargin=0.12)
    return figure


def histograms(values: Mapping[str, Sequence[float]], title: str, xlabel: str, bins: int = 30) -> Figure:
    """Overlaid histograms of several named samples, each as a share of its own sample."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(v, dtype=float) for v in values.values()]), bins)
    for name, sample in values.items():
        n = len(sample)
        axis.hist(sample, edges, weights=np.full(n, 1 / n), alpha=0.5, label=f"{name} (n={n})")
    axis.set(title=title, xlabel=xlabel, ylabel="share")
    axis.legend()
    return figure


def curves(log: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]], window: int = 1) -> Figure:
    """Training curves: one panel for each title, its keys of the log over steps (with points where they are few), with a
    moving mean of ``window``; four panels a row."""
    rows, columns = -(-len(panels) // 4), min(4, len(panels))
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False)
    table = pd.DataFrame(log, columns=None if log else ["step"]).set_index("step")
    for axis in axes.flat[len(panels):]:
        axis.remove()
    for axis, (title, keys) in zip(axes.flat, panels.items()):
        for key in table.columns.intersection(keys, sort=False):
            values = table[key].dropna()
            if 0 < len(values) < 0.2 * len(table):  # a look at the dev split now and then
                axis.plot(values, "o-", label=key)
                continue
            line, = axis.plot(values, alpha=0.3 if window > 1 else 1, label=key if window == 1 else None)
            if 1 < window <= len(values):
                axis.plot(values.rolling(window).mean(), color=line.get_color(), label=f"{key} (mean of {window})")
        axis.set(title=title, xlabel="step")
        if axis.lines:
            axis.legend(fontsize=7)
    figure.tight_layout()
    return figure


def intervals(values: Mapping[str, Mapping[str, Any]], title: str, chance: float | None = None) -> Figure:
    """Points with 95 % intervals: ``{name: {"value", "ci95", "n"}}``; a dotted line where chance is."""
    figure, axis = plt.subplots(figsize=(7, 0.5 * len(values) + 1))
    for row, (name, v) in enumerate(values.items()):
        axis.plot([v["ci95"][0], v["value"], v["ci95"][1]], [row] * 3, "-o", markevery=[1], color="#4c72b0")
        axis.annotate(f"{v['value']:.2f} (n={v['n']})", (v["value"], row), (0, 6), textcoords="offset points",
                      ha="center", fontsize=8)
    if chance is not None:
        axis.axvline(chance, ls=":", color="grey", label="chance")
        axis.legend()
    axis.set(title=title, xlim=(-0.03, 1.03), ymargin=min(0.25, 0.75 / len(values)), yticks=range(len(values)), yticklabels=list(values))
    axis.invert_yaxis()
    return figure


def threshold(curves: Mapping[str, Sequence[float]], chosen: float) -> Figure:
    """Precision, recall and F1 over T (``reward_model.threshold_curves``); the chosen T is marked."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    for name in ("precision", "recall", "F1"):
        axis.plot(curves["T"], curves[name], label=name)
    axis.axvline(chosen, ls="--", color="grey", label=f"T = {chosen}")
    axis.set(title="r_answer as a classifier", xlabel="threshold T on the cosine", ylim=(0, 1.03))
    axis.legend()
    return figure


def shares(rows: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str], title: str) -> Figure:
    """Grouped horizontal bars with 95 % intervals: by row one ``{"value", "ci95"}`` for each of ``names``."""
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(rows) + 1))
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        cells = [values[i] for values in rows.values()]
        places = np.arange(len(cells)) + height * (i - (len(names) - 1) / 2)
        axis.barh(places, [cell["value"] for cell in cells], height, label=name)
        axis.hlines(places, *np.transpose([cell["ci95"] for cell in cells]), color="black", lw=1)
    axis.set(title=title, xlabel="share of questions", xlim=(0, 1.03), yticks=range(len(rows)),
             yticklabels=[row.replace("_", " ") for row in rows])
    axis.invert_yaxis()
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / len(rows) - 0.06), ncol=len(names))
    return figure


def effects(said: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Differences to the full run with 95 % intervals (``ablations.compare``), a panel for each measure; filled where the
    interval leaves 0 out."""
    rows = {name: figures for name, figures in said.items() if next(iter(figures.values()))["effect"]}
    labels = list(next(iter(rows.values()), {})) or [""]
    figure, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels), 0.34 * len(rows) + 1.3), squeeze=False, sharey=True)
    for axis, label in zip(axes[0], labels):
        for place, figures in enumerate(rows.values()):
            x = figures[label]["effect"]
            low, high = x["ci95"] or (x["value"], x["value"])
            axis.plot([low, x["value"], high], [place] * 3, "-o", markevery=[1], color="#4c72b0",
                      mfc="#4c72b0" if low > 0 or high < 0 else "white")
        axis.axvline(0, ls=":", color="grey")
        axis.set(xlabel=f"effect on {label}", yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.4, -0.6))
    figure.suptitle(title)
    figure.tight_layout()
    return figure
