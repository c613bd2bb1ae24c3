"""A warp: where in the input each output pixel looks."""

import dataclasses
import functools
from typing import Any

import numpy as np
from keras import ops

from stn_keras.sampler.axes import extent, first
from stn_keras.sampler.coordinates import (
    affine_map,
    affine_rows,
    by_axis,
    displaced,
    to_grid,
    to_pixels,
)


@dataclasses.dataclass(eq=False)
class Warp:
    """Where each pixel of an output looks in an input.

    Attributes:
        tensor: What the positions are computed from; its kind says how.
        input_size: `(height, width)` or `(depth, height, width)` of the input.
        output_size: The size of the output, in the same order.
        align_corners: See `stn_keras.geometry`.
    """

    tensor: Any
    input_size: tuple
    output_size: tuple
    align_corners: bool

    @property
    def matrix(self):
        """From output to input pixels, counted from the middles, of an affine warp; else None."""
        return None

    @property
    def normalised_matrix(self):
        """Of an affine warp, `(batch, axes, axes + 1)`; else None."""
        return None

    is_grid = False  # whether `tensor` is the normalised grid

    def as_grid(self, grid):
        """The same warp, given by its grid."""
        return Grid(grid, self.input_size, self.output_size, self.align_corners)

    def pixels(self):
        """Pixel coordinates `[x, y]` or `[x, y, z]` in the input, each `(batch, *output_size)`."""
        raise NotImplementedError

    def grid(self):
        """The normalised sampling grid, `(batch, *output_size, axes)`."""
        return to_grid(self.pixels(), self.input_size, self.align_corners)

    def is_identity(self):
        """Which images the warp leaves unchanged, if the output has the input's size: `(batch,)`
        booleans, or None if that is not known."""
        by_coordinate = []
        for k, coordinate in enumerate(self.pixels()):
            position = ops.arange(coordinate.shape[-1 - k], dtype=coordinate.dtype)
            by_coordinate.append(coordinate == ops.reshape(position, (-1,) + (1,) * k))
        still = functools.reduce(ops.logical_and, by_coordinate)
        return ops.all(still, axis=tuple(range(1, len(still.shape))))


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
        """None: a grid is rounded, so its identity is not exact."""
        return None


class Displacement(Warp):
    """`tensor` is a displacement in pixels, added to the positions that the identity samples:
    `(batch, *output_size, axes)`."""

    def pixels(self):
        return displaced(self.tensor, self.input_size, self.align_corners)

    def is_identity(self):
        return ops.all(self.tensor == 0, axis=tuple(range(1, len(self.tensor.shape))))


class Affine(Warp):
    """`tensor` holds normalised matrices, `(batch, axes, axes + 1)`.

    They are converted to pixel units once for each image. Pixels are counted from the middle of
    their axis, in exact halves, so the identity gives exact integers.
    """

    @property
    def matrix(self):
        """`(batch, axes, axes + 1)`, from output to input pixels, counted from the middles."""
        rows = affine_rows(self.tensor, self.units(), self.output_size, self.align_corners)
        return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=1)

    @property
    def normalised_matrix(self):
        return self.tensor

    def units(self):
        return [extent(length, self.align_corners) for length in self.input_size]

    def pixels(self):
        found = affine_map(self.tensor, self.units(), self.output_size, self.align_corners)
        return from_first(found, self.input_size)

    def grid(self):
        normalised = [2] * len(self.output_size)  # units from −1 to 1
        found = affine_map(self.tensor, normalised, self.output_size, self.align_corners)
        return ops.stack(found, axis=-1)

    def is_identity(self):
        return same_matrix(self, np.eye(*self.tensor.shape[1:]))


def same_matrix(warp, identity):
    """Which of the matrices of a warp are equal to `identity`."""
    return ops.all(warp.tensor == ops.cast(identity, warp.tensor.dtype), axis=(1, 2))


def from_first(coordinates, size):
    """Pixel coordinates counted from the middle of an image of `size` → from its first pixel."""
    return [
        coordinate - first(length, coordinate.dtype)
        for coordinate, length in zip(coordinates, reversed(size))
    ]
