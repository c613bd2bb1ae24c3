"""A warp as a map of points: where each one came from, and where it went."""

import dataclasses
import functools
from typing import Any

from keras import ops

from stn_keras.checks.arguments import as_type, wide_dtype
from stn_keras.sampler.boxes import warped_boxes
from stn_keras.sampler.coordinates import by_axis, displaced, to_grid
from stn_keras.sampler.field import Field, scales
from stn_keras.sampler.inversion import points_at
from stn_keras.sampler.jacobian import jacobian_rows
from stn_keras.sampler.points import mapped


@dataclasses.dataclass(eq=False)
class PointMap:
    """The part of a `Warp` that maps points; see there."""

    tensor: Any
    input_size: tuple
    output_size: tuple
    align_corners: bool

    def to_input(self, points, normalized: bool = False):
        """Where points of the output came from.

        Through matrices exact. Else positions are linear between the centres of output pixels and
        for one pixel beyond; further out they follow the affine map that fits best. Differentiable.

        Args:
            points: `(batch, n, 2)`; in volumes `(batch, n, 3)`.
            normalized: Whether points, given and returned, are normalised instead of in pixels.

        Returns:
            A tensor of the shape of `points`; float64 if they or the warp are, else float32.
        """
        sizes = self.output_size, self.input_size
        return mapped(self._to_input, self, points, normalized, *sizes)

    def to_output(self, points, normalized: bool = False):
        """Where points of the input went: the inverse of `to_input`.

        Through matrices exact. Else by Newton's method, to a hundredth of a pixel. Differentiable,
        by the implicit function theorem.

        Args:
            points: `(batch, n, 2)`; in volumes `(batch, n, 3)`.
            normalized: Whether points, given and returned, are normalised instead of in pixels.

        Returns:
            A tensor of the shape of `points`. A point without an image is NaN: where the matrix is
            singular; else outside of the output, where the warp folds, and where the search did
            not converge. `ops.isfinite(points[..., 0])` is the mask of the others.
        """
        sizes = self.input_size, self.output_size
        return mapped(self._to_output, self, points, normalized, *sizes)

    def boxes(self, boxes, format: str = "xyxy", *, clip: bool = False):
        """Where boxes of the input went: the smallest upright boxes around them in the output.

        A box ends at the edges of its pixels, as Keras has it: that of a whole image is `(0, 0,
        width, height)`. The centre of the first pixel, which is 0 in points, is 0.5 in boxes.

        Args:
            boxes: `(batch, n, 4)`.
            format: A format of `keras.utils.bounding_boxes.convert_format`, of the boxes given and
                returned: `"xyxy"`, `"yxyx"`, `"xywh"`, `"center_xywh"`, `"center_yxhw"`,
                `"rel_xyxy"`, `"rel_yxyx"`, `"rel_xywh"` or `"rel_center_xywh"`.
            clip: Whether to cut boxes at the edges of the output.

        Returns:
            `(batch, n, 4)`. -1, -1, -1, -1 stands for a box without an area, such as padding,
            without an image, or of which `clip` leaves nothing.
        """
        return warped_boxes(self, boxes, format, clip)

    @property
    def matrix(self):
        """The matrix from output to input pixels, `(batch, 3, 3)`, of volumes `(batch, 4, 4)`; None
        if the warp is not one of a matrix.

        It is what OpenCV's `warpPerspective` takes with `WARP_INVERSE_MAP`.
        """
        return None

    def displacement(self):
        """From where the identity looks to where the warp does, in pixels of the input, `(batch,
        *output_size, axes)`: what `DenseWarp` takes."""
        positions = ops.stack(self.pixels(), axis=-1)
        here = displaced(ops.zeros_like(positions), self.input_size, self.align_corners)
        return positions - ops.stack(here, axis=-1)

    def jacobian(self):
        """The derivatives of `to_input` at the output pixels, by central differences: `(batch,
        *output_size, axes, axes)`, a row for each coordinate of the input."""
        components = by_axis(self.displacement())
        rows = jacobian_rows(components, scales(self, components[0].dtype))
        return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)

    def grid(self):
        """The normalised sampling grid, `(batch, *output_size, axes)`, see `grid_sample`."""
        return to_grid(self.pixels(), self.input_size, self.align_corners)

    # The rest is what the sampler and the methods above ask.

    @property
    def batch(self):
        return self.tensor.shape[0]

    def pixels(self):
        """Pixel coordinates `[x, y]` or `[x, y, z]` in the input, each `(batch, *output_size)`."""
        raise NotImplementedError

    def is_identity(self):
        """Which images stay as they are, of an output of the input's size: `(batch,)` booleans, or
        None if that is not known."""
        by_coordinate = []
        for k, coordinate in enumerate(self.pixels()):
            position = ops.arange(coordinate.shape[-1 - k], dtype=coordinate.dtype)
            by_coordinate.append(coordinate == ops.reshape(position, (-1,) + (1,) * k))
        still = functools.reduce(ops.logical_and, by_coordinate)
        return ops.all(still, axis=tuple(range(1, len(still.shape))))

    is_grid = False  # whether `tensor` is the normalised grid

    @property
    def normalised_matrix(self):
        """Of an affine warp, `(batch, axes, axes + 1)`; else None."""
        return None

    @property
    def centred_matrix(self):
        """Of an affine warp `matrix` without its last row, pixels counted from the middles; else
        None."""
        return None

    def _matrix(self):
        return self.matrix

    def _to_input(self, points):
        field, points = self._field(points)
        return field.at(points)[0]

    def _to_output(self, points):
        field, points = self._field(points)
        return field.within(points_at(field, points))

    points_per_side = 32  # of a box: between them its warped outline is taken as straight

    def anywhere(self, points):
        """Where points went, outside of the output too, and their depth, whose sign counts."""
        found = points_at(*self._field(points))
        return found, ops.ones_like(found[..., :1])

    def _field(self, points):
        dtype = wide_dtype(points, self.tensor)
        return Field(self, dtype), as_type(points, dtype)
