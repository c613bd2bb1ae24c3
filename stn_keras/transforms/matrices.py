"""Affine transforms and their special cases."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from stn_keras.checks.arguments import as_affine
from stn_keras.sampler import matrix_warps
from stn_keras.sampler.linear import with_last_row
from stn_keras.transforms.base import register
from stn_keras.transforms.image_or_volume import ImageOrVolume
from stn_keras.transforms.rotations import (
    affine,
    as_bounds,
    bounded_scale,
    check_max_rotation,
    scaling,
    similarity,
)


@register
@dataclass(frozen=True, eq=False, repr=False)
class Translation(ImageOrVolume):
    """Translation: `theta` is `(batch, 2)`, x and y; for volumes `(batch, 3)`, x, y and z.

    Example:

    >>> np.array(Translation().matrix([[0.5, 0.0]]))[0, 0]  # a quarter of the width to the right
    array([1. , 0. , 0.5], dtype=float32)

    Args:
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if `axes` is neither.
    """

    @property
    def identity(self):
        return np.zeros(self.axes, "float32")

    def matrix(self, theta, size=None):
        shift = ops.unstack(self.parameters(theta), axis=1)
        return affine(scaling([1] * self.axes), shift)


@register
@dataclass(frozen=True, eq=False, repr=False)
class Attention(ImageOrVolume):
    """Scale and translation: `theta` is `(batch, 3)`, scale, x and y; a scale below 1 zooms in.

    For volumes `theta` is `(batch, 4)`, scale, x, y and z.
    [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 2.

    Example:

    >>> np.array(Attention().matrix([[0.5, 0.0, -0.5]]))[0, :2]  # the middle of the upper half
    array([[ 0.5,  0. ,  0. ],
           [ 0. ,  0.5, -0.5]], dtype=float32)

    Args:
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if `axes` is neither.
    """

    @property
    def identity(self):
        return np.array([1] + [0] * self.axes, "float32")

    def matrix(self, theta, size=None):
        scale, *shift = ops.unstack(self.parameters(theta), axis=1)
        return affine(scaling([scale] * self.axes), shift)


@register
@dataclass(frozen=True, eq=False, repr=False)
class Box(ImageOrVolume):
    """An upright box: `theta` is `(batch, 4)`, scale x, scale y, x and y.

    For volumes `theta` is `(batch, 6)`: scale x, scale y, scale z, x, y and z.
    `geometry.from_boxes` gives the `theta` of boxes in pixels.

    Example:

    >>> np.array(Box().matrix([[0.5, 1.0, -0.5, 0.0]]))[0, :2]  # the left half
    array([[ 0.5,  0. , -0.5],
           [ 0. ,  1. ,  0. ]], dtype=float32)

    Args:
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if `axes` is neither.
    """

    @property
    def identity(self):
        return np.repeat(np.array([1, 0], "float32"), self.axes)

    def matrix(self, theta, size=None):
        numbers = ops.unstack(self.parameters(theta), axis=1)
        return affine(scaling(numbers[: self.axes]), numbers[self.axes :])


@register
@dataclass(frozen=True, eq=False, repr=False)
class Rigid(ImageOrVolume):
    """Rotation and translation: `theta` is `(batch, 3)`, angle, x and y.

    For volumes `theta` is `(batch, 6)`: a rotation vector, x, y and z. The direction of the vector
    is the axis of the rotation, and its length is the angle. A vector along z turns x towards y.

    Example:

    >>> quarter = Rigid().matrix([[np.pi / 2, 0.0, 0.0]], size=(20, 40))
    >>> np.array(quarter)[0, :2].round(3) + 0.0  # in an image twice as wide as high
    array([[ 0. , -0.5,  0. ],
           [ 2. ,  0. ,  0. ]], dtype=float32)

    Args:
        max_rotation: Bound of the angle in radians, which is never reached; `None` for no bound.
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if the bound is not positive, or `axes` is neither 2 nor 3.
    """

    max_rotation: float | None = None

    def __post_init__(self):
        super().__post_init__()
        check_max_rotation(self.max_rotation)

    @property
    def identity(self):
        return np.zeros(self.turns + self.axes, "float32")

    def matrix(self, theta, size=None):
        numbers = ops.unstack(self.parameters(theta), axis=1)
        turn, shift = numbers[: self.turns], numbers[self.turns :]
        return similarity(turn, 1, shift, size, self.max_rotation)


@register
@dataclass(frozen=True, eq=False, repr=False)
class Similarity(ImageOrVolume):
    """Rotation, scale and translation: `theta` is `(batch, 4)`, angle, scale, x and y.

    For volumes `theta` is `(batch, 7)`: a rotation vector as in `Rigid`, scale, x, y and z.

    Example:

    >>> bounded_similarity = Similarity(max_rotation=np.pi / 4, scale=(0.5, 2.0))
    >>> bounded_similarity.identity
    array([0., 1., 0., 0.], dtype=float32)

    Args:
        max_rotation: Bound of the angle in radians, which is never reached; `None` for no bound.
        scale: Lower and upper bound of the scale, below and above 1, which are never reached;
            `None` for no bounds.
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if `max_rotation` is not positive, `scale` is not a bound below 1 and one above
            1, or `axes` is neither 2 nor 3.
    """

    max_rotation: float | None = None
    scale: tuple[float, float] | None = None

    def __post_init__(self):
        super().__post_init__()
        check_max_rotation(self.max_rotation)
        object.__setattr__(self, "scale", as_bounds(self.scale))  # JSON has a list

    @property
    def identity(self):
        return np.array([0] * self.turns + [1] + [0] * self.axes, "float32")

    def matrix(self, theta, size=None):
        numbers = ops.unstack(self.parameters(theta), axis=1)
        turn, scale, shift = numbers[: self.turns], numbers[self.turns], numbers[-self.axes :]
        scale = bounded_scale(scale, self.scale)
        return similarity(turn, scale, shift, size, self.max_rotation)


@register
@dataclass(frozen=True, eq=False, repr=False)
class Affine(ImageOrVolume):
    """Linear map and translation: `theta` is `(batch, 6)` or `(batch, 2, 3)`, row-major.

    For volumes `theta` is `(batch, 12)` or `(batch, 3, 4)`.
    [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 1.

    Example:

    >>> mirrored = Affine().grid([[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], (1, 2))
    >>> np.array(mirrored)[0, 0]
    array([[ 0.5,  0. ],
           [-0.5,  0. ]], dtype=float32)

    Args:
        axes: 2 for images, 3 for volumes.

    Raises:
        ValueError: if `axes` is neither.
    """

    @property
    def identity(self):
        return np.eye(self.axes, self.axes + 1, dtype="float32").ravel()

    @property
    def shapes(self):
        return (self.num_parameters,), (self.axes, self.axes + 1)

    def matrix(self, theta, size=None):
        return with_last_row(as_affine(theta, self.axes))

    def _warp(self, theta, *where):
        if type(self).matrix is not Affine.matrix:  # a subclass has its own
            return super()._warp(theta, *where)
        return matrix_warps.Affine(as_affine(theta, self.axes), *where)

    def from_matrix(self, matrix):
        """The `theta` of `(batch, 3, 3)` matrices, for volumes `(batch, 4, 4)`."""
        return ops.reshape(matrix[:, : self.axes], (-1, self.num_parameters))
