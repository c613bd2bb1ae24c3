"""One axis of an image: its extent, its middle and the positions of its pixels."""

import math

import numpy as np
from keras import ops

from stn_keras.checks.arguments import as_flag


def extent(length, align_corners, dtype="float32"):
    """Pixel steps from −1 to 1: edge to edge, or centre to centre of the corner pixels."""
    return as_float(length - 1 if as_flag(align_corners, "align_corners") else length, dtype)


def positive_extent(length, align_corners, dtype="float32"):
    """`extent` to divide by: 1 instead of 0, for one pixel with `align_corners`."""
    return at_least_one(extent(length, align_corners, dtype))


def at_least_one(number):
    return max(number, 1.0) if isinstance(number, float) else ops.maximum(number, 1)


def pixel_step(length, count, align_corners, dtype):
    """Input pixels per output pixel of the identity, along an axis of `length` and `count`."""
    return extent(length, align_corners, dtype) / positive_extent(count, align_corners, dtype)


def from_middle(length, dtype, shape=(-1,)):
    """Pixel positions counted from the middle of their axis, in a shape with -1 for this axis."""
    if isinstance(length, int):
        return ops.convert_to_tensor(np.reshape(np.arange(length) - (length - 1) / 2, shape), dtype)
    return ops.reshape(ops.arange(length, dtype=dtype) - middle(length, dtype), shape)


def middle(length, dtype):
    """The pixel coordinate of the middle of an axis."""
    return (as_float(length, dtype) - 1) / 2


def as_float(number, dtype):
    """A size as a float, or a tensor as one of a dtype."""
    return float(number) if isinstance(number, (int, float)) else ops.cast(number, dtype)


def mean_over_points(values):
    """`(batch, ...)` → `(batch,)`, 0 without points. Keras's `mean` rounds float64 on PyTorch."""
    axes = tuple(range(1, len(values.shape)))
    count = math.prod(ops.shape(values)[1:])
    return ops.sum(values, axis=axes) / at_least_one(as_float(count, values.dtype))
