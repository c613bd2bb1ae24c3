"""Figures: what a spatial transformer looks at, and how a training run went.

Each function returns a `matplotlib.figure.Figure` and leaves no global state behind: nothing here
goes through pyplot, so figures can be drawn without a display, from callbacks and from threads.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from stn_keras.training.files import FIGURE, replacing

__all__ = ["curves", "outline", "pixels", "save", "warps"]

HIGHLIGHT = "#ffd21f"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # safe for colour-blind


def outline(grid, image_size, *, align_corners=False):
    """Outer edge of the region of the input that a sampling grid covers.

    The line runs half an output pixel outside the border samples, through the outer edges of the
    output's pixels: the identity's outline is the image's own edge. Between and beyond samples the
    grid is taken as linear, which is exact for an affine transform.

    Args:
        grid: (height, width, 2), normalised (x, y), from output to input coordinates.
        image_size: (height, width) of the input, in pixels.
        align_corners: the convention of `grid`, as in `stn_keras.grid_sample`.

    Returns:
        (points, 2) float array of (x, y) in input pixels, where pixel centres are integers: a
        closed line that starts and ends at the output's top-left corner and goes on to its
        top-right one.

    Example:
        >>> grid = stn_keras.affine_grid([[0.5, 0, 0, 0, 0.5, 0]], (2, 2))
        >>> outline(grid[0], (32, 32))[[0, 3, 6, 9]]  # the corners of the middle
        array([[ 7.5,  7.5],
               [23.5,  7.5],
               [23.5, 23.5],
               [ 7.5, 23.5]])
    """
    edges = _half_a_pixel_further(_half_a_pixel_further(np.asarray(grid, float), 0), 1)
    line = np.concatenate([edges[0], edges[1:, -1], edges[-1, -2::-1], edges[-2::-1, 0]])
    size = np.array(image_size[::-1])
    return (line + 1) * (size - 1) / 2 if align_corners else ((line + 1) * size - 1) / 2


def _half_a_pixel_further(grid, axis):
    if grid.shape[axis] == 1:  # One sample has no direction to extend in.
        return grid
    first, second = np.take(grid, [0], axis), np.take(grid, [1], axis)
    last, before = np.take(grid, [-1], axis), np.take(grid, [-2], axis)
    with np.errstate(invalid="ignore"):  # infinite points have no direction either
        ends = 1.5 * first - 0.5 * second, 1.5 * last - 0.5 * before
    return np.concatenate([ends[0], grid, ends[1]], axis)


def warps(images, warped, grid, titles=None, *, align_corners=False):
    """Images above their warps, with the sampled region outlined on each image.

    A dot marks the corner that becomes the warp's top-left one, so that rotations and reflections
    are seen. All images share one scale, wide enough for every outline, inside the image or not.

    Args:
        images: (batch, height, width, 1 or 3), uint8 in 0 … 255 or floats in 0 … 1.
        warped: (batch, out_height, out_width, 1 or 3), the same range.
        grid: (batch, out_height, out_width, 2), normalised sampling grid of the warps.
        titles: optional, one string per image.
        align_corners: the convention of `grid`, as in `stn_keras.grid_sample`.

    Returns:
        A `Figure`: two rows, a column per image.

    Raises:
        ValueError: if the batch sizes differ.

    Example:
        >>> layer = stn_keras.SpatialTransformer(transform="attention")
        >>> theta = np.tile([0.5, 0.0, 0.0], (len(images), 1))
        >>> shown = images.astype("float32") / 255
        >>> figure = warps(shown, layer([shown, theta]), layer.grid(theta, (32, 32)))
        >>> save(figure, "warps.png")
    """
    images, warped, grid = np.asarray(images), np.asarray(warped), np.asarray(grid)
    if not len(images) == len(warped) == len(grid):
        raise ValueError(
            "`images`, `warped` and `grid` must have one batch size. Received shapes: "
            f"{images.shape}, {warped.shape}, {grid.shape}"
        )
    size = images.shape[1:3]
    lines = [outline(one, size, align_corners=align_corners) for one in grid]
    x_range, y_range = _view(lines, size)

    figure = Figure(figsize=(1.5 * len(images) + 0.4, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for axis, image, line in zip(axes[0], images, lines, strict=True):
        _show(axis, image)
        _mark(axis, line)
        axis.set(xlim=x_range, ylim=y_range[::-1], facecolor="#e4e4e8", anchor="S")
    for axis, image in zip(axes[1], warped, strict=True):
        _show(axis, image)
        _dot(axis, -0.5, -0.5)
        axis.set(anchor="N")
    for axis, title in zip(axes[0], titles or [], strict=titles is not None):
        axis.set_title(title, fontsize=10)
    axes[0, 0].set_ylabel("input", fontsize=11)
    axes[1, 0].set_ylabel("warped", fontsize=11)
    return figure


def _view(lines, size):
    """Ranges of x and y, in pixels, that show the whole image and every finite outline point."""
    height, width = size
    points = np.concatenate([*lines, [[-0.5, -0.5], [width - 0.5, height - 0.5]]])
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.06 * (high - low).max()
    return np.stack([low - margin, high + margin], axis=1)


def _show(axis, image):
    axis.imshow(
        image if image.shape[-1] == 3 else image[..., 0],
        cmap="gray",
        vmin=0,
        vmax=255 if image.dtype == np.uint8 else 1,
        interpolation="nearest",
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _mark(axis, line):
    axis.plot(
        *line.T,
        color=HIGHLIGHT,
        linewidth=1.6,
        path_effects=[Stroke(linewidth=3.2, foreground="#202020"), Normal()],
    )
    _dot(axis, *line[0])


def _dot(axis, x, y):
    axis.plot(
        x, y, "o", color=HIGHLIGHT, markersize=7, markeredgecolor="#202020", clip_on=False, zorder=3
    )


def curves(histories, reference=None, *, evaluation="val", reference_name="published log"):
    """Loss and accuracy over epochs, of one run or of several.

    Solid lines are the set evaluated on, thin dashed lines the training set. Histories listed under
    one name are seeds: their mean is drawn over a band from their minimum to their maximum, as far
    as the shortest of them goes.

    Args:
        histories: dict from a name to a history, or to a list of histories. A history maps the
            columns "loss", "accuracy" (shares, 0 … 1), "val_loss", "val_accuracy" to one number
            per epoch, like `History.history` and `history.csv`. "epoch", counted from 0, is
            optional; missing columns are not drawn.
        reference: optional (epochs, accuracies) of a published run, epochs counted from 1,
            accuracies in 0 … 1.
        evaluation: prefix of the columns of the set evaluated on: "val" or "test".
        reference_name: its name in the legend.

    Returns:
        A `Figure`: loss on the left, accuracy in percent on the right, epochs counted from 1.

    Example:
        >>> history = {"loss": [2.0, 1.6], "accuracy": [0.2, 0.4], "val_accuracy": [0.3, 0.4]}
        >>> save(curves({"one cycle": history}), "curves.png")
    """
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for color, (name, runs) in zip(_cycle(len(histories)), histories.items(), strict=True):
        runs = [runs] if isinstance(runs, dict) else runs
        for axis, column in ((loss, "loss"), (accuracy, "accuracy")):
            _draw(axis, runs, column, color=color, linewidth=1, linestyle="--", alpha=0.7)
            _draw(axis, runs, f"{evaluation}_{column}", color=color, linewidth=1.8, label=name)
    if reference is not None:
        accuracy.plot(*reference, color="black", linewidth=1.5, label=reference_name)

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
    loss.legend(
        handles=[
            Line2D(
                [],
                [],
                color="#555555",
                linewidth=1.8,
                label={"val": "validation"}.get(evaluation, evaluation),
            ),
            Line2D([], [], color="#555555", linewidth=1, linestyle="--", label="training"),
        ],
        fontsize=10,
    )
    return figure


def _cycle(count):
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _draw(axis, runs, column, **style):
    runs = [run for run in runs if column in run]
    if not runs:
        return
    length = min(len(run[column]) for run in runs)
    epochs = 1 + np.asarray(runs[0].get("epoch", np.arange(length)), float)[:length]
    values = np.array([np.asarray(run[column], float)[:length] for run in runs])
    marker = "o" if length == 1 else None  # A line through one point is not seen.
    axis.plot(epochs, values.mean(axis=0), marker=marker, **style)
    if len(runs) > 1:
        axis.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0
        )


def pixels(figure):
    """The drawn figure as an array, which `tf.summary.image` takes.

    Example:
        >>> pixels(curves({"run": {"loss": [2.0, 1.6]}})).shape
        (480, 1200, 3)

    Args:
        figure: a `Figure`.

    Returns:
        (height, width, 3) uint8 array, 0 … 255.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save(figure, path):
    """Write `figure` to `path`, whole or not at all; the suffix gives the format.

    The file is written under a temporary name in the same folder and then renamed, so that a full
    disk or a kill never leaves half a file at `path`. A PNG file says that it is a figure, and
    `data.pictures` passes over it.

    Example:
        >>> save(curves({"run": {"loss": [2.0, 1.6]}}), "curves.png")

    Args:
        figure: a `Figure`.
        path: where; an image's or a document's suffix that Matplotlib knows.

    Raises:
        OSError: if the file cannot be written; what was there before stays.
    """
    with replacing(path) as temporary:
        mark = FIGURE if temporary.suffix.lower() == ".png" else None
        figure.savefig(temporary, metadata=mark)
