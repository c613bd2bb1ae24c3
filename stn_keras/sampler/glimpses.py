"""Glimpses: several warps of each image, which are sampled at once without copying the image."""

import dataclasses

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_coordinates
from stn_keras.checks.images import as_data_format
from stn_keras.sampler.warps import Pixels, Warp

__all__ = ["Glimpses"]


@dataclasses.dataclass(eq=False)
class Glimpses:
    """The warps of several glimpses of each image.

    `Transform.warp` and `SpatialTransformer.warp` return it if `theta` is `(batch, glimpses,
    num_parameters)`. It has the methods of a `Warp` that are listed here. Their arguments and
    results start with the axes `(batch, glimpses)`.

    Example:

    >>> theta = [[[0.5, 1.0, -0.5, 0.0], [0.5, 1.0, 0.5, 0.0]]]  # the left half, the right half
    >>> halves = transforms.Box().warp(theta, (4, 8))
    >>> halves(np.ones((1, 4, 8, 3), "float32")).shape == (1, 2, 4, 8, 3)
    True
    >>> np.array(halves.to_output([[[[3.5, 1.5]]]]))[0, :, 0]  # the image's middle, in each
    array([[ 7.5,  1.5],
           [-0.5,  1.5]], dtype=float32)

    Attributes:
        warp: One `Warp` of `batch · glimpses` images: first all glimpses of the first image, then
            all glimpses of the second image, and so on. Its `inverse` maps from glimpses to images.
        leading: `(batch, glimpses)`.
    """

    warp: Warp
    leading: tuple

    def __call__(self, pictures, *, data_format: str | None = None, **options):
        """See `Warp`. All glimpses of an image sample the same picture of `pictures`, which are
        `(batch, height, width, channels)`."""
        data_format = as_data_format(data_format)
        rows = self.in_rows()(pictures, data_format=data_format, **options)
        return self.from_rows(rows, self.warp.output_size[0], data_format)

    def to_input(self, points, normalized: bool = False):
        """See `Warp`. Points are `(batch, glimpses, n, 2)`, or `(batch, 1, n, 2)` for the same
        points in all glimpses."""
        return self._apart(self.warp.to_input(self._flat(points, "points"), normalized))

    def to_output(self, points, normalized: bool = False):
        """See `Warp`. Points are as in `to_input`."""
        return self._apart(self.warp.to_output(self._flat(points, "points"), normalized))

    def boxes(self, boxes, format: str = "xyxy", *, clip: bool = False):
        """See `Warp`. Boxes are `(batch, glimpses, n, 4)`, or `(batch, 1, n, 4)`."""
        return self._apart(self.warp.boxes(self._flat(boxes, "boxes"), format, clip=clip))

    @property
    def matrix(self):
        matrix = self.warp.matrix
        return None if matrix is None else self._apart(matrix)

    def displacement(self):
        return self._apart(self.warp.displacement())

    def jacobian(self):
        return self._apart(self.warp.jacobian())

    def grid(self):
        return self._apart(self.warp.grid())

    def in_rows(self):
        """One warp per image, whose output holds all glimpses of the image, stacked vertically."""
        (batch, glimpses), (first, *rest) = self.leading, self.warp.output_size
        size = (glimpses * first, *rest)
        points = [ops.reshape(x, (batch, *size)) for x in self.warp.pixels()]
        tensor = ops.stack(points, axis=-1)
        return Pixels(tensor, self.warp.input_size, size, self.warp.align_corners)

    def from_rows(self, pictures, height, data_format):
        """Splits the output of the warp `in_rows` into glimpses of a height."""
        axis = 1 if data_format == "channels_last" else 2
        shape = backend.shape(pictures)
        shape = (*shape[:axis], self.leading[1], height, *shape[axis + 1 :])
        return ops.moveaxis(ops.reshape(pictures, shape), axis, 1)

    def _apart(self, tensor):
        """`(batch · glimpses, ...)` → `(batch, glimpses, ...)`."""
        return ops.reshape(tensor, (*self.leading, *backend.shape(tensor)[1:]))

    def _flat(self, values, name):
        """`(batch, glimpses, n, ...)` → `(batch · glimpses, n, ...)`."""
        values = as_coordinates(values, name)
        check_leading(values, self.leading, name)
        (batch, glimpses), shape = self.leading, backend.shape(values)
        values = ops.broadcast_to(values, (batch, glimpses, *shape[2:]))
        return ops.reshape(values, (batch * glimpses, *shape[2:]))


def check_leading(values, leading, name):
    """Raises a ValueError if values do not fit the leading axes `(batch, glimpses)`."""
    pairs = zip(values.shape, leading)
    known = [(n, m) for n, m in pairs if isinstance(n, int) and isinstance(m, int)]
    if len(values.shape) != 4 or any(n not in (1, m) for n, m in known):
        raise ValueError(
            f"`{name}` must have shape (batch, glimpses, n, ...), {leading} first, or "
            f"(batch, 1, n, ...). Received: {name}.shape={tuple(values.shape)}"
        )
