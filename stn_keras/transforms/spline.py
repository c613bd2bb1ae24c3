"""The thin-plate spline."""

import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.arguments import as_size
from stn_keras.axes import as_float, extent, from_middle, positive_extent
from stn_keras.geometry import affine_map, affine_pixels
from stn_keras.transforms.base import Transform, register

IDENTITY = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]  # where the pixels would be without offsets


@register
@dataclass(frozen=True, eq=False)
class ThinPlateSpline(Transform):
    """Smooth warp that moves control points on a regular grid from −1 to 1 by given offsets.

    `theta` is `(batch, 2 · rows · columns)`: the offsets `(x, y)` of the control points, row by
    row. Between the points the warp has the least bending energy ([Bookstein, 1989](
    https://doi.org/10.1109/34.24792)); the paper's appendix uses it.

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

    def pixels(self, theta, input_size, output_size, align_corners):
        offsets = self.offsets(theta)
        dtype = offsets.dtype
        influence = spline_influence(self.control_points, output_size, align_corners, dtype)
        influence = ops.transpose(influence)
        identity = ops.cast(IDENTITY, dtype)
        undisplaced = affine_pixels(identity, input_size, output_size, align_corners)
        coordinates = []
        for axis, (still, length) in enumerate(zip(undisplaced, reversed(input_size))):
            half = as_float(extent(length, align_corners), dtype) / 2
            moved = ops.reshape(offsets[:, :, axis] @ influence, (-1, *output_size))
            coordinates.append(still + moved * half)
        return coordinates

    def normalised(self, theta, input_size, output_size, align_corners):
        if not self.keeps(ThinPlateSpline, "pixels"):
            return super().normalised(theta, input_size, output_size, align_corners)
        offsets = self.offsets(theta)
        dtype = offsets.dtype
        influence = spline_influence(self.control_points, output_size, align_corners, dtype)
        identity = ops.cast(IDENTITY, dtype)
        still = ops.stack(affine_map(identity, (2, 2), output_size, align_corners), axis=-1)
        return still + ops.reshape(influence @ offsets, (-1, *output_size, 2))


def spline_influence(control_points, output_size, align_corners, dtype):
    """How far each output pixel follows the offset of each control point, `(pixels, n)`."""
    weights = ops.convert_to_tensor(spline_weights(control_points), dtype=dtype)
    y, x = (  # normalised, in one column each
        from_middle(length, dtype)[:, None] * (2 / positive_extent(length, align_corners, dtype))
        for length in output_size
    )
    rows, columns = (
        ops.convert_to_tensor(np.linspace(-1, 1, count)[None], dtype=dtype)
        for count in control_points
    )
    squares = ((y - rows) ** 2)[:, None, :, None] + ((x - columns) ** 2)[None, :, None, :]
    kernels = ops.reshape(bend(squares), (-1, math.prod(control_points)))
    plane = (weights[-3:-2] + y * weights[-1:])[:, None] + (x * weights[-2:-1])[None]
    return kernels @ weights[:-3] + ops.reshape(plane, (-1, math.prod(control_points)))


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


def bend(squares):
    """The kernel `r² log r²` as a function of squared distances; 0 at 0."""
    return squares * ops.log(squares + 1e-30)
