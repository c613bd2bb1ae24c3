"""The homography."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.sampler.coordinates import divided
from stn_keras.sampler.matrix_warps import Homography
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
