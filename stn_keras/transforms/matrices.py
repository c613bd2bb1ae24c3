"""Transforms that are a matrix of homogeneous coordinates."""

import math
import numbers
from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.arguments import as_affine
from stn_keras.axes import as_float
from stn_keras.geometry import affine_grid, projective_pixels
from stn_keras.homographies import divided
from stn_keras.transforms.base import MatrixTransform, register


@register
@dataclass(frozen=True, eq=False)
class Translation(MatrixTransform):
    """Translation: `theta` is `(batch, 2)`, x and y.

    Example:

    >>> np.array(Translation().matrix([[0.5, 0.0]]))[0, 0]  # a quarter of the width to the right
    array([1. , 0. , 0.5], dtype=float32)
    """

    @property
    def identity(self):
        return np.zeros(2, "float32")

    def matrix(self, theta, size=(1, 1)):
        x, y = ops.unstack(self.parameters(theta), axis=1)
        return from_rows([[1, 0, x], [0, 1, y], [0, 0, 1]])


@register
@dataclass(frozen=True, eq=False)
class Attention(MatrixTransform):
    """Scale and translation: `theta` is `(batch, 3)`, scale, x and y; a scale below 1 zooms in.

    [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 2.

    Example:

    >>> np.array(Attention().matrix([[0.5, 0.0, -0.5]]))[0, :2]  # the middle of the upper half
    array([[ 0.5,  0. ,  0. ],
           [ 0. ,  0.5, -0.5]], dtype=float32)
    """

    @property
    def identity(self):
        return np.array([1, 0, 0], "float32")

    def matrix(self, theta, size=(1, 1)):
        scale, x, y = ops.unstack(self.parameters(theta), axis=1)
        return from_rows([[scale, 0, x], [0, scale, y], [0, 0, 1]])


@register
@dataclass(frozen=True, eq=False)
class Rigid(MatrixTransform):
    """Rotation and translation: `theta` is `(batch, 3)`, angle, x and y.

    Example:

    >>> quarter = Rigid().matrix([[math.pi / 2, 0.0, 0.0]], size=(20, 40))
    >>> np.array(quarter)[0, :2].round(3) + 0.0  # in an image twice as wide as high
    array([[ 0. , -0.5,  0. ],
           [ 2. ,  0. ,  0. ]], dtype=float32)

    Args:
        max_rotation: Bound of the angle in radians, which is never reached; `None` for no bound.

    Raises:
        ValueError: if the bound is not positive.
    """

    max_rotation: float | None = None

    def __post_init__(self):
        check_max_rotation(self.max_rotation)

    @property
    def identity(self):
        return np.zeros(3, "float32")

    def matrix(self, theta, size=(1, 1)):
        angle, x, y = ops.unstack(self.parameters(theta), axis=1)
        return rotation(bounded(angle, self.max_rotation), 1, x, y, size)


@register
@dataclass(frozen=True, eq=False)
class Similarity(MatrixTransform):
    """Rotation, scale and translation: `theta` is `(batch, 4)`, angle, scale, x and y.

    Example:

    >>> bounded_similarity = Similarity(max_rotation=math.pi / 4, scale=(0.5, 2.0))
    >>> bounded_similarity.identity
    array([0., 1., 0., 0.], dtype=float32)

    Args:
        max_rotation: Bound of the angle in radians, which is never reached; `None` for no bound.
        scale: Lower and upper bound of the scale, below and above 1, which are never reached;
            `None` for no bounds.

    Raises:
        ValueError: if `max_rotation` is not positive, or `scale` is not a bound below and one above
            1.
    """

    max_rotation: float | None = None
    scale: tuple[float, float] | None = None

    def __post_init__(self):
        check_max_rotation(self.max_rotation)
        if self.scale is None:
            return
        try:
            least, most = self.scale
            object.__setattr__(self, "scale", (least, most))  # JSON has a list
            good = 0 <= least < 1 < most < math.inf
        except (ValueError, TypeError):
            good = False
        if not good:
            raise ValueError(
                "`scale` must be two bounds, one from 0 to below 1 and one above 1. "
                f"Received: scale={self.scale}"
            )

    @property
    def identity(self):
        return np.array([0, 1, 0, 0], "float32")

    def matrix(self, theta, size=(1, 1)):
        angle, scale, x, y = ops.unstack(self.parameters(theta), axis=1)
        if self.scale is not None:
            least, most = self.scale
            change = scale - 1
            smaller, larger = bounded(change, 1 - least), bounded(change, most - 1)
            scale = 1 + ops.where(change < 0, smaller, larger)
        return rotation(bounded(angle, self.max_rotation), scale, x, y, size)


@register
@dataclass(frozen=True, eq=False)
class Affine(MatrixTransform):
    """Linear map and translation: `theta` is `(batch, 6)` or `(batch, 2, 3)`, row-major.

    [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 1.

    Example:

    >>> mirrored = Affine().grid([[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], (1, 2))
    >>> np.array(mirrored)[0, 0]
    array([[ 0.5,  0. ],
           [-0.5,  0. ]], dtype=float32)
    """

    @property
    def identity(self):
        return np.array([1, 0, 0, 0, 1, 0], "float32")

    def matrix(self, theta, size=(1, 1)):
        theta = as_affine(theta)
        last_row = ops.zeros_like(theta[:, :1]) + ops.cast([[[0.0, 0.0, 1.0]]], theta.dtype)
        return ops.concatenate([theta, last_row], axis=1)

    def affine(self, theta, input_size, align_corners):
        return as_affine(theta)

    def from_matrix(self, matrix):
        """The `theta` of `(batch, 3, 3)` matrices."""
        return ops.reshape(matrix[:, :2], (-1, 6))

    def grid(self, theta, output_size, align_corners=False):
        return affine_grid(theta, output_size, align_corners=align_corners)


@register
@dataclass(frozen=True, eq=False)
class Projective(MatrixTransform):
    """Homography, except for those that map the centre of the output to infinity.

    `theta` is `(batch, 8)`: the matrix in row-major order without its last element, which is 1.
    Points are `(x, y) / depth`. Where the depth is 0, on the horizon, samples are outside the
    image.

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
        """The `theta` of `(batch, 3, 3)` matrices, whatever their last element; not finite, and
        without a gradient, where that is 0."""
        elements = ops.reshape(matrix, (-1, 9))
        largest = ops.stop_gradient(ops.max(ops.abs(elements), axis=1, keepdims=True))
        elements = elements / ops.where(largest > 0, largest, 1)
        return divided(elements[:, :8], elements[:, 8:])

    def pixels(self, theta, input_size, output_size, align_corners):
        return projective_pixels(self.matrix(theta), input_size, output_size, align_corners)


def rotation(angle, scale, x, y, size):
    """Matrices of a rotation in an image of `(height, width)`, a scale and a translation."""
    height, width = (as_float(length, x.dtype) for length in size)
    cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
    return from_rows(
        [[cosine, -sine * (height / width), x], [sine * (width / height), cosine, y], [0, 0, 1]]
    )


def bounded(value, bound):
    """A smooth limit to ±bound that leaves values near 0 unchanged, and 0 exactly."""
    return value if bound is None else bound * ops.tanh(value / bound)


def from_rows(rows):
    """Matrices `(batch, 3, 3)` from rows of numbers and `(batch,)` tensors."""
    elements = [element for row in rows for element in row]
    like = next(x for x in elements if not isinstance(x, numbers.Number))
    full = [ops.full_like(like, x) if isinstance(x, numbers.Number) else x for x in elements]
    return ops.reshape(ops.stack(full, axis=-1), (-1, 3, 3))


def check_max_rotation(bound):
    if bound is not None and not (isinstance(bound, numbers.Real) and 0 < float(bound) < math.inf):
        raise ValueError(
            f"`max_rotation` must be a positive angle or None. Received: max_rotation={bound}"
        )
