"""The figure of a fixed and a moving picture, before and after alignment."""

import numpy as np
from matplotlib.figure import Figure

from stn_keras.viz.following import show

TILES = 8  # of the checkerboard, along the shorter side


def alignment(fixed, before, after):
    """A figure of a fixed picture and of a moving picture before and after alignment.

    The lower row shows the differences from the fixed picture before and after, and a checkerboard
    of the fixed and the aligned picture. Where these two fit, edges continue across its squares.

    Args:
        fixed: The fixed picture, (height, width, 1 or 3), uint8 in 0 … 255.
        before: The moving picture, resampled to the shape of `fixed`.
        after: The aligned picture, of the same shape.

    Returns:
        A `Figure` of two rows and three columns.

    Example:
        >>> figure = alignment(images[0], images[1], images[0])
        >>> len(figure.axes)
        6
    """
    fixed, before, after = (np.asarray(x, "float64") for x in (fixed, before, after))
    height, width = fixed.shape[:2]
    figure = Figure(figsize=(9.6, 6.4 * height / width + 0.8), dpi=120, layout="constrained")
    shown = {
        "fixed": fixed,
        "moving, before": before,
        "moving, aligned": after,
        "difference before": difference(fixed, before),
        "difference after": difference(fixed, after),
        "checkerboard of fixed and aligned": checkerboard(fixed, after),
    }
    for axis, (title, picture) in zip(figure.subplots(2, 3).flat, shown.items(), strict=True):
        show(axis, np.clip(np.round(picture), 0, 255).astype("uint8"))
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    return figure


def difference(first, second):
    """The difference of two pictures as grey levels: white for none, darker for larger ones."""
    apart = np.abs(first - second).mean(axis=-1, keepdims=True)
    return 255 - apart * (255 / max(np.percentile(apart, 99), 64))


def checkerboard(first, second):
    side = max(min(first.shape[:2]) // TILES, 1)
    rows, columns = (np.arange(length) // side for length in first.shape[:2])
    odd = (rows[:, None] + columns) % 2 == 1
    return np.where(odd[..., None], second, first)
