"""Draws the diagrams of `docs/conventions.md`: `python -m docs.diagrams`."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from docs.pictures import FOLDER, INK
from stn_keras import pixel_sample, plots
from stn_keras.geometry import compose_displacements

MARK, FIRST, SECOND = "#d55e00", "#0072b2", "#009e73"
NONE = (0, 0)


def arrow(axis, start, end, color, **style):
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "linewidth": 2,
        "shrinkA": 0,
        "shrinkB": 0,
    } | style
    axis.annotate("", end, start, arrowprops=style)


def rotation_vectors():
    """The axes of a volume, seen at an angle, and which way a vector along each of them turns."""
    figure = Figure(figsize=(5.4, 3.9), dpi=110, layout="constrained")
    plane = figure.subplots()
    labels = {
        "x": ("x, along the width", (1.3, 0.02), "left"),
        "y": ("y, along the height", (0, 1.38), "center"),
        "z": ("z, along the depth", (0.6, -0.72), "right"),
    }
    axes = {"x": np.array([1, 0]), "y": np.array([0, 1]), "z": np.array([0.55, -0.5])}
    for name, end in axes.items():
        arrow(plane, NONE, 1.25 * end, INK)
        text, where, side = labels[name]
        plane.text(*where, text, fontsize=11, ha=side, va="center")
    angle = np.linspace(0.15, np.pi / 2 - 0.15, 40)[:, None]
    turns = {"z": ("x", "y", MARK), "x": ("y", "z", FIRST), "y": ("z", "x", SECOND)}
    for name, (start, end, color) in turns.items():
        arc = 0.8 * (np.cos(angle) * axes[start] + np.sin(angle) * axes[end])
        plane.plot(*arc[:-1].T, color=color, linewidth=2)
        arrow(plane, arc[-3], arc[-1], color)
        text = f"a vector along {name}\nturns {start} towards {end}"
        where = {"z": (0.95, 0.95), "x": (-0.55, 0.25), "y": (1.2, -0.62)}[name]
        plane.text(*where, text, color=color, fontsize=10, ha="center", va="center")
    plane.set(xlim=(-1.1, 2.2), ylim=(1.5, -0.9), aspect="equal")
    plane.axis("off")
    return figure


def squares(axis, corner, size=4):
    for x, y in np.ndindex(size, size):
        axis.add_patch(
            Rectangle((corner[0] + x - 0.5, corner[1] + y - 0.5), 1, 1, fill=False, ec="0.7")
        )


def displacements():
    """Where the output pixel p looks, and what two displacements after each other give."""
    figure = Figure(figsize=(8.6, 3.4), dpi=110, layout="constrained")
    one, two = figure.subplots(1, 2, width_ratios=[9.4, 5])
    on_white = {"fontsize": 10, "bbox": {"color": "white", "pad": 1.5}}
    p, moved = np.array([1, 1]), np.array([2.5, 2])
    output = np.array([5, 0])
    for corner, title in ((NONE, "input"), (output, "output")):
        squares(one, corner)
        one.text(corner[0] + 1.5, -0.8, title, ha="center", fontsize=11)
    arrow(one, p, moved, MARK)
    arrow(one, moved, p + output, "0.4", linestyle="--", linewidth=1)
    one.plot(*p, "o", color=INK, markerfacecolor="white")
    one.plot(*moved, "o", color=MARK)
    one.plot(*(p + output), "s", color=MARK, markersize=9)
    one.text(0.7, 0.75, "p", ha="right", fontsize=11)
    one.text(5.7, 0.75, "p", ha="right", fontsize=11)
    one.text(1.5, 2.75, "displacement(p)", color=MARK, ha="center", va="center", **on_white)

    second, first = np.array([2.0, 0.4]), np.array([0.0, 1.7])
    fields = [np.broadcast_to(v.astype("float32"), (1, 4, 4, 2)) for v in (first, second)]
    total = np.array(compose_displacements(*fields))[0, 1, 0]
    start = np.array([0, 1])
    squares(two, NONE)
    arrow(two, start, start + second, SECOND)
    arrow(two, start + second, start + second + first, FIRST)
    arrow(two, start, start + total, MARK, linestyle="--")
    two.plot(*start, "o", color=INK, markerfacecolor="white")
    two.text(-0.15, 0.75, "p", ha="right", fontsize=11)
    two.text(1.2, 0.85, "second", color=SECOND, ha="center", **on_white)
    two.text(2.15, 1.7, "first", color=FIRST, ha="left", **on_white)
    two.text(0.9, 2.4, "composed", color=MARK, ha="right", **on_white)
    two.text(1.5, -0.8, "input", ha="center", fontsize=11)
    for axis, right in ((one, 9), (two, 4)):
        axis.set(xlim=(-0.9, right), ylim=(3.7, -1.2), aspect="equal")
        axis.axis("off")
    return figure


def reflections():
    """Which pixel of a row of four each position beyond its ends repeats."""
    figure = Figure(figsize=(7.4, 2.4), dpi=110, layout="constrained")
    row = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    positions = np.arange(-4, 8)
    points = np.stack([positions, np.zeros_like(positions)], -1)[None, None].astype("float32")
    for axis, aligned in zip(figure.subplots(2, 1), (False, True), strict=True):
        options = {"fill_mode": "reflect", "align_corners": aligned}
        values = np.array(pixel_sample(row, points, **options)).ravel().round().astype(int)
        for x, value in zip(positions, values, strict=True):
            inside = 0 <= x < 4
            shade = str(0.55 + 0.1 * value)
            axis.bar(x, 1, 1, color=shade, edgecolor="white", alpha=1 if inside else 0.55)
            axis.text(x, 0.5, str(value), ha="center", va="center", color=INK, fontsize=11)
        edge = 0 if aligned else 0.5
        for low, high in ((-0.2, 0.12), (0.88, 1.2)):
            axis.vlines([-edge, 3 + edge], low, high, color=MARK, linewidth=2.5)
        axis.set(xlim=(-4.6, 7.6), ylim=(-0.25, 1.25), xticks=[], yticks=[])
        axis.set_title(f'fill_mode="reflect", align_corners={aligned}', fontsize=10)
        axis.spines[["left", "right", "top", "bottom"]].set_visible(False)
    return figure


def main():
    for draw in (rotation_vectors, displacements, reflections):
        plots.save(draw(), FOLDER / f"{draw.__name__}.png")


if __name__ == "__main__":
    main()
