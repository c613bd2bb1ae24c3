"""The thin-plate spline."""

import dataclasses
import functools
import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_size
from stn_keras.sampler.axes import extent, from_middle, positive_extent
from stn_keras.sampler.coordinates import by_axis
from stn_keras.sampler.matrix_warps import Affine
from stn_keras.sampler.warps import Warp
from stn_keras.transforms.base import Transform, register


@register
@dataclass(frozen=True, eq=False)
class ThinPlateSpline(Transform):
    """Smooth warp that moves control points on a regular grid from −1 to 1 by given offsets.

    `theta` is `(batch, 2 · rows · columns)`: the offsets `(x, y)` of the control points, row by
    row. Between the points the warp has the least bending energy ([Bookstein, 1989](
    https://doi.org/10.1109/34.24792)). The appendix of the paper uses this transform.

    Example:

    >>> spline = ThinPlateSpline(control_points=(2, 2))
    >>> corner = [[0.5, 0, 0, 0, 0, 0, 0, 0]]  # the upper left point moves right
    >>> np.array(spline.grid(corner, (2, 2), align_corners=True))[0, 0].round(3)
    array([[-0.5, -1. ],
           [ 1. , -1. ]], dtype=float32)

    Args:
        control_points: Number of `(rows, columns)` of control points, at least two of each.

    Raises:
        ValueError: if `control_points` is not two integers, each at least 2.
    """

    control_points: tuple[int, int] = (4, 4)

    def __post_init__(self):
        points = as_size(self.control_points, "control_points")
        object.__setattr__(self, "control_points", points)
        if min(points) < 2:
            raise ValueError(
                "`control_points` must be at least two rows and two columns. "
                f"Received: control_points={points}"
            )

    @property
    def identity(self):
        return np.zeros(2 * math.prod(self.control_points), "float32")

    def offsets(self, theta):
        """`theta` as `(batch, n, 2)`."""
        return ops.reshape(self.parameters(theta), (-1, math.prod(self.control_points), 2))

    def _warp(self, theta, input_size, output_size, align_corners):
        offsets = self.offsets(theta)
        return Spline(offsets, input_size, output_size, align_corners, self.control_points)


@dataclass(eq=False)
class Spline(Warp):
    """A warp whose `tensor` holds offsets of the control points, `(batch, n, 2)`."""

    control_points: tuple[int, int]

    def pixels(self):
        lengths = reversed(self.input_size)
        halves = [extent(n, self.align_corners, self.tensor.dtype) / 2 for n in lengths]
        moves = zip(self._identity().pixels(), by_axis(self._moved()), halves)
        return [still + moved * half for still, moved, half in moves]

    def grid(self):
        return self._identity().grid() + self._moved()

    def _identity(self):
        identity = ops.convert_to_tensor(np.eye(2, 3)[None], dtype=self.tensor.dtype)
        return Affine(identity, self.input_size, self.output_size, self.align_corners)

    def _moved(self):
        """How far the offsets move each output pixel, normalised."""
        influence = influence_of(self.control_points, self.output_size, self.align_corners)
        influence = ops.convert_to_tensor(influence, dtype=self.tensor.dtype)
        return ops.reshape(backend.matmul(influence, self.tensor), (-1, *self.output_size, 2))

    def is_identity(self):
        return ops.all(self.tensor == 0, axis=(1, 2))

    def _of_input(self, size):
        return dataclasses.replace(self, input_size=size)


def influence_of(control_points, output_size, align_corners):
    """How far each output pixel follows the offset of each control point, `(pixels, n)`.

    For a known size it is an array, which is computed once; otherwise it is a tensor.
    """
    if all(isinstance(length, int) for length in output_size):
        return constant_influence(control_points, output_size, align_corners)
    y, x = (
        from_middle(length, "float32") * (2 / positive_extent(length, align_corners))
        for length in output_size
    )
    return influence(control_points, y, x, ops)


@functools.lru_cache(maxsize=16)
def constant_influence(control_points, output_size, align_corners):
    y, x = (
        (2 * np.arange(length) + 1 - length) / positive_extent(length, align_corners)
        for length in output_size
    )
    return influence(control_points, y, x, np)


def influence(control_points, y, x, numpy):
    """`influence_of` for normalised positions `y` and `x`; `numpy` is NumPy or Keras's `ops`."""
    weights = spline_weights(control_points)
    rows, columns = (np.linspace(-1, 1, count)[None] for count in control_points)
    if numpy is ops:
        weights, rows, columns = (ops.cast(x, "float32") for x in (weights, rows, columns))
    y, x = y[:, None], x[:, None]
    squares = ((y - rows) ** 2)[:, None, :, None] + ((x - columns) ** 2)[None, :, None, :]
    kernels = numpy.reshape(squares * numpy.log(squares + 1e-30), (-1, math.prod(control_points)))
    plane = (weights[-3:-2] + y * weights[-1:])[:, None] + (x * weights[-2:-1])[None]
    return kernels @ weights[:-3] + numpy.reshape(plane, (-1, math.prod(control_points)))


def spline_weights(control_points):
    """Matrix `(n + 3, n)` from offsets of n points to the weights of their kernels, 1, x and y.

    It is a part of the inverse of the matrix L of
    [Bookstein, 1989](https://doi.org/10.1109/34.24792).
    """
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in control_points), indexing="ij")
    centres = np.stack([columns.ravel(), rows.ravel()], axis=-1)
    count = len(centres)
    squares = ((centres[:, None] - centres[None]) ** 2).sum(-1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = squares * np.log(np.where(squares > 0, squares, 1))
    system[:count, count:] = np.column_stack([np.ones(count), centres])
    system[count:, :count] = system[:count, count:].T
    return np.linalg.inv(system)[:, :count]
