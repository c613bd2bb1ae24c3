"""The images' gradient of an affine warp, gathered instead of scattered.

A sample contributes to the gradient of the pixels around its position, so the images' gradient is
usually scattered, sample by sample, on one core. For an affine warp it can be gathered instead: the
samples that read a pixel are around the position to which the inverse maps the pixel, at a distance
that depends on the magnification. If the magnification is small, each pixel's gradient is gathered
from a window of samples, which is much faster (benchmarks/README.md).
"""

import itertools
import math
import operator

from keras import ops

from stn_keras import backend
from stn_keras.sampler.axes import from_middle, middle
from stn_keras.sampler.taps import bounded, clamp

SIDE = 4  # of the window of samples; warps that magnify more are scattered


def gathered(upstream, scatter, *, matrix, size):
    """The gradient of the images of a bilinear affine warp with a constant outside.

    Args:
        upstream: `(batch, height, width, channels)`, the gradient of the samples.
        scatter: Function without arguments that computes the same for any warp.
        matrix: `(batch, 2, 3)`, see `stn_keras.sampler.matrix_warps.Affine`.
        size: `(height, width)` of the images.

    Returns:
        `(batch, height, width, channels)`.
    """
    (a, b, _), (c, d, _) = elements(matrix)
    # A sample mixes pixels less than one away along x and along y.
    reach = ops.maximum(ops.abs(a) + ops.abs(c), ops.abs(b) + ops.abs(d))
    fits = ops.all(reach < SIDE / 2 * ops.abs(a * d - b * c))  # False for NaN

    return ops.cond(fits, lambda: window_sum(upstream, matrix, size=size), scatter)


@backend.compile
def window_sum(upstream, matrix, *, size):
    """`gathered`, from the samples that may have read each pixel: `(batch, *size, channels)`."""
    height, width, channels = backend.shape(upstream, 1)
    (a, b, x), (c, d, y) = elements(matrix)
    x = from_middle(size[1], matrix.dtype, (1, 1, -1, 1)) - x
    y = from_middle(size[0], matrix.dtype, (1, -1, 1, 1)) - y
    # A division instead of a product by the inverse: compilers repeat cheap steps where they are
    # used, and may round them differently, but the indices and weights of a window must begin at
    # the same sample. A division is computed once.
    determinant = a * d - b * c
    u, columns = window((d * x - b * y) / determinant, width)
    v, rows = window((a * y - c * x) / determinant, height)
    # The distances from the points where the samples of the window were taken to the pixel.
    one, far = (ops.convert_to_tensor(number, matrix.dtype) for number in (1.0, math.inf))
    asides = far_off_axis(by_steps(x - a * u - b * v, a), columns, far)
    belows = far_off_axis(by_steps(y - c * u - d * v, d), rows, far)
    indices, weights, stride = [], [], ops.convert_to_tensor(width, "int32")
    by_row = zip(*(by_steps(aside, b) for aside in asides)), (by_steps(x, c) for x in belows)
    for (row, _), asides, belows in zip(rows, *by_row):
        row = row * stride
        for (column, _), aside, below in zip(columns, asides, belows):
            weight = ops.relu(one - ops.abs(aside)) * ops.relu(one - ops.abs(below))
            indices.append(row + column)
            weights.append(ops.cast(weight, upstream.dtype))
    samples = ops.reshape(upstream, (-1, height * width, channels))
    return backend.gather_sum(samples, indices, weights, finite=True)


def window(centre, length):
    """The first sample of a window, counted from the middle of the axis like its centre, and each
    sample's index with whether it is on the axis."""
    half = middle(length, centre.dtype)
    first = backend.floor(bounded(centre + half, length) + (1 - SIDE / 2))
    start = ops.cast(first, "int32")
    positions = [start, *(start + step for step in range(1, SIDE))]
    indices = clamp(positions, length)
    return first - half, [(index, index == at) for index, at in zip(indices, positions)]


def by_steps(distance, step):
    """The distance from each of the samples along an axis of the window."""
    return list(itertools.accumulate([distance] + [step] * (SIDE - 1), operator.sub))


def far_off_axis(distances, samples, far):
    """The distances, but `far` for samples that are not on the axis, which have no weight."""
    return [ops.where(on_axis, x, far) for x, (_, on_axis) in zip(distances, samples)]


def elements(matrix):
    """Rows of elements, `(batch, 1, 1, 1)` each."""
    found = ops.unstack(ops.reshape(matrix, (-1, 6, 1, 1, 1)), axis=1)
    return found[:3], found[3:]
