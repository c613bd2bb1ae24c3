"""One axis of an image: its extent, its middle and the positions of its pixels."""

import math

import numpy as np
from keras import ops

from stn_keras.checks.arguments import as_flag


def extent(length, align_corners):
    """Pixel steps from −1 to 1: edge to edge, or centre to centre of the corner pixels."""
    return length - 1 if as_flag(align_corners, "align_corners") else length


def positive_extent(length, align_corners, dtype):
    """`extent` as a float to divide by: 1 instead of 0, for one pixel with `align_corners`."""
    found = extent(length, align_corners)
    return as_float(max(found, 1) if isinstance(found, int) else ops.maximum(found, 1), dtype)


def pixel_step(length, count, align_corners, dtype):
    """Input pixels per output pixel of the identity, along an axis of `length` and `count`."""
    unit = as_float(extent(length, align_corners), dtype)
    return unit / positive_extent(count, align_corners, dtype)


def from_middle(length, dtype):
    """Pixel positions counted from the middle of their axis, `(length,)`."""
    if isinstance(length, int):
        return ops.convert_to_tensor(np.arange(length) - (length - 1) / 2, dtype)
    return ops.arange(length, dtype=dtype) - middle(length, dtype)


def to_middle(length, dtype, shape):
    """The distance from each pixel to the middle of its axis, in a shape with -1 for this axis."""
    if isinstance(length, int):
        return ops.convert_to_tensor(np.reshape((length - 1) / 2 - np.arange(length), shape), dtype)
    return ops.reshape(-from_middle(length, dtype), shape)


def first(length, dtype):
    """The position of the first pixel, counted from the middle of its axis."""
    return (1 - as_float(length, dtype)) / 2


def middle(length, dtype):
    """The pixel coordinate of the middle of an axis."""
    return (as_float(length, dtype) - 1) / 2


def as_float(number, dtype):
    """A size as a float, or a tensor as one of a dtype."""
    return float(number) if isinstance(number, (int, float)) else ops.cast(number, dtype)


def mean_over_points(values):
    """`(batch, ...)` → `(batch,)`. Keras's `mean` rounds float64 on PyTorch."""
    axes = tuple(range(1, len(values.shape)))
    count = math.prod(ops.shape(values)[1:])
    return ops.sum(values, axis=axes) / as_float(count, values.dtype)
