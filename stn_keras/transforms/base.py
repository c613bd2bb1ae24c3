"""What all transforms have in common."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_coordinates, as_size, is_symbolic, wide_dtype
from stn_keras.sampler.axes import positive_extent
from stn_keras.sampler.glimpses import Glimpses
from stn_keras.sampler.matrix_warps import Affine
from stn_keras.sampler.symbolic import Made
from stn_keras.sampler.warps import Pixels
from stn_keras.transforms.symbolic import Grid

register = keras.saving.register_keras_serializable("stn_keras")


@dataclass(frozen=True, eq=False)
class Transform:
    """Base class of all transforms.

    Transforms are frozen dataclasses. All attributes of an instance are its settings. Instances
    with equal settings are equal and have the same hash. Settings other than numbers, strings and
    tuples of these are equal only if they are the same object.

    Attributes:
        num_parameters: Number of values that a localization network regresses per image.
        identity: 1-D array of the parameters for which a warp returns its input.
        axes: 2 for transforms of images, 3 for transforms of volumes.

    Example:

    >>> transform = transforms.get("thin_plate_spline")
    >>> transform.num_parameters
    32
    >>> transform.grid(transform.identity[None], (28, 28)).shape == (1, 28, 28, 2)
    True
    """

    axes = 2

    @property
    def num_parameters(self) -> int:
        return len(self.identity)

    @property
    def identity(self) -> np.ndarray:
        raise NotImplementedError

    @property
    def shapes(self):
        """The shapes that the parameters of one warp may have."""
        return ((self.num_parameters,),)

    def glimpses(self, shape):
        """`(glimpses,)` of a `theta` of that shape, `(batch, glimpses, ...)`; else `()`."""
        return tuple(shape[1:2]) if tuple(shape[2:]) in self.shapes else ()

    def grid(self, theta, output_size, align_corners=False):
        """Returns the normalised sampling grid for an output of a given size.

        Transforms that rotate assume that the input has the output's aspect ratio.

        Args:
            theta: `(batch, num_parameters)`, or `(batch, glimpses, num_parameters)`.
            output_size: `(height, width)`; for volumes `(depth, height, width)`.
            align_corners: See `stn_keras.geometry`.

        Returns:
            `(batch, height, width, 2)`, last axis `(x, y)`; for volumes `(batch, depth, height,
            width, 3)`, last axis `(x, y, z)`; with `glimpses` as the second axis where `theta` has
            it. float64 if `theta` is, else float32.

        Raises:
            ValueError: if `theta` does not have the transform's shape, or `output_size` is not two
                positive integers, or three for volumes.
        """
        size = as_size(output_size, "output_size", axes=(self.axes,))
        if is_symbolic(theta):
            return Grid(self)(theta, size, align_corners)
        return self.warp(theta, size, size, align_corners).grid()

    def warp(self, theta, input_size, output_size=None, align_corners=False):
        """The `stn_keras.Warp` of `theta`.

        Args:
            theta: `(batch, num_parameters)`, or `(batch, glimpses, num_parameters)`.
            input_size: `(height, width)`; for volumes `(depth, height, width)`.
            output_size: The size of the output; None for the input's.
            align_corners: See `stn_keras.geometry`.

        Returns:
            A `stn_keras.Warp`; for several glimpses, `stn_keras.sampler.glimpses.Glimpses`.

        Raises:
            ValueError: if `theta` or a size is not of the transform's shape.
        """
        input_size = as_size(input_size, "input_size", axes=(self.axes,))
        if output_size is None:
            output_size = input_size
        output_size = as_size(output_size, "output_size", axes=(self.axes,))
        if is_symbolic(theta):
            return Made(self)(theta, input_size, output_size, align_corners)
        theta = as_coordinates(theta)
        if len(theta.shape) > 2 and self.glimpses(theta.shape):
            leading = backend.shape(theta)[:2]
            flat = ops.reshape(theta, (leading[0] * leading[1], self.num_parameters))
            return Glimpses(self.warp(flat, input_size, output_size, align_corners), leading)
        if type(self).pixels is Transform.pixels:
            return self._warp(theta, input_size, output_size, align_corners)
        coordinates = self.pixels(theta, input_size, output_size, align_corners)
        return Pixels(ops.stack(coordinates, axis=-1), input_size, output_size, align_corners)

    def warp_spec(self, theta, input_size, output_size, align_corners):
        """The arguments of `symbolic` for a symbolic `theta`."""
        has_matrix = isinstance(self, MatrixTransform) and type(self).pixels is Transform.pixels
        return self.leading(theta), input_size, output_size, has_matrix, wide_dtype(theta)

    def pixels(self, theta, input_size, output_size, align_corners):
        """Pixel coordinates `(x, y)` or `(x, y, z)` in the input, each `(batch, *output_size)`."""
        return self._warp(theta, tuple(input_size), tuple(output_size), align_corners).pixels()

    def _warp(self, theta, input_size, output_size, align_corners):
        """The kind of warp of a family of this library."""
        raise NotImplementedError("A transform defines `pixels`, or `matrix`.")

    def parameters(self, theta):
        """`theta`, of one of `shapes`, as a tensor in the dtype of coordinates.

        Raises:
            ValueError: if it has another shape.
        """
        theta = as_coordinates(theta)
        self.check(theta)
        return theta

    def leading(self, theta):
        """`(batch,)` or `(batch, glimpses)` of a `theta`, whose shape is checked."""
        glimpses = self.glimpses(theta.shape)
        if not glimpses:
            self.check(theta)
        return (theta.shape[0], *glimpses)

    def check(self, theta):
        if tuple(theta.shape[1:]) not in self.shapes:
            raise ValueError(
                f"`theta` must have shape (batch, {self.num_parameters}) for {self}. "
                f"Received: theta.shape={tuple(theta.shape)}"
            )

    def __eq__(self, other):
        return type(self) is type(other) and settings(self) == settings(other)

    def __hash__(self):
        return hash((type(self), settings(self)))

    def get_config(self):
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def settings(transform):
    """The attributes of a transform as a key."""
    return frozenset(
        (name, value if is_plain(value) else id(value)) for name, value in vars(transform).items()
    )


def is_plain(value):
    """Whether it is an immutable value of Python's own. Others are compared by identity, because
    their `==` may ignore what matters here."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


class MatrixTransform(Transform):
    """Base class of transforms that are a matrix of homogeneous coordinates.

    `geometry.compose` and `geometry.invert` accept the matrices. A subclass defines `identity` and
    `matrix`:

    Example:

    >>> class Zoom(MatrixTransform):
    ...     identity = np.ones(1, "float32")
    ...
    ...     def matrix(self, theta, size=(1, 1)):
    ...         scale = self.parameters(theta)[:, :, None]
    ...         return scale * ops.diag([1.0, 1.0, 0.0]) + ops.diag([0.0, 0.0, 1.0])
    >>> np.array(Zoom().grid([[0.5]], (1, 2)))[0, 0]
    array([[-0.25,  0.  ],
           [ 0.25,  0.  ]], dtype=float32)
    """

    def matrix(self, theta, size=(1, 1)):
        """Matrices `(batch, 3, 3)` from output to input coordinates, in normalised units.

        For volumes they are `(batch, 4, 4)`. `size` is the size of the input, in whose pixels
        angles are measured; by default its sides are equally long.

        Raises:
            ValueError: if `theta` does not have the transform's shape.
        """
        raise NotImplementedError

    def matrix_in(self, theta, input_size, align_corners):
        """`matrix` for an input with the given size in pixels."""
        theta = as_coordinates(theta)
        units = [positive_extent(n, align_corners, theta.dtype) for n in input_size]
        return self.matrix(theta, units)

    # Name or instance of the transform that represents compositions of these transforms.
    closure = "affine"

    def _warp(self, theta, input_size, output_size, align_corners):
        matrix = self.matrix_in(theta, input_size, align_corners)[:, : self.axes]
        return Affine(matrix, input_size, output_size, align_corners)
