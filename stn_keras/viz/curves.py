"""The figure of learning curves; `stn_keras.plots` exports the function."""

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

__all__ = ["curves"]

# Colour-blind readers can distinguish these.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLES: list[dict[str, Any]] = [{"linewidth": 1.8}, {"linewidth": 1.3, "linestyle": "-."}]
TRAINING: dict[str, Any] = {"linewidth": 1, "linestyle": "--"}
NAMES = {"val": "validation"}


def curves(
    histories, reference=None, *, evaluation="val", reference_name="published log", note=None
):
    """Draws loss and accuracy over epochs, for one or several runs.

    Solid lines are the evaluation set, and thin dashed lines are the training set. A list of
    histories under one name is drawn as seeds of one run: their mean over a band from their minimum
    to their maximum, up to the last epoch of the shortest history.

    Args:
        histories: Dict from a name to a history or to a list of histories. A history maps the
            columns "loss", "accuracy" (0 … 1), "val_loss" and "val_accuracy" to one number per
            epoch, like `History.history` and `history.csv`. A column "epoch", counted from 0, is
            optional. Missing columns are not drawn.
        reference: Optional (epochs, accuracies) of a published run, with epochs counted from 1 and
            accuracies in 0 … 1.
        evaluation: Prefix of the columns of the evaluation set, "val" or "test"; or a pair of
            prefixes. The second one is drawn dash-dotted.
        reference_name: Name of the reference in the legend.
        note: Optional sentence below the figure.

    Returns:
        A `Figure`: loss on the left, accuracy in percent on the right, epochs counted from 1.

    Example:
        >>> history = {"loss": [2.0, 1.6], "accuracy": [0.2, 0.4], "val_accuracy": [0.3, 0.4]}
        >>> save(curves({"one cycle": history}), "curves.png")
    """
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    seeds = {name: [runs] if isinstance(runs, dict) else runs for name, runs in histories.items()}
    prefixes = [evaluation] if isinstance(evaluation, str) else evaluation
    for color, (name, runs) in zip(itertools.cycle(COLORS), seeds.items()):
        for axis, column in ((loss, "loss"), (accuracy, "accuracy")):
            _draw(axis, runs, column, color=color, alpha=0.7, **TRAINING)
            for prefix, style in zip(prefixes, STYLES):
                label = name if prefix == prefixes[0] else None
                _draw(axis, runs, f"{prefix}_{column}", color=color, label=label, **style)
    if reference is not None:
        accuracy.plot(*reference, color="black", linewidth=1.5, label=reference_name)
    _label(loss, accuracy)
    _legend(loss, prefixes, {column for runs in seeds.values() for run in runs for column in run})
    if note:
        figure.supxlabel(note, fontsize=9, color="#555555")
    return figure


def _label(loss, accuracy):
    loss.set(ylabel="cross-entropy loss (nats)")
    accuracy.set(ylabel="accuracy")
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    for axis in (loss, accuracy):
        axis.set(xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    accuracy.legend(*accuracy.get_legend_handles_labels(), loc="lower right", fontsize=10)


def _legend(axis, prefixes, columns):
    """Adds a legend that explains the line style of each set."""
    styles = {
        NAMES.get(prefix, prefix): style
        for prefix, style in zip(prefixes, STYLES)
        if len(prefixes) == 1 or columns & {f"{prefix}_loss", f"{prefix}_accuracy"}
    }
    lines = [
        Line2D([], [], color="#555555", label=name, **style)
        for name, style in {**styles, "training": TRAINING}.items()
    ]
    axis.legend(handles=lines, fontsize=10)


def _draw(axis, runs, column, **style):
    runs = [run for run in runs if column in run]
    if not runs:
        return
    length = min(len(run[column]) for run in runs)
    epochs = 1 + np.asarray(runs[0].get("epoch", np.arange(length)), float)[:length]
    values = np.array([np.asarray(run[column], float)[:length] for run in runs])
    marker = "o" if length == 1 else None  # a line through one point is invisible
    axis.plot(epochs, values.mean(axis=0), marker=marker, **style)
    if len(runs) > 1:
        axis.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0
        )
