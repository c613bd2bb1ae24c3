"""Warps: the position in the input that each output pixel samples."""

import dataclasses
from collections.abc import Sequence

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import (
    Size,
    as_flag,
    as_numbers,
    as_size,
    as_type,
    is_symbolic,
    wide_dtype,
)
from stn_keras.checks.fields import as_field
from stn_keras.checks.images import as_data_format, size_of
from stn_keras.sampler.coordinates import by_axis, displaced, to_pixels
from stn_keras.sampler.pictures import EDGES, picture_options, warped
from stn_keras.sampler.point_map import PointMap
from stn_keras.sampler.points import check_composition, pixel_centres

__all__ = ["Warp"]


class Warp(PointMap):
    """A map from each output pixel to the position in the input that it samples.

    Calling a warp warps pictures. `to_output`, `to_input` and `boxes` map the points and boxes that
    belong to them. A warp maps points of the **output** to points of the **input**: `to_input` is
    this map, and `to_output` is its inverse. Points are `(x, y)` or `(x, y, z)` in pixels; the
    centre of the first pixel is 0.

    `SpatialTransformer.warp`, `DenseWarp.warp`, `Transform.warp`, `Warp.from_grid` and
    `Warp.from_displacement` return a warp.

    `first @ second` applies `first` and then `second`, as `geometry.compose` does:
    `(first @ second)(pictures)` is `second(first(pictures))`, but samples once.

    Example:

    >>> warp = transforms.Translation().warp([[0.5, 0.0]], (8, 8))  # samples 2 pixels further right
    >>> np.array(warp.to_input([[[1.0, 1.0]]]))
    array([[[3., 1.]]], dtype=float32)
    >>> np.array(warp.to_output([[[3.0, 1.0]]]))  # the content moves two pixels to the left
    array([[[1., 1.]]], dtype=float32)
    >>> np.array((warp @ warp).to_output([[[5.0, 1.0]]]))
    array([[[1., 1.]]], dtype=float32)

    Attributes:
        tensor: The tensor from which the subclass computes the positions.
        input_size: `(height, width)` or `(depth, height, width)` of the input.
        output_size: The size of the output, in the same order.
        align_corners: See `stn_keras.geometry`.
    """

    def __call__(
        self,
        pictures,
        *,
        interpolation: str = "bilinear",
        fill_mode: str = "constant",
        fill_value: float | Sequence[float] = 0.0,
        data_format: str | None = None,
    ):
        """Warps pictures: images, volumes, label masks or feature maps.

        Args:
            pictures: `(batch, height, width, channels)`; volumes have a depth before the height.
                Their size may differ from `input_size`, because a warp is in normalised units.
            interpolation: `"bilinear"`, `"bicubic"`, or `"nearest"` for labels, which stay
                integers.
            fill_mode: See `stn_keras.grid_sample`.
            fill_value: See `stn_keras.grid_sample`.
            data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

        Returns:
            Pictures of the output's size, in the dtype of `pictures`.
        """
        pictures = as_numbers(pictures, "pictures")
        options = picture_options(
            tuple(pictures.shape),
            len(self.output_size),
            interpolation=interpolation,
            fill_mode=fill_mode,
            fill_value=fill_value,
            data_format=data_format,
        )
        size = size_of(backend.shape(pictures), options["data_format"])
        return warped(pictures, self.of_input(size), "warp", **options)

    def inverse(self):
        """The inverse `Warp`, from the output to the input.

        If the warp is a matrix, it is the inverse matrix. Otherwise it holds a position for each
        pixel, which is NaN where `to_output` returns NaN.
        """
        centres = pixel_centres(self.input_size, self.tensor.dtype)
        positions = self._to_output(centres)
        positions = ops.reshape(positions, (-1, *self.input_size, len(self.input_size)))
        return Pixels(positions, self.output_size, self.input_size, self.align_corners)

    def __matmul__(self, second):
        if is_symbolic(second):
            return NotImplemented
        if not isinstance(second, Warp):
            raise ValueError(
                f"`first @ second` takes two warps. Received: a {type(second).__name__}"
            )
        check_composition(self, second)
        return self._then(second)

    @staticmethod
    def from_grid(grid, input_size: Size, *, align_corners: bool = False):
        """The warp of a sampling grid, as in `stn_keras.grid_sample`.

        Args:
            grid: Normalised coordinates, `(batch, *output_size, axes)`.
            input_size: `(height, width)` or `(depth, height, width)`.
            align_corners: See `stn_keras.geometry`.
        """
        grid = as_field(grid, "grid", "channels_last")
        return of_points(Grid, grid, input_size, align_corners)

    @staticmethod
    def from_displacement(
        displacement,
        input_size: Size | None = None,
        *,
        align_corners: bool = False,
        data_format: str | None = None,
    ):
        """The warp of a displacement per pixel, as in `stn_keras.DenseWarp`.

        Args:
            displacement: Displacements in pixels of the input, `(batch, *output_size, axes)`.
            input_size: `(height, width)` or `(depth, height, width)`; None for the output size.
            align_corners: See `stn_keras.geometry`.
            data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        """
        displacement = as_field(displacement, "displacement", as_data_format(data_format))
        return of_points(Displacement, displacement, input_size, align_corners)

    def as_grid(self, grid):
        """The same warp as a `Grid`, for a `grid` that this warp gives."""
        return Grid(grid, self.input_size, self.output_size, self.align_corners)

    def of_input(self, size):
        """The same warp for an input of another size."""
        return self if known_equal(size, self.input_size) else self._of_input(tuple(size))

    def _of_input(self, size):
        return Grid(self.grid(), size, self.output_size, self.align_corners)

    def _then(self, second):
        points = ops.stack(second.pixels(), axis=-1)
        batch, *shape = backend.shape(points)
        found = self._to_input(ops.reshape(points, (batch, -1, shape[-1])))
        found = ops.reshape(found, (-1, *shape))
        return Pixels(found, self.input_size, second.output_size, self.align_corners)


class Pixels(Warp):
    """`tensor` holds pixel coordinates, `(batch, *output_size, axes)`."""

    def pixels(self):
        return by_axis(self.tensor)


class Grid(Warp):
    """`tensor` is a normalised grid, `(batch, *output_size, axes)`."""

    is_grid = True

    def pixels(self):
        return to_pixels(self.tensor, self.input_size, self.align_corners)

    def grid(self):
        return self.tensor

    def is_identity(self):
        """None, because a grid is rounded, so its identity is not exact."""
        return None

    def _of_input(self, size):
        return dataclasses.replace(self, input_size=size)


class Displacement(Warp):
    """`tensor` is a displacement in pixels of the input, `(batch, *output_size, axes)`.

    It is added to the positions that the identity samples.
    """

    def pixels(self):
        return displaced(self.tensor, self.input_size, self.align_corners)

    def displacement(self):
        return self.tensor

    def is_identity(self):
        return ops.all(self.tensor == 0, axis=tuple(range(1, len(self.tensor.shape))))

    def _then(self, second):
        sizes = self.input_size, self.output_size, second.output_size
        if not isinstance(second, Displacement) or not known_equal(*sizes):
            return super()._then(second)
        return dataclasses.replace(self, tensor=composed(self.tensor, second.tensor))


def composed(first, second):
    """The displacement `second(p) + first(p + second(p))`; both have the same size."""
    size, dtype = backend.shape(first, 1, -1), wide_dtype(first, second)
    moved = warped(first, Displacement(second, size, size, False), "second", **EDGES)
    return as_type(second, dtype) + as_type(moved, dtype)


def of_points(kind, points, input_size, align_corners):
    """A warp of class `kind`, whose output has the size of `points`.

    An `input_size` of None is the output size.
    """
    output_size = backend.shape(points, 1, -1)
    if input_size is not None:
        input_size = as_size(input_size, "input_size", axes=(len(output_size),))
    align_corners = as_flag(align_corners, "align_corners")
    return kind(points, input_size or output_size, output_size, align_corners)


def known_equal(*sizes):
    """Whether all sizes are known and equal."""
    known = all(isinstance(length, int) for size in sizes for length in size)
    return known and len({tuple(size) for size in sizes}) == 1
