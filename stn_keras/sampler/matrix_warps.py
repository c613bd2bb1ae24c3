"""Warps by matrices, which map any point exactly and have exact inverses and compositions."""

import dataclasses

import numpy as np
from keras import ops

from stn_keras.checks.arguments import as_type, wide_dtype
from stn_keras.sampler.axes import as_float, extent, first, middle, positive_extent
from stn_keras.sampler.coordinates import affine_map, affine_rows, divided
from stn_keras.sampler.linear import inverse, product, vector, with_last_row
from stn_keras.sampler.warps import Warp


class MatrixWarp(Warp):
    """Base class of warps whose `tensor` holds normalised matrices."""

    def square(self):
        """The normalised matrices with their last row, `(batch, axes + 1, axes + 1)`."""
        return self.tensor

    @property
    def matrix(self):
        here, there = self._middles(self.tensor.dtype)
        return counted_from_first(self._centred(self.tensor.dtype), here, there)

    def project(self, points):
        """Maps output points to the input, in homogeneous coordinates.

        Returns:
            `(positions, depth)`: positions `(batch, n, axes)` in pixels from the centre of the
            input, not yet divided by the depth, `(batch, n, 1)`.
        """
        points = points - self._middles(points.dtype)[0]
        homogeneous = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
        mapped = product(homogeneous, ops.transpose(self._centred(points.dtype), (0, 2, 1)))
        return mapped[..., :-1], mapped[..., -1:]

    def inverse(self):
        sizes = self.output_size, self.input_size
        return of_square(type(self), inverse(self.square()), *sizes, self.align_corners)

    def _to_input(self, points):
        points = as_type(points, wide_dtype(points, self.tensor))
        return divided(*self.project(points)) + self._middles(points.dtype)[1]

    def _to_output(self, points):
        return self.inverse()._to_input(points)

    points_per_side = 1  # the corners are enough, because straight lines stay straight

    def anywhere(self, points):
        inverse = self.inverse()
        return inverse._to_input(points), inverse.project(points)[1]

    def _then(self, second):
        if not isinstance(second, MatrixWarp):
            return super()._then(second)
        affine = isinstance(self, Affine) and isinstance(second, Affine)
        dtype = wide_dtype(self.tensor, second.tensor)
        then = second._square_in_units(self.align_corners)
        square = product(as_type(self.square(), dtype), as_type(then, dtype))
        sizes = self.input_size, second.output_size
        return of_square(Affine if affine else Homography, square, *sizes, self.align_corners)

    def _square_in_units(self, align_corners):
        """`square` in the normalised units of another `align_corners`."""
        if align_corners == self.align_corners:
            return self.square()
        dtype = self.tensor.dtype
        rows, columns = (
            [*(positive_extent(n, align_corners, dtype) / 2 for n in reversed(size)), 1]
            for size in (self.input_size, self.output_size)
        )
        factors = [vector([column / row for column in columns], dtype) for row in rows]
        return self._centred(dtype) * ops.stack(factors)

    def _of_input(self, size):
        return dataclasses.replace(self, input_size=size)

    def _centred(self, dtype):
        """The matrices from output to input pixels, both counted from the centres of the images."""
        inside, outside = self.input_size[::-1], self.output_size[::-1]
        rows = [as_float(extent(n, self.align_corners), dtype) / 2 for n in inside]
        columns = [positive_extent(n, self.align_corners, dtype) / 2 for n in outside]
        # Computing the quotients first keeps exactly 1 on the diagonal of an identity.
        factors = [vector([row / column for column in [*columns, 1]], dtype) for row in [*rows, 1]]
        return as_type(self.square(), dtype) * ops.stack(factors)

    def _middles(self, dtype):
        """The centres of the output and of the input, in pixels, `(axes,)` each."""
        sizes = self.output_size[::-1], self.input_size[::-1]
        return [vector([middle(length, dtype) for length in size], dtype) for size in sizes]


class Affine(MatrixWarp):
    """`tensor` holds normalised matrices, `(batch, axes, axes + 1)`.

    They are converted to pixel units once per image. Pixels are counted from the middle of their
    axis, in exact halves, so the identity gives exact integers.
    """

    @property
    def centred_matrix(self):
        rows = affine_rows(self.tensor, self.units(), self.output_size, self.align_corners)
        return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=1)

    @property
    def normalised_matrix(self):
        return self.tensor

    def units(self):
        return [extent(length, self.align_corners) for length in self.input_size]

    def square(self):
        return with_last_row(self.tensor)

    def pixels(self):
        found = affine_map(self.tensor, self.units(), self.output_size, self.align_corners)
        return from_first(found, self.input_size)

    def grid(self):
        normalised = [2] * len(self.output_size)  # units from −1 to 1
        found = affine_map(self.tensor, normalised, self.output_size, self.align_corners)
        return ops.stack(found, axis=-1)

    def is_identity(self):
        return same_matrix(self, np.eye(*self.tensor.shape[1:]))


class Homography(MatrixWarp):
    """`tensor` holds normalised homographies, `(batch, 3, 3)`.

    On the horizon, where the depth is 0, points are not finite and thus outside the image.
    """

    def pixels(self):
        units = [extent(length, self.align_corners) for length in self.input_size]
        return from_first(self._divided(units), self.input_size)

    def grid(self):
        return ops.stack(self._divided((2, 2)), axis=-1)  # units from −1 to 1

    def _divided(self, units):
        matrix = self.tensor
        points = affine_map(matrix[:, :2], units, self.output_size, self.align_corners)
        # The last row gives the depth and no axis of the image, so it keeps normalised units.
        (depth,) = affine_map(matrix[:, 2:], (2,), self.output_size, self.align_corners)
        return [divided(point, depth) for point in points]

    def is_identity(self):
        return same_matrix(self, np.eye(3))


def of_square(kind, square, input_size, output_size, align_corners):
    """A warp of class `kind`, `Affine` or `Homography`, from square matrices."""
    tensor = square[:, :-1] if kind is Affine else square
    return kind(tensor, input_size, output_size, align_corners)


def counted_from_first(matrix, here, there):
    """Converts matrices for pixels counted from the centres to pixels counted from the first one.

    The centres are at `here` in the output and at `there` in the input.
    """
    last = matrix[..., -1] - ops.sum(matrix[..., :-1] * here, axis=-1)
    matrix = ops.concatenate([matrix[..., :-1], last[..., None]], axis=-1)
    rows = matrix[:, :-1] + there[:, None] * matrix[:, -1:]
    return ops.concatenate([rows, matrix[:, -1:]], axis=1)


def same_matrix(warp, identity):
    """Whether each matrix of a warp is `identity`, so that it samples pixels at their centres."""
    return ops.all(warp.tensor == ops.cast(identity, warp.tensor.dtype), axis=(1, 2))


def from_first(coordinates, size):
    """Converts pixels counted from the centre of an image to pixels counted from the first one."""
    return [
        coordinate - first(length, coordinate.dtype)
        for coordinate, length in zip(coordinates, reversed(size))
    ]
