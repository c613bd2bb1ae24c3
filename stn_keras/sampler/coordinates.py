"""Coordinates of output pixels in the input, and their units."""

from keras import ops

from stn_keras import backend
from stn_keras.sampler.axes import extent, from_middle, middle, pixel_step, positive_extent

FAR = 2.0**20  # pixels; beyond this distance a homography has no gradient


def to_pixels(grid, size, align_corners):
    """Normalised `(..., 2)` → pixel coordinates `(x, y)`, each `(...)`, of an image of `size`."""
    lengths = size[::-1]
    halves = [extent(length, align_corners, grid.dtype) / 2 for length in lengths]
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

    def forward(points):
        return scaled([points[..., axis] for axis in range(points.shape[-1])], scales)

    def backward(upstream, _):
        return [joined(*upstream, scales=scales)]

    return backend.with_gradient(forward, backward, points)


@backend.compile
def joined(*coordinates, scales):
    """The gradient of `by_axis`: `(..., 2)` from those of x and y, times their scales."""
    columns = [ops.expand_dims(x, -1) for x in scaled(coordinates, scales)]
    found = columns[0]
    for axis, column in enumerate(columns[1:], 1):
        found = ops.where(ops.arange(len(columns)) == axis, column, found)
    return found


def scaled(coordinates, scales):
    return coordinates if scales is None else [x * s for x, s in zip(coordinates, scales)]


def displaced(displacement, size, align_corners):
    """Pixel coordinates `(x, y)` in images of `size`, each `(batch, *output_size)`: where the
    identity maps output pixels, plus the displacement."""
    output_size, coordinates = backend.shape(displacement, 1, -1), []
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
