"""The gradient of an affine warp's images, gathered instead of scattered.

Each sample of a warp is drawn from the pixels about one point of the input, so the images' gradient
is usually scattered there, sample after sample: on a CPU one at a time. Of an affine warp it can be
asked the other way round which samples were drawn from a pixel: they lie about the point to which
the inverse sends the pixel, within a window as wide as the warp magnifies. Gathered from there the
gradient takes a fraction of the time (benchmarks/README.md).
"""

import functools
import itertools
import math

from keras import ops

from stn_keras import backend
from stn_keras.geometry import from_middle, middle
from stn_keras.sampling import bounded, into_axis

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
    (a, b, _), (c, d, _) = elements(matrix)
    # A sample is drawn from pixels less than one away along x and along y.
    widths = ops.stack([ops.abs(a) + ops.abs(c), ops.abs(b) + ops.abs(d)])
    reach = ops.max(widths / ops.abs(a * d - b * c))
    too_small = [ops.logical_not(reach <= side / 2) for side in WINDOWS]  # so is each, for NaN
    settings = {"matrix": matrix, "input_size": input_size}
    gathers = [functools.partial(gather, side=side, **settings) for side in WINDOWS]

    def scattered(upstream):
        return ops.reshape(scatter(upstream), (-1, *input_size, upstream.shape[-1]))

    choice = ops.sum(ops.cast(too_small, "int32"))
    # Images inside, rows outside: XLA's loop over rows would find each one's place in the image.
    images = ops.switch(choice, [*gathers, scattered], upstream)
    return ops.reshape(images, (-1, math.prod(input_size), images.shape[-1]))


def gather(upstream, matrix, side, input_size):
    """`gather_to_images` with a window of `side` samples: `(batch, *input_size, channels)`."""
    _, height, width, channels = ops.shape(upstream)
    (a, b, x), (c, d, y) = elements(matrix)
    x = from_middle(input_size[1], matrix.dtype) - x
    y = from_middle(input_size[0], matrix.dtype)[:, None] - y
    # Not times the inverse: compilers repeat cheap steps where they are needed, and may round them
    # differently, but a window's indices and weights must begin at the same sample. A division
    # they do once.
    determinant = a * d - b * c
    u, columns = window((d * x - b * y) / determinant, width, side)
    v, rows = window((a * y - c * x) / determinant, height, side)
    # From the pixel to the point where the window's first sample was drawn.
    aside, below = a * u + b * v - x, c * u + d * v - y
    indices, weights = [], []
    taps = itertools.product(enumerate(rows), enumerate(columns))
    for (j, (row, in_height)), (i, (column, in_width)) in taps:
        weight = hat(aside + a * i + b * j) * hat(below + c * i + d * j)
        weight = ops.where(ops.logical_and(in_height, in_width), weight, 0)
        indices.append(row * width + column)
        weights.append(ops.cast(weight, upstream.dtype))
    return backend.mix(ops.reshape(upstream, (-1, height * width, channels)), indices, weights)


def window(centre, length, side):
    """The first of `side` samples about a centre, both counted from the middle of the axis, and
    the index of each, with whether it is on the axis."""
    first = backend.floor(bounded(centre) + (middle(length, centre.dtype) + 1 - side / 2))
    start = ops.cast(first, "int32")
    indices = [into_axis(start + step, length) for step in range(side)]
    found = [(index, index == start + step) for step, index in enumerate(indices)]
    return first - middle(length, centre.dtype), found


def hat(distance):
    """The weight of a pixel in a bilinear sample, along one axis."""
    return ops.relu(1 - ops.abs(distance))


def elements(matrix):
    """Rows of elements, `(batch, 1, 1)` each."""
    return [
        [ops.reshape(matrix[:, row, column], (-1, 1, 1)) for column in range(matrix.shape[2])]
        for row in range(matrix.shape[1])
    ]
