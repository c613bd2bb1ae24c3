"""The images' gradient of an affine warp, gathered instead of scattered.

A sample contributes to the gradient of the pixels around its position, so the images' gradient is
usually scattered, sample by sample, on one core. For an affine warp it can be gathered instead: the
samples that read a pixel are around the position to which the inverse maps the pixel, at a distance
that depends on the magnification. If the magnification is small, each pixel's gradient is gathered
from a window of samples, which is much faster (benchmarks/README.md).
"""

import functools

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.sampler.axes import from_middle, middle
from stn_keras.sampler.taps import bounded, clamp

SIDE = 4  # of the window of samples; warps that magnify more are scattered


def gathered(upstream, scatter, *, matrix, size):
    """The gradient of the images of a bilinear affine warp with a constant outside.

    Args:
        upstream: `(batch, height, width, channels)`, the gradient of the samples.
        scatter: Function without arguments that gives what this returns, for any warp.
        matrix: `(batch, 2, 3)`, see `stn_keras.sampler.warps.Affine`.
        size: `(height, width)` of the images.

    Returns:
        `(batch, height, width, channels)`.
    """
    (a, b, _), (c, d, _) = elements(matrix)
    # A sample mixes pixels less than one away along x and along y.
    reach = ops.maximum(ops.abs(a) + ops.abs(c), ops.abs(b) + ops.abs(d))
    fits = ops.all(reach < SIDE / 2 * ops.abs(a * d - b * c))  # False for NaN

    gather = backend.compile(functools.partial(window_sum, size=size))
    return ops.cond(fits, lambda: gather(upstream, matrix), scatter)


def window_sum(upstream, matrix, *, size):
    """`gathered` from the samples that may have seen each pixel: `(batch, *size, channels)`."""
    _, height, width, channels = backend.shape(upstream)
    (a, b, x), (c, d, y) = elements(matrix)
    x = ops.reshape(from_middle(size[1], matrix.dtype), (1, 1, -1, 1)) - x
    y = ops.reshape(from_middle(size[0], matrix.dtype), (1, -1, 1, 1)) - y
    # Not times the inverse: compilers repeat cheap steps where they are needed, and may round them
    # differently, but a window's indices and weights must begin at the same sample. A division
    # they do once.
    determinant = a * d - b * c
    u = window_start((d * x - b * y) / determinant, width)
    v = window_start((a * y - c * x) / determinant, height)
    # From the point where the window's first sample was taken to the pixel.
    aside, below = x - a * u - b * v, y - c * u - d * v
    down, right = np.divmod(np.arange(SIDE**2, dtype="int32"), SIDE)
    row, in_height = on_axis(v, down, height)
    column, in_width = on_axis(u, right, width)
    down, right = (ops.cast(steps, matrix.dtype) for steps in (down, right))
    weights = hat(aside - a * right - b * down) * hat(below - c * right - d * down)
    weights = ops.cast(ops.where(ops.logical_and(in_height, in_width), weights, 0), upstream.dtype)
    samples = ops.reshape(upstream, (-1, height * width, channels))
    taps = (ops.split(tensor, SIDE**2, axis=-1) for tensor in (row * width + column, weights))
    indices, weights = taps
    return backend.gather_sums(samples, indices, [weights], finite=True)[0]


def window_start(centre, length):
    """The first of the samples about a centre, both counted from the middle of the axis."""
    half = middle(length, centre.dtype)
    return backend.floor(bounded(centre + half, length) + (1 - SIDE / 2)) - half


def on_axis(start, steps, length):
    """The indices of samples by steps from the first, and which of them are on the axis."""
    position = ops.cast(start + middle(length, start.dtype), "int32") + steps
    index = clamp(position, length)
    return index, index == position


def hat(distance):
    """The weight of a pixel in a bilinear sample, along one axis."""
    return ops.relu(1 - ops.abs(distance))


def elements(matrix):
    """Rows of elements, `(batch, 1, 1, 1)` each."""
    found = ops.unstack(ops.reshape(matrix, (-1, 6, 1, 1, 1)), axis=1)
    return found[:3], found[3:]
