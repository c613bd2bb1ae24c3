"""Maps boxes of the input of a warp to upright boxes of its output."""

import math

import keras
import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_coordinates, as_flag
from stn_keras.checks.images import check_option
from stn_keras.sampler.axes import as_float
from stn_keras.sampler.linear import vector
from stn_keras.sampler.points import check_batch
from stn_keras.sampler.taps import between

FORMATS = (  # of `keras.utils.bounding_boxes`
    "xyxy",
    "yxyx",
    "xywh",
    "center_xywh",
    "center_yxhw",
    "rel_xyxy",
    "rel_yxyx",
    "rel_xywh",
    "rel_center_xywh",
)
HALF = 0.5  # boxes count pixels from the edge of the first one, points from its centre


def warped_boxes(warp, boxes, format, clip):
    """See `stn_keras.Warp.boxes`."""
    boxes = as_coordinates(boxes, "boxes")
    check_boxes(boxes, warp, format)
    corners = converted(boxes, format, "xyxy", warp.input_size)
    batch, count, _ = backend.shape(boxes)
    sides = outline(warp.points_per_side)
    per_box, unit = len(sides), ops.cast(sides, boxes.dtype)
    low, high = corners[..., None, :2], corners[..., None, 2:]
    points = ops.reshape(low + unit * (high - low) - HALF, (batch, count * per_box, 2))
    moved, depth = warp.anywhere(points)
    shape = (backend.shape(moved)[0], count, per_box)
    found = around(ops.reshape(moved, (*shape, 2)) + HALF)
    if as_flag(clip, "clip"):
        lengths = [as_float(length, found.dtype) for length in warp.output_size[::-1]]
        found = between(found, 0, vector(2 * lengths, found.dtype))
    good = ops.logical_and(has_area(corners), has_area(found))
    one_side = ops.all(ops.reshape(depth, shape) * ops.reshape(depth, shape)[..., :1] > 0, axis=-1)
    good = ops.logical_and(good, one_side)[..., None]
    found = converted(ops.where(good, found, 0), "xyxy", format, warp.output_size)
    return ops.where(good, found, -1)


def check_boxes(boxes, warp, format):
    """Raises a ValueError if boxes do not have the shape that a warp needs."""
    check_option("format", format, FORMATS)
    if len(boxes.shape) != 3 or boxes.shape[-1] != 4 or len(warp.output_size) != 2:
        raise ValueError(
            "`boxes` must have shape (batch, n, 4), for a warp of images. Received: "
            f"boxes.shape={tuple(boxes.shape)} for an output of size {warp.output_size}"
        )
    check_batch(boxes, warp, "boxes")


def converted(boxes, source, target, size):
    """Converts boxes in images of a size from one of Keras's formats to another."""
    return keras.utils.bounding_boxes.convert_format(
        boxes, source, target, *size, dtype=keras.backend.standardize_dtype(boxes.dtype)
    )


def outline(per_side):
    """Points on the outline of the unit square, including the corners, `(4 · per_side, 2)`."""
    side = np.arange(per_side) / per_side
    ahead, still = np.stack([side, 0 * side], axis=-1), np.stack([0 * side, side], axis=-1)
    return np.concatenate([ahead, still + [1, 0], [1, 1] - ahead, [0, 1] - still])


def around(points):
    """The smallest boxes around finite points, `(batch, n, points, 2)` → `(batch, n, 4)`.

    Without any finite point, the left edge is inf and the right edge is -inf.
    """
    finite = ops.isfinite(points)
    low = lowest(ops.where(finite, points, math.inf))
    high = -lowest(ops.where(finite, -points, math.inf))
    return ops.concatenate([low, high], axis=-1)


def lowest(points):
    """The minimum over a power of two of points, by halves: `ops.min` needs at least one box."""
    while points.shape[-2] > 1:
        half = points.shape[-2] // 2
        first, second = points[..., :half, :], points[..., half:, :]
        points = ops.where(first < second, first, second)
    return points[..., 0, :]


def has_area(boxes):
    """Whether boxes `(left, top, right, bottom)` have a positive width and height."""
    return ops.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
