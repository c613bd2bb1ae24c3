"""How far warps differ from image to image, in pixels at the corners of the output."""

import itertools
import math

import keras
import numpy as np
from keras import ops

from stn_keras import transforms
from stn_keras.checks.arguments import size_for
from stn_keras.geometry import transform_points
from stn_keras.sampler.axes import extent, positive_extent

MANY = 2**14  # pixels; for larger images, one grid is computed at a time


def warp_spread(theta, transform="affine", size=None, *, align_corners=False):
    """How far the warps of a set of images differ from each other, and from the identity.

    A transformer that gives every image about the same warp has a small spread, even if that warp
    is far from the identity. Such a transformer does not react to the images, and one fixed warp
    would do the same.

    Example:

    >>> theta = [[0.5, 0.25], [0.5, -0.25]]  # to the right by 8 pixels, up and down by 4
    >>> spread, shift = warp_spread(theta, "translation")
    >>> float(spread), float(shift)
    (4.0, 8.0)

    Args:
        theta: `(batch, num_parameters)`; for the affine transform also `(batch, 2, 3)`.
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        size: `(height, width)` of the images in pixels, by default (32, 32); for volumes
            `(depth, height, width)`, by default (16, 16, 16).
        align_corners: See `stn_keras.geometry`.

    Returns:
        `spread, shift`, two scalars in pixels of the input. Each corner pixel of the output samples
        one point for each image. `spread` is the root mean square distance of these points from
        their mean over the images. `shift` is the root mean square distance of these means from the
        points of the identity. Both are NaN if a parameter is.

    Raises:
        ValueError: if `theta` does not have the transform's shape, or `size` is not two positive
            integers, or three for volumes.
    """
    return spread_of(theta_shifts(theta, transform, size, align_corners))


def theta_shifts(theta, transform, size, align_corners=False):
    """How far a transform's warps move the corners, in pixels, `(batch, corners, axes)`."""
    transform = transforms.get(transform)
    size = size_for(transform, size)
    if isinstance(transform, transforms.MatrixTransform):
        matrix = transform.matrix_in(theta, size, align_corners)
        corners = ops.cast(identity_corners(size, align_corners)[None], matrix.dtype)
        return to_pixels(transform_points(matrix, corners) - corners, size, align_corners)

    theta = transform.parameters(theta)

    def shifts(theta):
        return corner_shifts(transform.grid(theta, size, align_corners), size, align_corners)

    if math.prod(size) < MANY:
        return shifts(theta)
    return ops.map(lambda one: shifts(one[None])[0], theta)


def corner_shifts(grid, size, align_corners=False):
    """Displacement of the corner samples from those of the identity, in pixels of the input.

    `grid` is a normalised sampling grid `(batch, ..., axes)` and `size` the input's, in the order
    of the grid's axes: `(batch, corners, axes)`.
    """
    at_rest = identity_corners(grid.shape[1:-1], align_corners)
    corners = grid
    for axis in range(1, len(grid.shape) - 1):
        corners = ops.take(corners, [0, grid.shape[axis] - 1], axis=axis)
    corners = ops.reshape(corners, (-1, *at_rest.shape))
    return to_pixels(corners - ops.cast(at_rest, grid.dtype), size, align_corners)


def to_pixels(vectors, size, align_corners):
    """Normalised vectors `(..., axes)` in pixels."""
    halves = [extent(n, align_corners) / 2 for n in size[::-1]]  # x is the last axis
    return vectors * ops.cast(halves, vectors.dtype)


def identity_corners(size, align_corners):
    """The corner samples of the identity's grid of a size, normalised `(corners, axes)`."""
    firsts = [(1 - n) / positive_extent(n, align_corners) for n in size]
    ends = [(first, -first) for first in firsts]
    return np.array(list(itertools.product(*ends)))[:, ::-1]


def spread_of(shifts):
    """`warp_spread` of `corner_shifts`."""
    mean = ops.mean(shifts, axis=0, keepdims=True)
    return _root_mean_square(shifts - mean), _root_mean_square(mean)


def _root_mean_square(vectors):
    return ops.sqrt(ops.mean(ops.sum(vectors**2, axis=-1)))


@keras.saving.register_keras_serializable("stn_keras")
class WarpSpread(keras.metrics.Metric):
    """The spread of `warp_spread` over all images; see `IdentityDistance` for its use in a model.

    Example:

    >>> metric = WarpSpread("translation")
    >>> metric.update_state(None, np.array([[0.5, 0.25]]))
    >>> metric.update_state(None, np.array([[0.5, -0.25]]))
    >>> float(metric.result())
    4.0

    Args:
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        size: As in `warp_spread`.
        name: Name of the metric in the history.
        dtype: Dtype of the sums.
    """

    def __init__(self, transform="affine", size=None, name="warp_spread", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.transform = transforms.get(transform)
        self.size = size_for(self.transform, size)
        corners, axes = 2 ** len(self.size), len(self.size)
        self.mean = self.add_variable((corners, axes), "zeros", name="mean")
        self.squares = self.add_variable((), "zeros", name="squares")  # of deviations from it
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, theta, sample_weight=None):
        """Adds the images of a batch; `y_true` is ignored."""
        shifts = ops.cast(theta_shifts(theta, self.transform, self.size), self.dtype)
        weights = ops.ones_like(shifts[:, :1, :1])
        if sample_weight is not None:
            weights = weights * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1, 1))
        # Merged as Chan, Golub & LeVeque, 1979: sums of squares lose a small spread.
        weight = ops.sum(weights)
        mean = ops.sum(weights * shifts, axis=0) / ops.maximum(weight, 1e-12)
        squares = ops.sum(weights * (shifts - mean) ** 2)
        step = mean - self.mean
        share = weight / ops.maximum(self.count + weight, 1e-12)
        self.squares.assign_add(squares + ops.sum(step**2) * self.count * share)
        self.mean.assign_add(step * share)
        self.count.assign_add(weight)

    def result(self):
        return ops.sqrt(self.squares / ops.maximum(self.count, 1e-12) / self.mean.shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "transform": keras.saving.serialize_keras_object(self.transform),
            "size": self.size,
        }
