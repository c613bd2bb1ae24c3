"""Figures of the distorted images: test errors beside the paper's, warps, and the angles found."""

import statistics
import textwrap

import numpy as np
from matplotlib.figure import Figure

from results import tables
from stn_keras.viz import curves


def axes(keys):
    """The models and the distortions of `(model, distortion)` keys, each once."""
    return [list(dict.fromkeys(names)) for names in zip(*keys)]


def error_bars(errors, paper):
    """A panel for each distortion: our mean and range over seeds, and the paper's figure."""
    models, distortions = axes(paper)
    figure = Figure(figsize=(11, 3.6), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(distortions), sharex=True, sharey=True)
    for panel, name in zip(panels, distortions):
        for height, model in enumerate(reversed(models)):
            if (model, name) in paper:
                panel.plot(paper[model, name], height, "|", color="black", markersize=14)
            else:
                panel.text(
                    0.6, height, "not in the paper", va="center", fontsize=8, color="#777777"
                )
            if (model, name) in errors:
                values = errors[model, name]
                color = curves.COLORS["st-" in model]
                panel.plot([min(values), max(values)], [height, height], color=color)
                face = color if len(values) >= tables.SEEDS else "white"
                panel.plot(statistics.mean(values), height, "o", color=color, markerfacecolor=face)
        panel.set_title(textwrap.fill(tables.DISTORTIONS[name], 20), fontsize=10)
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(axis="x", labelsize=8)
    panels[len(panels) // 2].set_xlabel("test error, % (lower is better)")
    ticks = (0.5, 1, 2, 5, 10, 20)
    panels[0].set_xscale("log")
    panels[0].set_xticks(ticks, ticks)
    panels[0].minorticks_off()
    panels[0].set_yticks(range(len(models)), [tables.NETWORKS[model] for model in reversed(models)])
    panels[0].plot([], [], "|", color="black", markersize=14, label="paper")
    panels[0].plot([], [], "o-", color=curves.COLORS[1], label="with a transformer")
    panels[0].plot([], [], "o-", color=curves.COLORS[0], label="without")
    few = f"fewer than {tables.SEEDS} seeds"
    panels[0].plot([], [], "o", color="black", markerfacecolor="white", label=few)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def read_images(folder, model, distortions):
    """The arrays that runs of seed 0 saved, by distortion."""
    paths = {name: folder / f"{model}-{name}-0.npz" for name in distortions}
    return {name: dict(np.load(path)) for name, path in paths.items() if path.exists()}


def rows_of_images(saved, before, after):
    """Two rows of images for each distortion: the arrays `before` above the arrays `after`."""
    columns = len(next(iter(saved.values()))[before])
    figure = Figure(figsize=(columns + 0.4, 2.4 * len(saved)), dpi=85, layout="constrained")
    groups = figure.subfigures(len(saved), 1, squeeze=False)[:, 0]
    for group, (name, arrays) in zip(groups, saved.items()):
        rows = arrays[before], arrays[after]
        panels = group.subplots(2, columns)
        brightest = max(row.max() for row in rows)
        for panel, image in zip(panels.flat, (image for row in rows for image in row)):
            panel.imshow(image, cmap="gray", vmin=0, vmax=brightest, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        panels[0, 0].set_ylabel("input", fontsize=11)
        panels[1, 0].set_ylabel("warped", fontsize=11)
        group.suptitle(tables.DISTORTIONS[name], fontsize=12)
    return figure


def angles(saved):
    """A panel for each distortion: how many test images have a true and a found angle."""
    figure = Figure(figsize=(4.4 * len(saved) + 0.6, 4.2), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(saved), squeeze=False)[0]
    for panel, (name, arrays) in zip(panels, saved.items()):
        true, found = (np.degrees(arrays[key]) for key in ("true", "found"))
        limit = np.ceil(np.abs(true).max())
        *_, counts = panel.hist2d(
            true, found, 60, range=[[-limit, limit]] * 2, cmap="magma_r", cmin=1
        )
        figure.colorbar(counts, ax=panel, label="test images", shrink=0.8)
        panel.plot([-limit, limit], [-limit, limit], color="black", linewidth=0.6)
        panel.set(xlabel="true angle, degrees", ylabel="angle found, degrees")
        panel.set_title(tables.DISTORTIONS[name], fontsize=11)
        panel.set_aspect("equal")
    return figure
