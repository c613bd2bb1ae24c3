"""The methods of a warp that map points and boxes between its input and its output."""

import dataclasses
import functools
from typing import Any

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_type, wide_dtype
from stn_keras.sampler.boxes import warped_boxes
from stn_keras.sampler.coordinates import by_axis, displaced, to_grid
from stn_keras.sampler.field import Field, scales
from stn_keras.sampler.inversion import points_at
from stn_keras.sampler.jacobian import jacobian_rows
from stn_keras.sampler.points import mapped


@dataclasses.dataclass(eq=False)
class PointMap:
    """The base class of `Warp` that maps points and boxes. See `Warp` for the attributes."""

    tensor: Any
    input_size: tuple
    output_size: tuple
    align_corners: bool

    @property
    def settings(self):
        """The other arguments of the class than `tensor`, as pairs of a name and a value."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "tensor")
        return tuple((name, getattr(self, name)) for name in names)

    def to_input(self, points, normalized: bool = False):
        """Maps points of the output to the input: the positions that they sample.

        If the warp is a matrix, the map is exact. Otherwise it is interpolated linearly between the
        centres of the output pixels, and extrapolated linearly to one pixel further out. Beyond
        that it continues as the affine map that fits the warp best. It is differentiable.

        Args:
            points: `(batch, n, 2)`; in volumes `(batch, n, 3)`.
            normalized: True if the given and the returned points are normalised, False if they are
                in pixels.

        Returns:
            A tensor of the shape of `points`; float64 if `points` or the warp is float64, else
            float32.
        """
        sizes = self.output_size, self.input_size
        return mapped(self._to_input, self, points, normalized, *sizes)

    def to_output(self, points, normalized: bool = False):
        """Maps points of the input to the output: the inverse of `to_input`.

        If the warp is a matrix, the map is exact. Otherwise Newton's method finds it to a hundredth
        of a pixel. It is differentiable; the gradient follows from the implicit function theorem.

        Args:
            points: `(batch, n, 2)`; in volumes `(batch, n, 3)`.
            normalized: True if the given and the returned points are normalised, False if they are
                in pixels.

        Returns:
            A tensor of the shape of `points`, with the same dtype as the result of `to_input`. A
            point that has no position in the output is NaN. If the warp is a matrix, this happens
            where the matrix is singular. For other warps it happens outside the output, where the
            warp folds, and where Newton's method does not converge. For a result `found`,
            `ops.isfinite(found[..., 0])` is the mask of all other points.
        """
        sizes = self.input_size, self.output_size
        return mapped(self._to_output, self, points, normalized, *sizes)

    def boxes(self, boxes, format: str = "xyxy", *, clip: bool = False):
        """Maps boxes of the input to the output: the smallest upright boxes around the results.

        A box ends at the edges of its pixels, as in Keras: the box of a whole image is `(0, 0,
        width, height)`. The centre of the first pixel is 0 for points and 0.5 for boxes.

        Args:
            boxes: `(batch, n, 4)`.
            format: The format of the given and the returned boxes, one of those of
                `keras.utils.bounding_boxes.convert_format`: `"xyxy"`, `"yxyx"`, `"xywh"`,
                `"center_xywh"`, `"center_yxhw"`, `"rel_xyxy"`, `"rel_yxyx"`, `"rel_xywh"` or
                `"rel_center_xywh"`.
            clip: Whether to cut boxes at the edges of the output.

        Returns:
            `(batch, n, 4)`. A box is -1, -1, -1, -1 if it has no area, such as padding, if it has
            no position in the output, or if `clip` leaves nothing of it.
        """
        return warped_boxes(self, boxes, format, clip)

    @property
    def matrix(self):
        """The matrix from output to input pixels, or None if the warp is not a matrix.

        It is `(batch, 3, 3)`, or `(batch, 4, 4)` for volumes. OpenCV's `warpPerspective` takes it
        with `WARP_INVERSE_MAP`.
        """
        return None

    def displacement(self):
        """The displacement that `DenseWarp` takes, `(batch, *output_size, axes)`.

        It leads from the position that the identity samples to the position that the warp samples,
        in pixels of the input.
        """
        positions = ops.stack(self.pixels(), axis=-1)
        here = displaced(ops.zeros_like(positions), self.input_size, self.align_corners)
        return positions - ops.stack(here, axis=-1)

    def jacobian(self):
        """The Jacobian of `to_input` at each output pixel, by central differences.

        It is `(batch, *output_size, axes, axes)`, with a row for each coordinate of the input.
        """
        components = by_axis(self.displacement())
        rows = jacobian_rows(components, scales(self, components[0].dtype))
        return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)

    def grid(self):
        """The normalised sampling grid that `grid_sample` takes, `(batch, *output_size, axes)`."""
        return to_grid(self.pixels(), self.input_size, self.align_corners)

    # The sampler and the methods above use the rest.

    @property
    def batch(self):
        return self.tensor.shape[0]

    def pixels(self):
        """Pixel coordinates `[x, y]` or `[x, y, z]` in the input, each `(batch, *output_size)`."""
        raise NotImplementedError

    def is_identity(self):
        """Whether the warp of each image is the identity: `(batch,)` booleans, or None if unknown.

        It applies to warps whose output has the size of the input.
        """
        by_coordinate = []
        for k, coordinate in enumerate(self.pixels()):
            position = ops.arange(coordinate.shape[-1 - k], dtype=coordinate.dtype)
            by_coordinate.append(coordinate == ops.reshape(position, (-1,) + (1,) * k))
        still = functools.reduce(ops.logical_and, by_coordinate)
        return ops.all(still, axis=tuple(range(1, len(still.shape))))

    is_grid = False  # whether `tensor` is the normalised grid

    @property
    def normalised_matrix(self):
        """The normalised matrix of an affine warp, `(batch, axes, axes + 1)`; else None."""
        return None

    def pixels_and_matrix(self):
        """`pixels()` and, of an affine warp, the elements of its matrix, row by row, else None.

        The matrix is for pixels counted from the centres of the images and has no last row.
        """
        return self.pixels(), None

    @backend.per_warp
    def _to_input(self, points):
        field, points = self._field(points)
        return field.at(points)[0]

    @backend.per_warp
    def _to_output(self, points):
        field, points = self._field(points)
        return field.within(points_at(field, points))

    points_per_side = 32  # points on each side of a box that `boxes` maps

    @backend.per_warp
    def anywhere(self, points):
        """Points of the input mapped to the output and beyond its edges, and their depth.

        The sign of the depth says on which side of the horizon of a homography a point lies.
        """
        found = points_at(*self._field(points))
        return found, ops.ones_like(found[..., :1])

    def _field(self, points):
        dtype = wide_dtype(points, self.tensor)
        return Field(self, dtype), as_type(points, dtype)
