"""Warps by matrices, which map any point exactly and have exact inverses and compositions."""

import dataclasses
import math

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_type, wide_dtype
from stn_keras.sampler.axes import as_float, extent, from_middle, middle, positive_extent
from stn_keras.sampler.coordinates import divided
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
        return self._centred(dtype) * ops.stack(factors)[None]

    def _of_input(self, size):
        return dataclasses.replace(self, input_size=size)

    def _centred(self, dtype):
        """The matrices from output to input pixels, both counted from the centres of the images."""
        factors = ops.convert_to_tensor([self._factors(dtype)], dtype)
        return as_type(self.square(), dtype) * factors

    def _middles(self, dtype):
        """The centres of the output and of the input, in pixels, `(axes,)` each."""
        sizes = self.output_size[::-1], self.input_size[::-1]
        return [vector([middle(length, dtype) for length in size], dtype) for size in sizes]

    def _factors(self, dtype, normalised=False):
        """What converts the elements of normalised matrices to pixels, unless `normalised` only of
        the output. On the diagonal of an identity it is exactly 1."""
        lengths, flag = self.output_size[::-1], self.align_corners
        steps = [positive_extent(length, flag, dtype) for length in lengths]
        # How many pixels of the input there are from −1 to 1, or how many normalised units.
        units = [2 if normalised else extent(n, flag, dtype) for n in self.input_size[::-1]]
        return [[unit / step for step in [*steps, 2]] for unit in [*units, 2]]


class Affine(MatrixWarp):
    """`tensor` holds normalised matrices, `(batch, axes, axes + 1)`.

    They are converted to pixel units once per image. Pixels are counted from the middle of their
    axis, in exact halves, so the identity gives exact integers.
    """

    @property
    def normalised_matrix(self):
        return self.tensor

    def square(self):
        return with_last_row(self.tensor)

    def pixels_and_matrix(self):
        factors = self._factors(self.tensor.dtype)[:-1]
        coordinates = planes(self.tensor, factors, self.output_size)
        matrix = self.tensor * ops.convert_to_tensor([factors], self.tensor.dtype)
        return from_first(coordinates, self.input_size), matrix

    def pixels(self):
        return self.pixels_and_matrix()[0]

    def grid(self):
        factors = self._factors(self.tensor.dtype, normalised=True)[:-1]
        return ops.stack(planes(self.tensor, factors, self.output_size), axis=-1)

    def is_identity(self):
        return same_matrix(self, np.eye(*self.tensor.shape[1:]))


class Homography(MatrixWarp):
    """`tensor` holds normalised homographies, `(batch, 3, 3)`.

    On the horizon, where the depth is 0, points are not finite and thus outside the image.
    """

    def pixels(self):
        return from_first(self._divided(self._factors(self.tensor.dtype)), self.input_size)

    def grid(self):
        return ops.stack(self._divided(self._factors(self.tensor.dtype, normalised=True)), axis=-1)

    def _divided(self, factors):
        *points, depth = planes(self.tensor, factors, self.output_size)
        return [divided(point, depth) for point in points]

    def is_identity(self):
        return same_matrix(self, np.eye(3))


def of_square(kind, square, input_size, output_size, align_corners):
    """A warp of class `kind`, `Affine` or `Homography`, from square matrices."""
    tensor = square[:, :-1] if kind is Affine else square
    return kind(tensor, input_size, output_size, align_corners)


def planes(matrix, factors, output_size):
    """For each row `[a, b, c]` of `matrix`, times its factors, `a·u + b·v + c` at every output
    pixel, where `u` and `v` are counted from the middle.

    With three axes it is `a·u + b·v + c·w + d`. The matrix is `(batch, rows, axes + 1)`.

    The gradient is a small matrix product for each axis. Compilers alone would sum over all pixels
    once for each coefficient, and compute the summands again each time.
    """
    axes, lengths = len(output_size), output_size[::-1]

    def forward(matrix):
        along = [(1,) * (axes - k) + (-1,) + (1,) * k for k in range(axes)]
        to_middle = [-from_middle(n, matrix.dtype, shape) for n, shape in zip(lengths, along)]
        found = []
        for row, of_row in zip(ops.unstack(matrix, axis=1), factors):
            row = ops.unstack(ops.reshape(row, (-1, axes + 1) + (1,) * axes), axis=1)
            # One by one: in an int8 model, LiteRT would give all products one scale.
            *slopes, value = (element * factor for element, factor in zip(row, of_row))
            for slope, distance in zip(slopes, to_middle):
                value = value - slope * distance
            found.append(value)
        return found

    def backward(upstream, matrix):
        positions = [from_middle(length, matrix.dtype) for length in lengths]
        bases = [ops.stack([position, ops.ones_like(position)], axis=-1) for position in positions]
        rows = [ops.stack(moments(values, output_size, bases), axis=-1) for values in upstream]
        return [ops.stack(rows, axis=1) * ops.convert_to_tensor([factors], matrix.dtype)]

    return backend.with_gradient(forward, backward, matrix)


def moments(values, output_size, bases):
    """The sums over all pixels of values times `u`, `v` and 1, `(batch,)` each."""
    found = []
    for k, (length, basis) in enumerate(zip(reversed(output_size), bases), 1):
        # Both factors have two axes: with more, TensorFlow with oneDNN gives wrong products.
        sums = backend.matmul(ops.reshape(values, (-1, length)), basis)
        by_position, values = ops.unstack(sums, axis=-1)
        if k < len(output_size):
            by_position = ops.sum(ops.reshape(by_position, (-1, math.prod(output_size[:-k]))), 1)
        found.append(by_position)
    return [*found, values]


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
        coordinate - (1 - as_float(length, coordinate.dtype)) / 2  # see `compile` on sums of sums
        for coordinate, length in zip(coordinates, reversed(size))
    ]
