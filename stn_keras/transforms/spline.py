"""The thin-plate spline."""

import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.arguments import as_size
from stn_keras.axes import as_float, extent
from stn_keras.geometry import affine_map, affine_pixels
from stn_keras.transforms.base import Transform, register


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

    def pixels(self, theta, input_size, output_size, align_corners):
        theta = self.parameters(theta)
        offsets = ops.reshape(theta, (-1, math.prod(self.control_points), 2))
        return spline_pixels(offsets, self.control_points, input_size, output_size, align_corners)


def spline_pixels(offsets, control_points, input_size, output_size, align_corners):
    """Pixel coordinates `(x, y)` in the input, for thin-plate splines.

    `offsets`, `(batch, rows · columns, 2)`, are normalised. The displacement of every pixel is a
    fixed linear function of them.
    """
    dtype = offsets.dtype
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in control_points), indexing="ij")
    centres = np.stack([columns.ravel(), rows.ravel()], axis=-1)  # (n, 2)
    weights = spline_weights(centres)  # (n + 3, n)

    identity = ops.cast([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype)
    x, y = (axis[0] for axis in affine_map(identity, (2, 2), output_size, align_corners))
    kernels = [bend((x - a) ** 2 + (y - b) ** 2) for a, b in centres.tolist()]
    basis = ops.stack([*kernels, ops.ones_like(x), x, y], axis=-1)  # (height, width, n + 3)
    basis = ops.reshape(basis, (-1, len(weights)))
    influence = ops.transpose(basis @ ops.convert_to_tensor(weights, dtype=dtype))  # (n, pixels)
    undisplaced = affine_pixels(identity, input_size, output_size, align_corners)
    coordinates = []
    for axis, (still, length) in enumerate(zip(undisplaced, reversed(input_size))):
        half = as_float(extent(length, align_corners), dtype) / 2
        moved = ops.reshape(offsets[:, :, axis] @ influence, (-1, *output_size))
        coordinates.append(still + moved * half)
    return coordinates


def spline_weights(centres):
    """Matrix `(n + 3, n)` from offsets of n centres to the weights of their kernels, 1, x and y.

    It is a part of the inverse of the matrix L of
    [Bookstein, 1989](https://doi.org/10.1109/34.24792).
    """
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
