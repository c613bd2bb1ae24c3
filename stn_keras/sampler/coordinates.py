"""Coordinates of output pixels in the input, and their units."""

import math

from keras import ops

from stn_keras import backend
from stn_keras.sampler.axes import (
    as_float,
    extent,
    from_middle,
    middle,
    pixel_step,
    positive_extent,
    to_middle,
)

FAR = 2.0**20  # pixels; beyond this distance a homography has no gradient


def affine_map(theta, units, output_size, align_corners):
    """Where `theta` maps output pixels: `(x, y)` or `(x, y, z)` from the middle of the input.

    `units`, in the order of sizes, is how many of the wanted units there are from −1 to 1.
    """
    rows = affine_rows(theta, units, output_size, align_corners)
    return [plane(row, output_size) for row in rows]


def affine_rows(theta, units, output_size, align_corners):
    """The rows of `theta`, axes + 1 tensors `(batch,)` each, from output pixels to `units`."""
    steps = [positive_extent(length, align_corners, theta.dtype) for length in output_size]
    rows = []
    for row, unit in zip(ops.unstack(theta, axis=1), reversed(units)):
        unit = as_float(unit, theta.dtype)
        *slopes, origin = ops.unstack(row, axis=1)
        slopes = [slope * (unit / step) for slope, step in zip(slopes, reversed(steps))]
        # Not stacked: in an int8 model, LiteRT would give a stack one scale for its eight bits.
        rows.append([*slopes, origin * (unit / 2)])
    return rows


def plane(coefficients, output_size):
    """`a·u + b·v + c` at every output pixel, where `u` and `v` are counted from the middle.

    With three axes it is `a·u + b·v + c·w + d`. The coefficients are `(batch,)` each.

    The gradient is a small matrix product for each axis. Compilers alone would sum over all pixels
    once for each coefficient, and compute the summands again each time.
    """
    axes = len(output_size)

    def forward(*coefficients):
        *slopes, value = (ops.reshape(k, (-1,) + (1,) * axes) for k in coefficients)
        for k, (slope, length) in enumerate(zip(slopes, reversed(output_size))):
            along = (1,) * (axes - k) + (-1,) + (1,) * k
            value = value - slope * to_middle(length, value.dtype, along)
        return value

    def backward(upstream, *coefficients):
        sums, found = upstream, []
        for k, length in enumerate(reversed(output_size), 1):
            position = from_middle(length, upstream.dtype)
            # Both factors have two axes: with more, TensorFlow with oneDNN gives wrong products.
            basis = ops.stack([position, ops.ones_like(position)], axis=-1)
            moments = backend.matmul(ops.reshape(sums, (-1, length)), basis)
            by_position, sums = ops.unstack(moments, axis=-1)
            rest = math.prod(output_size[: axes - k])
            found.append(ops.sum(ops.reshape(by_position, (-1, rest)), axis=1))
        return *found, sums

    return backend.with_gradient(forward, backward)(*coefficients)


def to_pixels(grid, size, align_corners):
    """Normalised `(..., 2)` → pixel coordinates `(x, y)`, each `(...)`, of an image of `size`."""
    lengths = size[::-1]
    halves = [as_float(extent(length, align_corners), grid.dtype) / 2 for length in lengths]
    coordinates = zip(by_axis(grid, halves), lengths)
    return [coordinate + middle(length, grid.dtype) for coordinate, length in coordinates]


def to_grid(coordinates, size, align_corners):
    """Pixel coordinates `(x, y)` → normalised `(..., 2)`, the inverse of `to_pixels`."""
    grid = []
    for coordinate, length in zip(coordinates, reversed(size)):
        half = positive_extent(length, align_corners, coordinate.dtype) / 2
        grid.append((coordinate - middle(length, coordinate.dtype)) / half)
    return ops.stack(grid, axis=-1)


def by_axis(points, scales=None):
    """`(..., 2)` → x and y, each `(...)`, times their `scales` if there are any; in volumes z too.

    The gradient is written by hand. That of a slice would be a padding, which XLA computes with a
    branch for each number.
    """
    axes = points.shape[-1]

    def scaled(coordinates):
        return coordinates if scales is None else [x * s for x, s in zip(coordinates, scales)]

    @backend.compile
    def joined(*upstream):
        columns = [ops.expand_dims(x, -1) for x in scaled(upstream)]
        found = columns[0]
        for axis, column in enumerate(columns[1:], 1):
            found = ops.where(ops.arange(axes) == axis, column, found)
        return found

    def forward(points):
        return scaled([points[..., axis] for axis in range(axes)])

    return backend.with_gradient(forward, lambda upstream, _: [joined(*upstream)])(points)


def displaced(displacement, size, align_corners):
    """Pixel coordinates `(x, y)` in images of `size`, each `(batch, *output_size)`: where the
    identity maps output pixels, plus the displacement."""
    output_size, coordinates = backend.shape(displacement)[1:-1], []
    lengths = list(zip(size, output_size))[::-1]
    for axis, (shift, (length, count)) in enumerate(zip(by_axis(displacement), lengths)):
        dtype = displacement.dtype
        unit = pixel_step(length, count, align_corners, dtype)
        position = from_middle(count, dtype) * unit + middle(length, dtype)
        along = (1,) * (len(size) - axis) + (-1,) + (1,) * axis
        coordinates.append(ops.reshape(position, along) + shift)
    return coordinates


def divided(numerator, depth):
    """The quotient, without a gradient where it is not a number or nearly infinite.

    A derivative would overflow there, and give NaN when multiplied by an upstream gradient of 0.
    """
    usable = ops.logical_and(ops.abs(numerator) < FAR * ops.abs(depth), ops.abs(depth) > 1 / FAR)
    quotient = ops.where(usable, numerator, 0) / ops.where(usable, depth, 1)
    return ops.where(usable, quotient, ops.stop_gradient(numerator / depth))
