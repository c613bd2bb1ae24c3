"""Samples of images at pixel coordinates, and their gradients, written by hand.

A sample is a sum of weights times pixels. The gradient of a weight is the dot product of the
upstream with the weight's pixel. The gradient of a coordinate is the sum of these products, each
times the slope of its weight.
"""

import functools
import itertools
import math
import operator

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import wide_dtype
from stn_keras.sampler import affine_gradient, sums
from stn_keras.sampler.taps import outside_weight, taps

# Without the operation by which `sum` and `math.prod` begin.
total = functools.partial(functools.reduce, operator.add)
product = functools.partial(functools.reduce, operator.mul)


def interpolate(images, warp, fill, *, interpolation, fill_mode, filled):
    """Images sampled where a warp looks, by the operations of every backend.

    Args:
        images: `(batch, *size, channels)`: floats, or integers with interpolation="nearest".
        warp: A `stn_keras.sampler.warps.Warp`.
        fill: `(channels,)` or `(1,)`: what lies outside, with fill_mode="constant".
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`.
        fill_mode: `"constant"`, `"nearest"`, `"reflect"` or `"wrap"`.
        filled: Whether any of `fill` is not 0.

    Returns:
        `(batch, *output_size, channels)`, in the wider dtype of pixels and coordinates; of integer
        images in theirs.
    """
    coordinates = warp.pixels()
    if images.shape[-1] == 0:
        return empty(images, coordinates)
    size = backend.shape(images)[1:-1]
    rows = ops.reshape(images, (-1, math.prod(size), images.shape[-1]))
    options = {
        "size": size,
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": warp.align_corners,
        "dtype": wide_dtype(images, coordinates[0]),
    }
    affine = (interpolation, fill_mode, len(size)) == ("bilinear", "constant", 2)
    samples = mix(rows, coordinates, options, warp.matrix if affine else None)
    if filled and fill_mode == "constant":
        samples = samples + missing(coordinates, fill, samples.dtype, size, interpolation)
    return samples


def empty(images, coordinates):
    """The samples of images without channels, whose gradients are zeros."""
    nothing = ops.expand_dims(coordinates[0], -1)[..., :0]
    return nothing + ops.cast(ops.sum(images), nothing.dtype)


def mix(rows, coordinates, options, matrix=None):
    """The weighted sums of rows around the coordinates, `(batch, *output_size, channels)`.

    `matrix` is that of an affine warp, whose rows have a cheaper gradient; else None.
    """
    axes = len(coordinates)

    def forward(rows, *inputs):
        return sums.gather_sum(rows, *corners(inputs[:axes], **options))

    def backward(upstream, rows, *inputs):
        coordinates, rest = inputs[:axes], inputs[axes:]
        to_rows = by_rows(upstream, coordinates, options, *rest)
        return to_rows, *by_coordinates(upstream, rows, coordinates, options), *(None for _ in rest)

    inputs = [rows, *coordinates] + ([] if matrix is None else [matrix])
    return backend.with_gradient(forward, backward)(*inputs)


def by_rows(upstream, coordinates, options, matrix=None):
    """The gradient of the rows: the upstream, spread over the pixels that were read."""

    @backend.compile
    def spread(upstream, *coordinates):
        count = math.prod(options["size"])
        indices, weights = corners(coordinates, **options)
        return sums.scatter_sum(upstream, indices, weights, count)

    if matrix is None:
        return spread(upstream, *coordinates)
    return affine_gradient.gathered(
        upstream, lambda: spread(upstream, *coordinates), matrix=matrix, size=options["size"]
    )


def by_coordinates(upstream, rows, coordinates, options):
    """The gradient of each coordinate, `(batch, *output_size)`.

    In two pieces: in one XLA would gather the pixels again for each coordinate.
    """
    if options["interpolation"] == "nearest":
        return [ops.zeros_like(coordinate) for coordinate in coordinates]

    @backend.compile
    def by_weight(upstream, rows, *coordinates):
        return sums.gather_dot(upstream, rows, corners(coordinates, **options)[0])

    @backend.compile
    def by_coordinate(dots, *coordinates):
        dots = sums.unstacked(dots)
        return [
            total(slope * ops.where(slope != 0, dot, 0) for slope, dot in zip(axis, dots))
            for axis in slopes(coordinates, **options)
        ]

    return by_coordinate(by_weight(upstream, rows, *coordinates), *coordinates)


def corners(coordinates, *, dtype, **options):
    """All combinations of the axes' taps: a list of indices, and one of weights."""
    found = list(itertools.product(*taps_by_axis(coordinates, **options)))
    weights = [product(weight for _, weight, _ in corner) for corner in found]
    return (
        [index([position for position, _, _ in corner], options["size"]) for corner in found],
        [ops.cast(weight, dtype) for weight in weights],
    )


def slopes(coordinates, *, dtype, **options):
    """The derivatives of the weights of `corners` along each of the coordinates."""
    by_axis = taps_by_axis(coordinates, **options)
    return [
        [
            ops.cast(product(tap[2 if k == axis else 1] for k, tap in enumerate(corner)), dtype)
            for corner in itertools.product(*by_axis)
        ]
        for axis in reversed(range(len(by_axis)))
    ]


def taps_by_axis(coordinates, *, size, **options):
    """Lists of taps, in the order of sizes."""
    return [
        taps(coordinate, length, **options)
        for coordinate, length in zip(reversed(coordinates), size)
    ]


def index(positions, size):
    """The index of a pixel among those of its image."""
    found, *positions = positions
    for position, length in zip(positions, size[1:]):
        found = found * length + position
    return found


def missing(coordinates, fill, dtype, size, interpolation):
    """What lies outside the image, times the weight of the taps there."""
    fill = ops.reshape(ops.cast(fill, dtype), (1,) * (len(size) + 1) + (-1,))
    inside = product(
        1 - outside_weight(coordinate, length, interpolation)
        for coordinate, length in zip(reversed(coordinates), size)
    )
    weight = ops.cast(ops.expand_dims(1 - inside, -1), dtype)
    return ops.where(weight != 0, weight * fill, 0)
