"""The correlation of two images in a small window around each pixel."""

import math

from keras import ops

from stn_keras.sampler.axes import as_float

FLAT = 1e-10  # a product of variances next to which windows count as flat
ROUNDING = 1e-12  # a variance next to a squared mean that float32 can't tell from 0


def squared_correlation(first, second, window):
    """0 to 1, of images `(batch, *size, channels)`, in that shape; 0 where one of them is flat."""
    x, y = scaled(first), scaled(second)
    count = ops.ones_like(x[:1, ..., :1])
    moments = [count, x, y, *3 * [ops.zeros_like(x)]]
    for axis in range(1, len(x.shape) - 1):
        moments = in_windows(moments, window, axis)
    count, x, y, *sums = moments
    xx, yy, xy = (total / count for total in sums)
    return xy**2 / ((xx + ROUNDING * x**2) * (yy + ROUNDING * y**2) + FLAT)


def scaled(images):
    """Images without their mean, in units of their root mean square, both taken as constants.

    This alters no correlation, and gives `FLAT` the same meaning for all images.
    """
    axes = tuple(range(1, len(images.shape) - 1))
    count = as_float(math.prod(ops.shape(images)[1:-1]), images.dtype)
    middle = ops.sum(images, axis=axes, keepdims=True) / count
    size = ops.sqrt(ops.sum(images**2, axis=axes, keepdims=True) / count)
    middle, size = ops.stop_gradient(middle), ops.stop_gradient(size)
    return (images - middle) / ops.where(size > 0, size, 1)


def in_windows(moments, window, axis):
    """The moments in a window around each pixel along an axis, from the moments of the pixels.

    Moments are a count, two means and the sums of squares and products of what is left without
    them, here in the part of a window inside the image. They are merged from those of shorter
    windows, as the difference of a mean square and a squared mean has no digits left where an image
    is bright and flat.
    """
    edges = [(0, 0)] * len(moments[0].shape)
    edges[axis] = (window // 2, window // 2)
    single = merged = [ops.pad(values, edges) for values in moments]
    length = 1
    for bit in f"{window:b}"[1:]:
        merged = merge(merged, merged, length, axis)
        length *= 2
        if bit == "1":
            merged = merge(merged, single, length, axis)
            length += 1
    return merged


def merge(windows, others, length, axis):
    """The moments of windows of that length together with others that begin where they end.

    By the pairwise formulas of Chan, Golub & LeVeque, 1979.
    """
    others = [between(values, axis, length, None) for values in others]
    windows = [between(values, axis, None, ops.shape(others[0])[axis]) for values in windows]
    (first, x, y, *sums), (second, other_x, other_y, *other_sums) = windows, others
    count = first + second
    share = second / ops.maximum(count, 1)
    dx, dy = other_x - x, other_y - y
    weight = first * share
    across = [weight * dx * dx, weight * dy * dy, weight * dx * dy]
    sums = [a + b + c for a, b, c in zip(sums, other_sums, across)]
    return [count, x + share * dx, y + share * dy, *sums]


def between(values, axis, start, stop):
    """A part of the pixels along an axis."""
    return values[(slice(None),) * axis + (slice(start, stop),)]
