"""Matrices that rotate, scale and translate images and volumes.

The rotation of a volume is a vector: its direction is the axis and its length is the angle.
"""

import functools
import math
import numbers

from keras import ops

from stn_keras.sampler.axes import as_float

# Power series, in the square of a number t, of sin(t) / t, (1 - cos(t)) / t² and tanh(t) / t.
SINE = (1, -1 / 6, 1 / 120, -1 / 5040)
COSINE = (1 / 2, -1 / 24, 1 / 720, -1 / 40320)
TANH = (1, -1 / 3, 2 / 15, -17 / 315, 62 / 2835)
NEAR = 1e-3  # below this square, the series are exact to the last digit


def similarity(turn, scale, shift, size=None, max_rotation=None):
    """Matrices of a rotation in pixels, a scale and a translation.

    Args:
        turn: `[angle]`, or the three components of a rotation vector, `(batch,)` each.
        scale: A number, or `(batch,)`.
        shift: `[x, y]` or `[x, y, z]`, normalised, `(batch,)` each.
        size: Size of the images, in whose pixels angles are measured; `None` for equal sides.
        max_rotation: Bound of the angle in radians, or `None`.

    Returns:
        `(batch, axes + 1, axes + 1)`, normalised.
    """
    if len(turn) == 1:
        rows = planar(bounded(turn[0], max_rotation), scale)
    else:
        rows = spatial(bounded_vector(turn, max_rotation), scale)
    if size is not None:
        lengths = [as_float(length, shift[0].dtype) for length in reversed(size)]
        rows = [
            [x if i == j else x * (lengths[j] / lengths[i]) for j, x in enumerate(row)]
            for i, row in enumerate(rows)
        ]
    return affine(rows, shift)


def planar(angle, scale):
    """The rows of `scale` times a rotation of images."""
    cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
    return [[cosine, -sine], [sine, cosine]]


def spatial(vector, scale):
    """The rows of `scale` times a rotation of volumes.

    Rodrigues' formula: `I + sin(t) / t · K + (1 − cos(t)) / t² · K²`, where t is the length of the
    vector and K @ p its cross product with p.
    """
    square = squared_length(vector)
    sine = even(SINE, lambda t: ops.sin(t) / t, square)
    cosine = even(COSINE, lambda t: 2 * (ops.sin(t / 2) / t) ** 2, square)
    x, y, z = vector
    xx, yy, zz = (cosine * (k * k) for k in vector)
    xy, xz, yz = cosine * (x * y), cosine * (x * z), cosine * (y * z)
    x, y, z = (sine * k for k in vector)
    rows = [
        [1 - (yy + zz), xy - z, xz + y],
        [xy + z, 1 - (xx + zz), yz - x],
        [xz - y, yz + x, 1 - (xx + yy)],
    ]
    return [[scale * element for element in row] for row in rows]


def squared_length(vector):
    x, y, z = vector
    return x * x + y * y + z * z


def even(series, function, square):
    """`function(t)`, where `square` is t². Near 0 it is computed by its power series, which has
    finite derivatives there."""
    near = square < NEAR
    small, t = ops.where(near, square, 0), ops.sqrt(ops.where(near, 1, square))
    by_series = functools.reduce(lambda value, k: value * small + k, reversed(series))
    return ops.where(near, by_series, function(t))


def bounded(value, bound):
    """A smooth limit to ±bound that leaves values near 0 unchanged, and 0 exactly."""
    return value if bound is None else bound * ops.tanh(value / bound)


def bounded_vector(vector, bound):
    """A smooth limit of a vector's length to the bound."""
    if bound is None:
        return vector
    shrink = even(TANH, lambda t: ops.tanh(t) / t, squared_length(vector) / bound**2)
    return [shrink * k for k in vector]


def bounded_scale(scale, bounds):
    """A smooth limit to two bounds that leaves scales near 1 unchanged, and 1 exactly."""
    if bounds is None:
        return scale
    least, most = bounds
    change = scale - 1
    smaller, larger = bounded(change, 1 - least), bounded(change, most - 1)
    return 1 + ops.where(change < 0, smaller, larger)


def affine(rows, shift):
    """Matrices `(batch, axes + 1, axes + 1)` from the rows of a linear map and a translation."""
    axes = len(shift)
    return from_rows([*([*row, x] for row, x in zip(rows, shift)), [0] * axes + [1]])


def scaling(scales):
    """The rows of a linear map that scales each axis."""
    axes = range(len(scales))
    return [[scales[row] if row == column else 0 for column in axes] for row in axes]


def from_rows(rows):
    """Square matrices, a batch of them, from rows of numbers and `(batch,)` tensors."""
    elements = [element for row in rows for element in row]
    like = next(x for x in elements if not isinstance(x, numbers.Number))
    full = [ops.full_like(like, x) if isinstance(x, numbers.Number) else x for x in elements]
    return ops.reshape(ops.stack(full, axis=-1), (-1, len(rows), len(rows)))


def as_bounds(scale):
    """Two bounds of a scale as a tuple, or `None`."""
    if scale is None:
        return None
    try:
        least, most = scale
        good = 0 <= least < 1 < most < math.inf
    except (ValueError, TypeError):
        good = False
    if not good:
        raise ValueError(
            "`scale` must be two bounds, one from 0 to below 1 and one above 1. "
            f"Received: scale={scale}"
        )
    return least, most


def check_max_rotation(bound):
    """Raises a ValueError if a bound is not an angle, or above a full turn, such as 45 for 45°."""
    good = isinstance(bound, numbers.Real) and 0 < float(bound) <= 2 * math.pi
    if bound is not None and not good:
        raise ValueError(
            "`max_rotation` must be an angle in radians, above 0 and at most a full turn, 2π, or "
            f"None; `math.radians` converts degrees. Received: max_rotation={bound}"
        )
