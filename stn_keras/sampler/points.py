"""Checks the points that users pass to a warp, and converts them to and from pixels."""

from keras import ops

from stn_keras.checks.arguments import as_coordinates, as_flag
from stn_keras.sampler.coordinates import to_grid, to_pixels


def mapped(function, warp, points, normalized, source, target):
    """Applies a function of a warp to the points `(batch, n, axes)` that a user passed.

    The function maps pixel coordinates in images of size `source` to those in images of size
    `target`. With `normalized`, the given and the returned points are normalised.
    """
    points = as_coordinates(points, "points")
    check_points(points, warp)
    if not as_flag(normalized, "normalized"):
        return function(points)
    points = ops.stack(to_pixels(points, source, warp.align_corners), axis=-1)
    return to_grid(ops.unstack(function(points), axis=-1), target, warp.align_corners)


def check_points(points, warp):
    """Raises a ValueError if points do not have the shape that a warp needs."""
    axes = len(warp.output_size)
    if len(points.shape) != 3 or points.shape[-1] != axes:
        raise ValueError(
            f"`points` must have shape (batch, n, {axes}) for a warp of "
            f"{'images' if axes == 2 else 'volumes'}. Received: points.shape={tuple(points.shape)}"
        )
    check_batch(points, warp, "points")


def check_batch(tensor, warp, name):
    """Raises a ValueError if the batch sizes of a tensor and a warp differ and neither is 1."""
    if differ(tensor.shape[0], warp.batch):
        raise ValueError(
            f"`{name}` must have the batch size of the warp, or one of the two must be 1. "
            f"Received: {name}.shape={tuple(tensor.shape)} for a warp of {warp.batch} images"
        )


def differ(batch, other):
    """Whether two batch sizes are known, differ, and neither is 1."""
    return None not in (batch, other) and 1 not in (batch, other) and batch != other


def pixel_centres(size, dtype):
    """The coordinates `(x, y)` or `(x, y, z)` of all pixels, `(1, pixels, axes)`."""
    along = [ops.arange(length, dtype=dtype) for length in size]
    grid = ops.meshgrid(*along, indexing="ij")
    return ops.stack([ops.reshape(x, (1, -1)) for x in reversed(grid)], axis=-1)


def check_composition(first, second):
    """Raises a ValueError if the sizes or batch sizes of two warps do not fit `first @ second`."""
    between, given = first.output_size, second.input_size
    different = any(
        isinstance(n, int) and isinstance(m, int) and n != m for n, m in zip(between, given)
    )
    if len(between) != len(given) or different:
        raise ValueError(
            "In `first @ second` the output size of `first` must be the input size of `second`. "
            f"Received: first.output_size={between}, second.input_size={given}"
        )
    if differ(first.batch, second.batch):
        raise ValueError(
            "In `first @ second` both warps must have the same batch size, or one of them 1. "
            f"Received: warps of {first.batch} and {second.batch} images"
        )
