"""The figure of images, points and boxes, before and after a warp."""

import numpy as np
from keras import ops
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def follow(images, warp, points=None, boxes=None):
    """Draws images above the warped images, with points and boxes in both.

    A point or a box has the same colour before and after the warp.

    Args:
        images: (batch, height, width, 1 or 3), uint8 in 0 … 255 or floats in 0 … 1.
        warp: A `stn_keras.Warp` of the images.
        points: Optional points (batch, n, 2), `(x, y)` in pixels of the images.
        boxes: Optional boxes (batch, n, 4) in the format `"xyxy"`.

    Returns:
        A `Figure` of two rows, with a column per image.

    Example:
        >>> warp = transforms.Rigid().warp(np.full((8, 3), 0.1), (32, 32))
        >>> figure = follow(images, warp, points=np.full((8, 1, 2), 16.0))
        >>> save(figure, "follow.png")
    """
    points = np.empty((len(images), 0, 2)) if points is None else points
    boxes = np.empty((len(images), 0, 4)) if boxes is None else boxes
    rows = (
        (images, points, boxes),
        map(ops.convert_to_numpy, (warp(images), warp.to_output(points), warp.boxes(boxes))),
    )
    size = 1.5 * len(images) + 0.4, 3.4
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for row, name, shown in zip(axes, ("input", "warped"), rows):
        row[0].set_ylabel(name, fontsize=11)
        for axis, *one in zip(row, *shown, strict=True):
            image, points, boxes = map(np.asarray, one)
            show(axis, image)
            mark(axis, points, boxes)
    return figure


def show(axis, image, **options):
    """Draws an image without ticks: three channels, or the first of another number.

    Its values are uint8 in 0 … 255, or floats in 0 … 1.
    """
    most = 255 if image.dtype == np.uint8 else 1
    image = image if image.shape[-1] == 3 else image[..., 0]
    axis.imshow(image, cmap="gray", vmin=0, vmax=most, **options)
    axis.set(xticks=[], yticks=[])


def mark(axis, points, boxes):
    """Draws points `(n, 2)` and boxes `(n, 4)`, `"xyxy"`, on the axes of an image."""
    axis.autoscale(False)  # what leaves the image is not drawn
    for number, (left, top, right, bottom) in enumerate(boxes):
        corner = left - 0.5, top - 0.5  # a pixel is drawn about its centre
        edges = corner, right - left, bottom - top
        axis.add_patch(Rectangle(*edges, fill=False, color=f"C{number % 10}", linewidth=1.6))
    for number, point in enumerate(points):
        axis.plot(*point, "o", color=f"C{number % 10}", markersize=4, markeredgecolor="white")
