"""The homography."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.sampler import warps
from stn_keras.sampler.axes import extent
from stn_keras.sampler.coordinates import affine_map, divided
from stn_keras.transforms.base import MatrixTransform, register
from stn_keras.transforms.rotations import from_rows


@register
@dataclass(frozen=True, eq=False)
class Projective(MatrixTransform):
    """Homography; those that map the centre of the output to infinity cannot be represented.

    `theta` is `(batch, 8)`: the matrix in row-major order without its last element, which is 1.
    Points are `(x, y) / depth`. Samples with a depth of 0, on the horizon, are outside the image.

    Example:

    >>> tilted = Projective().grid([[1, 0, 0, 0, 1, 0, 0.5, 0]], (1, 2))  # depth 1 + x / 2
    >>> np.array(tilted)[0, 0, :, 0].round(3)
    array([-0.667,  0.4  ], dtype=float32)
    """

    @property
    def identity(self):
        return np.array([1, 0, 0, 0, 1, 0, 0, 0], "float32")

    def matrix(self, theta, size=(1, 1)):
        a, b, c, d, e, f, g, h = ops.unstack(self.parameters(theta), axis=1)
        return from_rows([[a, b, c], [d, e, f], [g, h, 1]])

    closure = "projective"

    def from_matrix(self, matrix):
        """The `theta` of `(batch, 3, 3)` matrices with any last element. If that is 0, `theta` is
        not finite and has no gradient."""
        elements = ops.reshape(matrix, (-1, 9))
        largest = ops.stop_gradient(ops.max(ops.abs(elements), axis=1, keepdims=True))
        elements = elements / ops.where(largest > 0, largest, 1)
        return divided(elements[:, :8], elements[:, 8:])

    def _warp(self, theta, input_size, output_size, align_corners):
        return Homography(self.matrix(theta), input_size, output_size, align_corners)


class Homography(warps.Warp):
    """A warp whose `tensor` holds normalised homographies, `(batch, 3, 3)`.

    Points with a depth of 0, on the horizon, are not finite and count as outside the image.
    """

    def pixels(self):
        units = [extent(length, self.align_corners) for length in self.input_size]
        return warps.from_first(self._divided(units), self.input_size)

    def grid(self):
        return ops.stack(self._divided((2, 2)), axis=-1)  # units from −1 to 1

    def _divided(self, units):
        matrix = self.tensor
        points = affine_map(matrix[:, :2], units, self.output_size, self.align_corners)
        # The last row gives the depth, whose unit does not depend on the size of the image.
        (depth,) = affine_map(matrix[:, 2:], (2,), self.output_size, self.align_corners)
        return [divided(point, depth) for point in points]

    def is_identity(self):
        return warps.same_matrix(self, np.eye(3))
