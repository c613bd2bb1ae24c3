"""Samples of an image at pixel coordinates, and their gradients, written by hand.

A sample is a sum of weights times pixels. Its product with an upstream gradient is linear in the
upstream and in the pixels, so the gradients consist of three operations: `mix` gathers pixels and
sums them, `spread` adds the upstream to the pixels, and `by_coordinate` is the derivative with
respect to the coordinates. Each is the gradient of another; the backend differentiates the last.
"""

import functools
import itertools
import math
import operator

from keras import ops

from stn_keras import backend
from stn_keras.arguments import wide_dtype
from stn_keras.image_gradient import gathered
from stn_keras.taps import outside_weight, redirected, taps

# Without the operation by which `sum` and `math.prod` begin.
total = functools.partial(functools.reduce, operator.add)
product = functools.partial(functools.reduce, operator.mul)
FEW = 4  # channels up to which pixels are mixed before they are multiplied by the upstream


def sample(
    images, coordinates, fill, *, interpolation, fill_mode, align_corners, filled, matrix=None
):
    """Images sampled at pixel coordinates.

    Args:
        images: `(batch, *size, channels)`.
        coordinates: `(x, y)` or `(x, y, z)`, each `(batch, *output_size)`.
        fill: `(channels,)` or `(1,)`: what lies outside, with fill_mode="constant".
        filled: Whether any of `fill` is not 0.
        matrix: `(batch, 2, 3)`, see `MatrixTransform.between_pixels`, of coordinates that are an
            affine map of the output's. Their images' gradient is then cheaper.

    Returns:
        `(batch, *output_size, channels)`, in the wider dtype of pixels and coordinates.
    """
    if images.shape[-1] == 0:
        return empty(images, coordinates)
    size = backend.shape(images)[1:-1]
    dtype = wide_dtype(images, coordinates[0])
    options = {
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": align_corners,
    }
    rows = ops.reshape(images, (-1, math.prod(size), images.shape[-1]))
    corners = functools.partial(combined, size=size, dtype=dtype, **options)
    if (interpolation, fill_mode) != ("bilinear", "constant"):
        matrix = None
    samples = mix(rows, coordinates, corners, size, matrix)
    if filled and fill_mode == "constant":
        fill = ops.reshape(ops.cast(fill, dtype), (1,) * (len(samples.shape) - 1) + (-1,))
        missing = ops.expand_dims(missing_weight(coordinates, size, interpolation, dtype), -1)
        samples = samples + ops.where(missing != 0, missing * fill, 0)
    return samples


def empty(images, coordinates):
    """The samples of images without channels, whose gradients are zeros."""
    nothing = ops.expand_dims(coordinates[0], -1)[..., :0]
    return nothing + ops.cast(ops.sum(images), nothing.dtype)


def combined(coordinates, *, size, dtype, redirect=False, **options):
    """All combinations of the axes' taps: a list of indices, and one of weights; and a function
    that lists the slopes for each coordinate, which only gradients need.

    With `redirect`, taps of weight 0 read a pixel that another one reads.
    """
    axes = [
        taps(coordinate, length, **options)
        for coordinate, length in zip(reversed(coordinates), size)
    ]
    if redirect:
        axes = [redirected(axis) for axis in axes]
    combinations = list(itertools.product(*axes))

    def index(combination):
        found, *positions = (position for position, _, _ in combination)
        for position, length in zip(positions, size[1:]):
            found = found * length + position
        return found

    def weight(combination, axis=None):
        """The product of the weights; along `axis` of the slope."""
        factors = [slope if k == axis else share for k, (_, share, slope) in enumerate(combination)]
        return ops.cast(product(factors), dtype)

    def slopes():
        return [
            [weight(these, axis) for these in combinations] for axis in reversed(range(len(axes)))
        ]

    return [*map(index, combinations)], [*map(weight, combinations)], slopes


def missing_weight(coordinates, size, interpolation, dtype):
    """The weight of all taps outside the image, `(batch, *output_size)`."""
    inside = 1
    for coordinate, length in zip(reversed(coordinates), size):
        inside = inside * (1 - outside_weight(coordinate, length, interpolation))
    return ops.cast(1 - inside, dtype)


def mix(rows, coordinates, corners, size, matrix=None):
    """Sums the rows of `(batch, n, channels)` given by `corners(coordinates)`, with its weights."""
    axes = len(coordinates)
    bicubic = corners.keywords["interpolation"] == "bicubic"

    def forward(rows, *inputs):
        if backend.is_unread():
            return unread(inputs[0], rows.shape[-1], corners.keywords["dtype"])
        if bicubic and backend.is_fused():
            indices, weights, _ = corners(inputs[:axes], redirect=True)
            return blended(rows, indices, weights)
        indices, weights, _ = corners(inputs[:axes])
        return weighted(rows, indices, weights)

    def backward(wanted, upstream, rows, *inputs):
        coordinates, rest = inputs[:axes], inputs[axes:]

        def scatter(upstream):
            return spread(upstream, coordinates, corners, size)

        to_rows, to_coordinates = None, [None] * axes
        if wanted[0] and rest:
            to_rows = gathered(upstream, scatter, matrix=rest[0], size=size)
        elif wanted[0]:
            to_rows = scatter(upstream)
        if any(wanted[1:]):
            to_coordinates = by_coordinate(upstream, rows, coordinates, corners)
        return to_rows, *to_coordinates, *(None for _ in rest)

    inputs = [rows, *coordinates] + ([] if matrix is None else [matrix])
    return backend.with_gradient(forward, backward)(*inputs)


def unread(coordinate, channels, dtype):
    """Numbers in the place of samples, of which only the gradients are of interest."""
    return ops.cast(ops.expand_dims(coordinate, -1), dtype) + ops.zeros((channels,), dtype)


def spread(upstream, coordinates, corners, size):
    """Adds the upstream to the rows from which each sample was mixed: `(batch, n, channels)`."""

    def forward(upstream, *coordinates):
        indices, weights, _ = corners(coordinates)
        return backend.scatter(upstream, indices, weights, math.prod(size))

    def backward(wanted, rows, upstream, *coordinates):
        found = by_coordinate(upstream, rows, coordinates, corners)
        return mix(rows, coordinates, corners, size), *found

    return backend.with_gradient(forward, backward)(upstream, *coordinates)


def by_coordinate(upstream, rows, coordinates, corners):
    """The upstream times the derivative of the samples along each axis, summed over channels."""
    indices, _, list_slopes = corners(coordinates)
    slopes = list_slopes()
    if len(indices) == 1:  # the nearest pixel, and only that, whatever the coordinate
        return [total(axis) for axis in slopes]
    if 1 < rows.shape[-1] <= FEW:
        return backend.channel_sums([upstream * weighted(rows, indices, axis) for axis in slopes])
    # With one channel, or many, multiplying by the pixels first takes no more products.
    pixels = [ops.cast(tap, upstream.dtype) for tap in backend.gather(rows, indices)]
    by_tap = backend.channel_sums([upstream * tap for tap in pixels])
    return [
        total(ops.where(slope != 0, slope * dot, 0) for slope, dot in zip(axis, by_tap))
        for axis in slopes
    ]


def weighted(rows, indices, weights):
    """Sum of `weights[k]` times the rows at `indices[k]`; those of weight 0 may be NaN."""
    if len(indices) == 1 and backend.is_fused():  # the nearest pixel, of weight 1 or 0
        (pixels,), (weight,) = backend.gather(rows, indices), weights
        return backend.keep(ops.cast(pixels, weight.dtype), weight)
    return total(
        backend.weigh(ops.cast(pixels, weight.dtype), weight)
        for pixels, weight in zip(backend.gather(rows, indices), weights)
    )


def blended(rows, indices, weights):
    """`weighted`, of redirected taps, with two masks in all instead of one each."""
    pixels = [ops.cast(tap, weights[0].dtype) for tap in backend.gather(rows, indices)]
    samples = total(ops.expand_dims(weight, -1) * tap for tap, weight in zip(pixels, weights))
    # Of a single pixel all taps read that one: infinity times 0 would be NaN.
    single = ops.expand_dims(total(weights), -1) * pixels[0]
    count = total(ops.cast(weight != 0, weight.dtype) for weight in weights)
    several, one = (ops.cast(found, count.dtype) for found in (count > 1, count == 1))
    return backend.keep(samples, several) + backend.keep(single, one)
