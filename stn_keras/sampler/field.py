"""Extends a warp that is known at the pixels of its output only to a continuous map."""

import copy
import itertools
import math

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_type
from stn_keras.sampler.axes import as_float, from_middle, middle, pixel_step
from stn_keras.sampler.linear import diagonal, solved, vector
from stn_keras.sampler.taps import between


class Field:
    """A warp as a map of all points, also between and beyond the pixels of its output.

    It is interpolated linearly between the centres of the pixels, and extrapolated linearly to one
    pixel beyond the outermost ones. Further out it continues as the affine map that fits the whole
    warp best. Positions are in pixels, `(batch, n, axes)`, with `(x, y)` or `(x, y, z)` on the last
    axis.

    Attributes:
        trend: The matrix of this affine map, `(batch, axes, axes)`, without a gradient.
    """

    def __init__(self, warp, dtype):
        displacement = as_type(warp.displacement(), dtype)
        self.batch, *size, axes = backend.shape(displacement)
        self.counts = size[::-1]
        self.rows = ops.reshape(displacement, (-1, axes))
        self.size = vector([as_float(count, dtype) for count in self.counts], dtype)
        self.middle = vector([middle(count, dtype) for count in self.counts], dtype)
        lengths = warp.input_size[::-1]
        self.middle_of_input = vector([middle(length, dtype) for length in lengths], dtype)
        self.scale = vector(scales(warp, dtype), dtype)
        self.mean, slopes = plane_through(ops.stop_gradient(displacement))
        self.trend = slopes + diagonal(self.scale)

    def constant(self):
        """The same field without a gradient."""
        field = copy.copy(self)
        field.rows = ops.stop_gradient(self.rows)
        return field

    def at(self, points):
        """The positions in the input of points of the output, and the Jacobians at these points.

        The Jacobians are `(batch, n, axes, axes)`.
        """
        points = points + ops.zeros_like(self.mean)[:, None]  # broadcast to the batch of the warp
        near = between(points, -1, self.size)
        start = between(backend.floor(near), 0, self.size - 2)
        fractions = ops.split(near - start, len(self.counts), axis=-1)
        shift, slopes = multilinear(self.corners(ops.cast(start, "int32")), fractions)
        trend, beyond = self.trend[:, None], points - near
        found = self.scale * (near - self.middle) + self.middle_of_input + shift
        found = found + ops.sum(trend * beyond[..., None, :], axis=-1)
        jacobian = ops.stack(slopes, axis=-1) + diagonal(self.scale)
        return found, ops.where(beyond[..., None, :] == 0, jacobian, trend)

    def corners(self, start):
        """The displacements at the corners of the cells that start at `start`, x changing fastest.

        A cell is the square or cube between the centres of neighbouring pixels.
        """
        stride, pairs = 1, []
        for position, count in zip(ops.unstack(start, axis=-1), self.counts):
            position = ops.maximum(position, 0)  # on an axis of one pixel it may be -1
            pairs.append([position * stride, ops.minimum(position + 1, count - 1) * stride])
            stride = stride * count
        indices = ops.stack([sum(found) for found in itertools.product(*reversed(pairs))])
        image = ops.minimum(ops.arange(backend.shape(start)[0]), self.batch - 1)
        return ops.unstack(ops.take(self.rows, indices + image[:, None] * stride, axis=0))

    def within(self, points):
        """The points, or NaN for those more than half a pixel beyond the edges of the output."""
        inside = ops.all(ops.abs(points - self.middle) <= (self.size + 1) / 2, axis=-1)
        return ops.where(inside[..., None], points, ops.full_like(points, math.nan))

    def start(self, positions):
        """The output points of positions in the input under the affine map that fits best.

        Newton's method starts from them.
        """
        offset = positions - self.middle_of_input - self.mean[:, None]
        return self.middle + solved(self.trend[:, None], offset)


def multilinear(corners, fractions):
    """The value in a cell and its derivatives along the axes, from the values at its corners."""
    if not fractions:
        return corners[0], []
    *others, fraction = fractions
    half = len(corners) // 2
    low, low_slopes = multilinear(corners[:half], others)
    high, high_slopes = multilinear(corners[half:], others)
    slopes = [lerp(*pair, fraction) for pair in zip(low_slopes, high_slopes)]
    return lerp(low, high, fraction), [*slopes, high - low]


def lerp(low, high, fraction):
    return low + fraction * (high - low)


def plane_through(displacement):
    """The affine map that fits a displacement best.

    Returns:
        `(value, slopes)`: its value at the centre, `(batch, axes)`, and its matrix, `(batch, axes,
        axes)`.
    """
    dtype, (_, *size, axes) = displacement.dtype, backend.shape(displacement)
    # A sparse sample of the pixels is enough, and is fast.
    steps = [max(1, length // 32) if isinstance(length, int) else 1 for length in size]
    sparse = displacement[:, *(slice(None, None, step) for step in steps)]
    sparse = ops.where(ops.isfinite(sparse), sparse, 0)
    everywhere = set(range(1, axes + 1))
    value, slopes = ops.mean(sparse, axis=tuple(everywhere)), []
    for axis, (length, step) in reversed(list(enumerate(zip(size, steps), 1))):
        profile = ops.mean(sparse, axis=tuple(everywhere - {axis}))  # (batch, length, axes)
        along = from_middle(length, dtype)[::step]
        centre = ops.mean(along)
        along = along - centre
        squares = ops.sum(along**2)
        slope = ops.sum(along[:, None] * profile, axis=1) / ops.where(squares > 0, squares, 1)
        value = value - slope * centre
        slopes.append(slope)
    return as_type(value, dtype), as_type(ops.stack(slopes, axis=-1), dtype)


def scales(warp, dtype):
    """The number of input pixels per output pixel of the identity warp, along x, y and z."""
    pairs = zip(warp.input_size[::-1], warp.output_size[::-1])
    return [pixel_step(*pair, warp.align_corners, dtype) for pair in pairs]
