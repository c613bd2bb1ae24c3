"""Samples of images at pixel coordinates, with gradients written by hand.

A sample is a sum of weights times pixels. Its derivative with respect to a coordinate is the same
sum with the slopes of the weights. The gradient of the coordinate is the dot product of that
derivative with the upstream gradient.
"""

import functools
import itertools
import math
import operator

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import wide_dtype
from stn_keras.sampler import affine_gradient, sums
from stn_keras.sampler.taps import inside_weight, taps

# `math.prod` would begin with a needless product by 1.
product = functools.partial(functools.reduce, operator.mul)


def interpolate(images, warp, fill, *, interpolation, fill_mode, filled):
    """Images sampled at the positions of a warp, by the operations of every backend.

    Args:
        images: `(batch, *size, channels)`: floats, or integers with interpolation="nearest".
        warp: A `stn_keras.sampler.warps.Warp`.
        fill: `(channels,)` or `(1,)`: the value outside the image, with fill_mode="constant".
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`.
        fill_mode: `"constant"`, `"nearest"`, `"reflect"` or `"wrap"`.
        filled: Whether any of `fill` is not 0.

    Returns:
        `(batch, *output_size, channels)`, in the wider dtype of pixels and coordinates; for images
        of integers, in the dtype of the images.
    """
    coordinates = warp.pixels()
    if images.shape[-1] == 0:
        return empty(images, coordinates)
    size = backend.shape(images)[1:-1]
    options = {
        "size": size,
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": warp.align_corners,
        "dtype": wide_dtype(images, coordinates[0]),
    }
    affine = (interpolation, fill_mode, len(size)) == ("bilinear", "constant", 2)
    samples = mix(images, coordinates, options, warp.centred_matrix if affine else None)
    if filled and fill_mode == "constant":
        samples = samples + missing(coordinates, fill, samples.dtype, size, interpolation)
    return samples


def empty(images, coordinates):
    """The samples of images without channels, whose gradients are zeros."""
    nothing = ops.expand_dims(coordinates[0], -1)[..., :0]
    return nothing + ops.cast(ops.sum(images), nothing.dtype)


def mix(images, coordinates, options, matrix=None):
    """The weighted sums of pixels around the coordinates, `(batch, *output_size, channels)`.

    `matrix` is that of an affine warp, for which the gradient of the images is cheaper, or None.
    """
    axes = len(coordinates)

    def forward(images, *inputs):
        corners = Corners(inputs[:axes], **options)
        return sums.gather_sum(as_rows(images), corners.indices(), corners.weights())

    def backward(upstream, images, *inputs):
        coordinates, rest = inputs[:axes], inputs[axes:]
        to_images = by_images(upstream, coordinates, options, *rest)
        to_coordinates = by_coordinates(upstream, images, coordinates, options)
        return to_images, *to_coordinates, *(None for _ in rest)

    inputs = [images, *coordinates] + ([] if matrix is None else [matrix])
    return backend.with_gradient(forward, backward)(*inputs)


def as_rows(images):
    return ops.reshape(images, (-1, math.prod(backend.shape(images)[1:-1]), images.shape[-1]))


def by_images(upstream, coordinates, options, matrix=None):
    """The gradient of the images: the upstream, distributed to the pixels that were read."""
    size = options["size"]

    @backend.compile
    def scattered(upstream, *coordinates):
        corners = Corners(coordinates, **options)
        rows = sums.scatter_sum(upstream, corners.indices(), corners.weights(), math.prod(size))
        return ops.reshape(rows, (-1, *size, upstream.shape[-1]))

    def scatter():
        return scattered(upstream, *coordinates)

    if matrix is None:
        return scatter()
    return affine_gradient.gathered(upstream, scatter, matrix=matrix, size=size)


def by_coordinates(upstream, images, coordinates, options):
    """The gradient of each coordinate, `(batch, *output_size)`."""
    if options["interpolation"] == "nearest":
        return [ops.zeros_like(coordinate) for coordinate in coordinates]

    @backend.compile
    def derivatives(upstream, images, *coordinates):
        corners = Corners(coordinates, **options)
        return sums.gather_dots(upstream, as_rows(images), corners.indices(), corners.slopes())

    return [ops.squeeze(dot, -1) for dot in derivatives(upstream, images, *coordinates)]


class Corners:
    """The pixels around each sample: all combinations of the taps of its axes.

    Indices, weights and slopes are lists of `(batch, *output_size, 1)`, an item per pixel.
    """

    def __init__(self, coordinates, *, size, dtype, **options):
        self.size, self.dtype = size, dtype
        self.by_axis = [
            taps(ops.expand_dims(coordinate, -1), length, **options)
            for coordinate, length in zip(reversed(coordinates), size)
        ]

    def indices(self):
        """Indices of the pixels in their image, row by row."""
        indices = []
        for first, *others in itertools.product(*self.by_axis):
            index, _, _ = first
            for (position, _, _), length in zip(others, self.size[1:]):
                index = index * length + position
            indices.append(index)
        return indices

    def weights(self):
        return self.products()

    def slopes(self):
        """The derivatives of the weights along each of the coordinates."""
        return [self.products(axis) for axis in reversed(range(len(self.by_axis)))]

    def products(self, of_slope=None):
        """The product of each pixel's weights along all axes, with its slope along `of_slope`."""
        return [
            ops.cast(
                product(tap[2 if axis == of_slope else 1] for axis, tap in enumerate(corner)),
                self.dtype,
            )
            for corner in itertools.product(*self.by_axis)
        ]


def missing(coordinates, fill, dtype, size, interpolation):
    """The fill value, times the weight of the taps outside the image."""
    fill = ops.reshape(ops.cast(fill, dtype), (1,) * (len(size) + 1) + (-1,))
    inside = product(
        inside_weight(coordinate, length, interpolation)
        for coordinate, length in zip(reversed(coordinates), size)
    )
    weight = ops.cast(ops.expand_dims(1 - inside, -1), dtype)
    return ops.where(weight != 0, weight * fill, 0)
