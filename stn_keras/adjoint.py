"""The gradient of an affine warp's images, gathered instead of scattered.

Each sample of a warp is drawn from the pixels about one point of the input, so the images' gradient
is usually scattered there, sample after sample: on a CPU one at a time. Of an affine warp it can be
asked the other way round which samples were drawn from a pixel: they lie about the point to which
the inverse sends the pixel, within a window as wide as the warp magnifies. Gathered from there the
gradient takes a fraction of the time (benchmarks/README.md).
"""

import functools
import itertools

from keras import ops

from stn_keras import backend
from stn_keras.geometry import from_middle, middle
from stn_keras.sampling import bounded

WINDOWS = (3, 4)  # sides; a warp that magnifies more is scattered


def gather_to_images(upstream, scatter, *, matrix, input_size):
    """The gradient of the images of a bilinear affine warp with a constant outside.

    Args:
        upstream: `(batch, height, width, channels)`, the gradient of the samples.
        scatter: Function from the upstream to what this returns, for whatever warp.
        matrix: `(batch, 2, 3)`, see `Transform.between_pixels`.
        input_size: `(height, width)` of the images.

    Returns:
        `(batch, height · width, channels)`, of the images' pixels.
    """
    inverse = inverted(matrix[:, :, :2])
    # A sample is drawn from pixels less than one away along x and along y.
    reach = ops.max(ops.sum(ops.abs(inverse), axis=-1))
    too_small = [ops.logical_not(reach <= side / 2) for side in WINDOWS]  # so is each, for NaN
    settings = {"matrix": matrix, "inverse": inverse, "input_size": input_size}
    gathers = [functools.partial(gather, side=side, **settings) for side in WINDOWS]
    return ops.switch(ops.sum(ops.cast(too_small, "int32")), [*gathers, scatter], upstream)


def gather(upstream, side, matrix, inverse, input_size):
    """`gather_to_images` with a window of `side` samples."""
    _, height, width, channels = ops.shape(upstream)
    (a, b, c), (d, e, f) = elements(matrix)
    (g, h), (i, j) = elements(inverse)
    x = from_middle(input_size[1], matrix.dtype)
    y = from_middle(input_size[0], matrix.dtype)[:, None]
    columns = window(bounded(g * (x - c) + h * (y - f)), width, side)
    rows = window(bounded(i * (x - c) + j * (y - f)), height, side)
    indices, weights = [], []
    for (row, v, in_height), (column, u, in_width) in itertools.product(rows, columns):
        weight = hat(a * u + b * v + c - x) * hat(d * u + e * v + f - y)
        weight = ops.where(ops.logical_and(in_height, in_width), weight, 0)
        indices.append(row * width + column)
        weights.append(ops.cast(weight, upstream.dtype))
    mixed = backend.mix(ops.reshape(upstream, (-1, height * width, channels)), indices, weights)
    return ops.reshape(mixed, (-1, input_size[0] * input_size[1], channels))


def window(centre, length, side):
    """Of each of `side` samples about a centre: index, position, and whether it is on the axis.

    Centre and position are counted from the middle of the axis.
    """
    first = backend.floor(centre + middle(length, centre.dtype) - side / 2) + 1
    start = ops.cast(first, "int32")
    found = []
    for step in range(side):
        index = ops.clip(start + step, 0, length - 1)
        position = first + step - middle(length, centre.dtype)
        found.append((index, position, index == start + step))
    return found


def hat(distance):
    """The weight of a pixel in a bilinear sample, along one axis."""
    return ops.relu(1 - ops.abs(distance))


def inverted(matrix):
    """Inverses of `(batch, 2, 2)`; not finite where there is none."""
    (a, b), (c, d) = ([matrix[:, row, column] for column in (0, 1)] for row in (0, 1))
    adjugate = ops.stack([ops.stack([d, -b], axis=-1), ops.stack([-c, a], axis=-1)], axis=1)
    return adjugate / (a * d - b * c)[:, None, None]


def elements(matrix):
    """Rows of elements, `(batch, 1, 1)` each."""
    return [
        [ops.reshape(matrix[:, row, column], (-1, 1, 1)) for column in range(matrix.shape[2])]
        for row in range(matrix.shape[1])
    ]
