"""The pixels that contribute to a sample along one axis, and their weights.

Interpolation and fill mode turn a pixel coordinate into taps. Each has an index, a weight and a
slope, the derivative of the weight with respect to the coordinate. Indices are always on the axis;
a tap outside it has a weight and a slope of 0. Coordinates that are not finite count as left of the
axis.

Interpolation is not differentiable everywhere. As in PyTorch, the slope at an integer coordinate is
the one to its right, and on the edge pixels of `"nearest"` and `"reflect"` it is 0.
"""

import operator

from keras import ops

from stn_keras import backend


def taps(coordinate, length, interpolation, fill_mode, align_corners, of_slopes=False):
    """The taps of a sample along an axis of `length`.

    `coordinate` is a float tensor in pixels.

    Returns:
        `(indices, weights, slopes)`: lists with an item per tap, of the shape of `coordinate`.
        Without `of_slopes` there are no slopes.
    """
    if interpolation == "bicubic":
        coordinate, direction = reduced(coordinate, length, fill_mode, align_corners), None
        fold = FOLDS.get(fill_mode, clamp)
    else:
        coordinate, direction = extended(coordinate, length, fill_mode, align_corners)
        fold = wrap if fill_mode == "wrap" else clamp
    positions, weights, slopes = KERNELS[interpolation](coordinate, of_slopes)
    indices = fold(positions, length, align_corners)
    if direction is not None:
        slopes = [slope * direction for slope in slopes]
    if fill_mode == "constant":
        inside = [
            ops.cast(index == position, coordinate.dtype)
            for index, position in zip(indices, positions)
        ]
        weights, slopes = (list(map(operator.mul, these, inside)) for these in (weights, slopes))
    return indices, weights, slopes


def inside_weight(coordinate, length, interpolation):
    """The total weight of the taps on the axis; exactly 1 if all taps are on it."""
    coordinate = bounded(coordinate, length)
    positions, weights, _ = KERNELS[interpolation](coordinate)
    inside = ops.ones_like(coordinate)
    for index, position, weight in zip(clamp(positions, length), positions, weights):
        inside = inside - ops.where(index == position, 0, weight)
    return inside


# The positions, weights and, on demand, slopes of the taps of an interpolation.


def closest(coordinate, of_slopes=False):
    one = 1 + 0 * coordinate  # depends on the coordinate, so that it has a gradient: zeros
    return [ops.cast(ops.round(coordinate), "int32")], [one], [0.0] if of_slopes else []


def linear(coordinate, of_slopes=False):
    floor = backend.floor(coordinate)
    after = coordinate - floor
    position = ops.cast(floor, "int32")
    return [position, position + 1], [1 - after, after], [-1.0, 1.0] if of_slopes else []


def cubic(coordinate, of_slopes=False, a=-0.75):
    """Keys's kernel at the four pixels around a coordinate, and its derivative.

    [Keys, 1981](https://doi.org/10.1109/TASSP.1981.1163711), equation 15. At a distance of 1 + t it
    is `a t (1 - t)²`.
    """

    def near(d):  # at a distance of 0 … 1
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def near_slope(d):
        return (3 * (a + 2) * d - 2 * (a + 3)) * d

    floor = backend.floor(coordinate)
    after = coordinate - floor
    before, position = 1 - after, ops.cast(floor, "int32")
    positions = [position - 1, position, position + 1, position + 2]
    far = a * after * before
    weights = [far * before, near(after), near(before), far * after]
    slopes = []
    if of_slopes:
        first, last = a * before * (1 - 3 * after), a * after * (3 * before - 1)
        slopes = [first, near_slope(after), -near_slope(before), last]
    return positions, weights, slopes


KERNELS = {"nearest": closest, "bilinear": linear, "bicubic": cubic}


def extended(coordinate, length, fill_mode, align_corners):
    """The coordinate inside the image that has the same value, and its derivative; None means 1."""
    if fill_mode == "constant":
        return bounded(coordinate, length), None
    if fill_mode == "wrap":
        return bounded(coordinate - periods(coordinate, length), length), None
    direction = 1
    if fill_mode == "reflect":
        coordinate, direction = mirrored(coordinate, length, align_corners)
    last = ops.cast(length - 1, coordinate.dtype)
    inside = ops.logical_and(coordinate > 0, coordinate < last)
    return between(coordinate, 0, last), direction * ops.cast(inside, coordinate.dtype)


def mirrored(coordinate, length, align_corners):
    """A coordinate reflected into the image, and the derivative, 1 or −1. The mirrors are the outer
    edges of the image, or the centres of its corner pixels with `align_corners`."""
    low, span = (0, length - 1) if align_corners else (-0.5, length)
    span = ops.cast(ops.maximum(span, 1), coordinate.dtype)
    distance = ops.abs(coordinate - low)
    phase = distance - 2 * span * backend.floor(distance / (2 * span))
    back = phase > span
    direction = ops.where(ops.logical_xor(coordinate < low, back), -1, 1)
    found = ops.where(back, 2 * span - phase, phase) + low
    return found, ops.cast(direction, coordinate.dtype)


def reduced(coordinate, length, fill_mode, align_corners):
    """The coordinate in the first period of a periodic image, with the same taps."""
    if fill_mode == "wrap":
        coordinate = coordinate - periods(coordinate, length)
    elif fill_mode == "reflect":
        period = 2 * (length - 1 if align_corners else length)
        coordinate = coordinate - periods(coordinate, ops.maximum(period, 1))
    elif fill_mode != "constant":
        return bounded(coordinate, length)
    return bounded(coordinate, length if fill_mode != "reflect" else 2 * length)


def periods(coordinate, length):
    length = ops.cast(length, coordinate.dtype)
    return length * backend.floor(coordinate / length)


def bounded(coordinate, length, reach=3):
    """Coordinates clipped to a finite range, outside which no tap is on the axis."""
    return between(coordinate, -reach, length + (reach - 1))


def between(coordinate, low, high):
    """A coordinate clipped to `low` … `high`; NaN becomes `low`."""
    low, high = (ops.convert_to_tensor(bound, coordinate.dtype) for bound in (low, high))
    return ops.where(coordinate > low, ops.where(coordinate < high, coordinate, high), low)


def clamp(positions, length, align_corners=False):
    """The indices on an axis that are closest to pixel positions."""
    # Not ops.clip: LiteRT's converter turns a clip to 0 … 6 into Relu6, which has no integers.
    first, last = (ops.convert_to_tensor(bound, "int32") for bound in (0, length - 1))
    return [ops.minimum(ops.maximum(position, first), last) for position in positions]


def wrap(positions, length, align_corners):
    return [ops.mod(position, length) for position in positions]


def reflect(positions, length, align_corners):
    """Mirrors positions about the centres of the edge pixels, or about their outer edges."""
    repeated = 1 if align_corners else 0  # whether the edge pixel is skipped on the way back
    period = ops.maximum(2 * (length - repeated), 1)
    phases = [ops.mod(position, period) for position in positions]
    return [ops.minimum(phase, 2 * length - 1 - repeated - phase) for phase in phases]


FOLDS = {"wrap": wrap, "reflect": reflect}
