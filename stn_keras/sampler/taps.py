"""The pixels that contribute to a sample along one axis, and their weights.

Interpolation and fill mode turn a pixel coordinate into taps: `(index, weight, slope)`, where
`slope` is the derivative of the weight with respect to the coordinate. Indices are always on the
axis; a tap outside it has a weight and a slope of 0. Coordinates that are not finite count as left
of the axis.

Interpolation is not differentiable everywhere. As in PyTorch, the slope at an integer coordinate is
the one to its right, and on the edge pixels of `"nearest"` and `"reflect"` it is 0.
"""

from keras import ops

from stn_keras import backend


def taps(coordinate, length, interpolation, fill_mode, align_corners):
    """The taps of a sample along an axis of `length`: a list of (index, weight, slope).

    `coordinate` is a float tensor in pixels; index, weight and slope have its shape.
    """
    if interpolation == "bicubic":
        found = cubic(reduced(coordinate, length, fill_mode, align_corners))
        fold = FOLDS.get(fill_mode, clamp)
    else:
        coordinate, direction = extended(coordinate, length, fill_mode, align_corners)
        found = linear(coordinate) if interpolation == "bilinear" else closest(coordinate)
        if direction is not None:
            found = [(position, weight, slope * direction) for position, weight, slope in found]
        fold = wrap if fill_mode == "wrap" else clamp
    constant = fill_mode == "constant"
    return [
        on_axis(position, weight, slope, fold(position, length, align_corners), constant)
        for position, weight, slope in found
    ]


def on_axis(position, weight, slope, index, constant):
    """The tap at `index`; with a constant outside, its weight is 0 if it is not at `position`."""
    if not constant:
        return index, weight, slope
    inside = ops.cast(index == position, weight.dtype)
    return index, weight * inside, slope * inside


def inside_weight(coordinate, length, interpolation):
    """The total weight of the taps on the axis; exactly 1 if all taps are on it."""
    coordinate = bounded(coordinate, length)
    found = {"nearest": closest, "bilinear": linear, "bicubic": cubic}[interpolation](coordinate)
    inside = ops.ones_like(coordinate)
    for position, weight, _ in found:
        inside = inside - ops.where(clamp(position, length) == position, 0, weight)
    return inside


def closest(coordinate):
    one = 1 + 0 * coordinate  # depends on the coordinate, so that it has a gradient: zeros
    return [(ops.cast(ops.round(coordinate), "int32"), one, ops.zeros_like(one))]


def linear(coordinate):
    floor = backend.floor(coordinate)
    after = coordinate - floor
    position = ops.cast(floor, "int32")
    down, up = (ops.convert_to_tensor(slope, after.dtype) for slope in (-1.0, 1.0))
    return [(position, 1 - after, down), (position + 1, after, up)]


def cubic(coordinate, a=-0.75):
    """Keys's kernel at the four pixels around a coordinate, and its derivative.

    [Keys, 1981](https://doi.org/10.1109/TASSP.1981.1163711), equation 15.
    """

    def near(d):  # at a distance of 0 … 1
        return ((a + 2) * d - (a + 3)) * d * d + 1, (3 * (a + 2) * d - 2 * (a + 3)) * d

    def far(d):  # 1 … 2
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a, (3 * a * d - 10 * a) * d + 8 * a

    floor = backend.floor(coordinate)
    after = coordinate - floor
    before, position = 1 - after, ops.cast(floor, "int32")
    kernels = (far, 1 + after, 1), (near, after, 1), (near, before, -1), (far, 1 + before, -1)
    found = []
    for step, (kernel, distance, sign) in enumerate(kernels, -1):
        weight, slope = kernel(distance)
        found.append((position + step, weight, sign * slope))
    return found


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
    return between(coordinate, -reach, ops.cast(length + (reach - 1), coordinate.dtype))


def between(coordinate, low, high):
    """A coordinate clipped to `low` … `high`; NaN becomes `low`."""
    return ops.where(coordinate > low, ops.where(coordinate < high, coordinate, high), low)


def clamp(position, length, align_corners=False):
    """The index on an axis that is closest to a pixel position."""
    # Not ops.clip: LiteRT's converter turns a clip to 0 … 6 into Relu6, which has no integers.
    return ops.minimum(ops.maximum(position, 0), length - 1)


def wrap(position, length, align_corners):
    return ops.mod(position, length)


def reflect(position, length, align_corners):
    """Mirrors positions about the centres of the edge pixels, or about their outer edges."""
    repeated = 1 if align_corners else 0  # whether the edge pixel is skipped on the way back
    period = ops.maximum(2 * (length - repeated), 1)
    phase = ops.mod(position, period)
    return ops.minimum(phase, 2 * length - 1 - repeated - phase)


FOLDS = {"wrap": wrap, "reflect": reflect}
