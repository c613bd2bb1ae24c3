"""Figures of the regions that a spatial transformer samples, and of training runs.

Each function returns a `matplotlib.figure.Figure` and leaves no global state. None of them uses
pyplot, so figures can be drawn without a display, from callbacks and from threads.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from stn_keras.checks.arguments import as_flag
from stn_keras.system.files import FIGURE, replacing
from stn_keras.viz.alignment import alignment
from stn_keras.viz.curves import curves
from stn_keras.viz.following import follow, show

__all__ = ["alignment", "curves", "follow", "outline", "pixels", "save", "warps"]

HIGHLIGHT = "#ffd21f"


def outline(grid, image_size, *, align_corners=False):
    """Outer edge of the region of the input that a sampling grid covers.

    The line runs half an output pixel outside the border samples, along the outer edges of the
    output's pixels, so the outline of the identity is the edge of the image. Between and beyond
    samples the grid is assumed to be linear, which is exact for an affine transform.

    Args:
        grid: (height, width, 2), normalised (x, y), from output to input coordinates.
        image_size: (height, width) of the input, in pixels.
        align_corners: the convention of `grid`, as in `stn_keras.grid_sample`.

    Returns:
        (points, 2) float array of (x, y) in input pixels, with pixel centres at integers. It is a
        closed line that starts and ends at the top-left corner of the output and continues to its
        top-right corner.

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
    aligned = as_flag(align_corners, "align_corners")
    return (line + 1) * (size - 1) / 2 if aligned else ((line + 1) * size - 1) / 2


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

    A dot marks the corner that becomes the top-left one of the warp, which shows rotations and
    reflections. All images have one scale, at which every outline is visible.

    Volumes are shown by their middle slices across z, y and x. The outline is the region that the
    slice of the warp samples, seen along that axis; the slice may be turned out of the plane.

    Args:
        images: (batch, height, width, 1 or 3), uint8 in 0 … 255 or floats in 0 … 1; for volumes
            with a depth before the height.
        warped: (batch, out_height, out_width, 1 or 3), the same range.
        grid: (batch, out_height, out_width, 2), normalised sampling grid of the warps; for volumes
            (batch, out_depth, out_height, out_width, 3).
        titles: optional, one string per image.
        align_corners: the convention of `grid`, as in `stn_keras.grid_sample`.

    Returns:
        A `Figure`: two rows, or for volumes two for each slice; a column per image.

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
    slices = _slices(images, warped, grid) if grid.shape[-1] == 3 else {"": (images, warped, grid)}
    # The heights of the rows, if columns have a width of 1.
    heights = [x.shape[1] / x.shape[2] for arrays in slices.values() for x in arrays[:2]]
    size = 1.5 * len(images) + 0.4, 1.5 * sum(heights) + (0.5 if titles else 0.2)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(len(heights), len(images), squeeze=False, height_ratios=heights)
    pairs = axes.reshape(len(slices), 2, len(images))
    for rows, (name, (images, warped, grid)) in zip(pairs, slices.items()):
        _draw(rows, images, warped, grid, align_corners)
        rows[0, 0].set_ylabel(f"input{name}", fontsize=11)
        rows[1, 0].set_ylabel(f"warped{name}", fontsize=11)
    for axis, title in zip(axes[0], titles or [], strict=titles is not None):
        axis.set_title(title, fontsize=10)
    return figure


def _slices(*volumes):
    """The middle slices of images, warps and grids, by the text for their label. Slices of grids
    have the two coordinates in the plane of the slice."""
    found = {}
    for axis, (name, plane) in enumerate([("z", [0, 1]), ("y", [0, 2]), ("x", [1, 2])], 1):
        images, warped, grid = (
            volume.take(volume.shape[axis] // 2, axis=axis) for volume in volumes
        )
        found[f", middle of {name}"] = images, warped, grid[..., plane]
    return found


def _draw(axes, images, warped, grid, align_corners):
    """Images in the first of two rows of axes, outlined by their grids, and warps in the second."""
    size = images.shape[1:3]
    lines = [outline(one, size, align_corners=align_corners) for one in grid]
    x_range, y_range = _view(lines, size)
    for axis, image, line in zip(axes[0], images, lines, strict=True):
        _show(axis, image)
        contour = [Stroke(linewidth=3.2, foreground="#202020"), Normal()]
        axis.plot(*line.T, color=HIGHLIGHT, linewidth=1.6, path_effects=contour)
        _dot(axis, *line[0])
        axis.set(xlim=x_range, ylim=y_range[::-1], facecolor="#e4e4e8")
    for axis, image in zip(axes[1], warped, strict=True):
        _show(axis, image)
        _dot(axis, -0.5, -0.5)


def _view(lines, size):
    """Ranges of x and y, in pixels, that show the whole image and every finite outline point.

    They have the image's aspect ratio.
    """
    size = np.array(size[::-1])
    points = np.concatenate([*lines, [[-0.5, -0.5], size - 0.5]])
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.56 * ((high - low) / size).max() * size  # with a margin
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half], axis=1)


def _show(axis, image):
    show(axis, image, interpolation="nearest")
    axis.spines[:].set_visible(False)


def _dot(axis, x, y):
    axis.plot(
        x, y, "o", color=HIGHLIGHT, markersize=7, markeredgecolor="#202020", clip_on=False, zorder=3
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
    disk or a kill never leaves half a file at `path`. A PNG file is marked as a figure in its
    metadata, and `data.pictures` skips it.

    Example:
        >>> save(curves({"run": {"loss": [2.0, 1.6]}}), "curves.png")

    Args:
        figure: a `Figure`.
        path: path of the file, with a suffix that Matplotlib knows.

    Raises:
        OSError: if the file cannot be written; an existing file stays.
    """
    with replacing(path) as temporary:
        mark = FIGURE if temporary.suffix.lower() == ".png" else None
        figure.savefig(temporary, metadata=mark)
