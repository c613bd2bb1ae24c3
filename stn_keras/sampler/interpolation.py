"""Samples of images at pixel coordinates, with gradients written by hand.

A sample is a sum of weights times pixels. Its derivative with respect to a coordinate is the same
sum with the slopes of the weights. The gradient of the coordinate is the dot product of that
derivative with the upstream gradient.
"""

import contextlib
import functools
import itertools
import math
import operator
import threading

from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import wide_dtype
from stn_keras.sampler import affine_gradient, sums
from stn_keras.sampler.taps import inside_weight, taps

_thread = threading.local()  # PyTorch's compiler does not know context variables


def sample(images, warp, fill, **options):
    """Samples images at the positions of a warp. All pixels are read through this function.

    Arguments and result are those of `interpolate`.
    """
    door = getattr(_thread, "door", backend.sample)
    return door(interpolate, images, warp, fill, **options)


@contextlib.contextmanager
def sampling_by(function):
    """Inside this context, and only in this thread, `function` replaces `backend.sample`."""
    outer = getattr(_thread, "door", backend.sample)
    _thread.door = function
    try:
        yield
    finally:
        _thread.door = outer


def interpolate(images, warp, fill, *, interpolation, fill_mode):
    """Images sampled at the positions of a warp, by the operations of every backend.

    Args:
        images: `(batch, *size, channels)`: floats, or integers with interpolation="nearest".
        warp: A `stn_keras.sampler.warps.Warp`.
        fill: `(channels,)` or `(1,)`, the value outside the image; see `fill_tensor` for None.
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`.
        fill_mode: `"constant"`, `"nearest"`, `"reflect"` or `"wrap"`.

    Returns:
        `(batch, *output_size, channels)`, in the wider dtype of pixels and coordinates; for images
        of integers, in the dtype of the images.
    """
    coordinates, matrix = warp.pixels_and_matrix()
    if images.shape[-1] == 0:
        return empty(images, coordinates)
    size = backend.shape(images, 1, -1)
    options = {
        "size": size,
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": warp.align_corners,
        "dtype": wide_dtype(images, coordinates[0]),
    }
    gathered = (interpolation, fill_mode, len(size)) == ("bilinear", "constant", 2)
    samples = mix(images, coordinates, options, matrix if gathered else None)
    if fill is not None:
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
    axes, size = len(coordinates), options["size"]

    def forward(images, *inputs):
        rows = ops.reshape(images, (-1, math.prod(size), images.shape[-1]))
        return backend.gather_sum(rows, *corners(inputs[:axes], **options))

    def to_images(upstream, images, *inputs):
        return by_images(upstream, inputs[:axes], options, *inputs[axes:])

    def to_coordinates(upstream, images, *inputs):
        found = by_coordinates(upstream, images, inputs[:axes], options)
        return *found, *(None for _ in inputs[axes:])

    inputs = [images, *coordinates] + ([] if matrix is None else [matrix])
    return backend.with_gradient(forward, to_coordinates, *inputs, first=to_images)


def by_images(upstream, coordinates, options, matrix=None):
    """The gradient of the images: the upstream, distributed to the pixels that were read."""
    scatter = functools.partial(scattered, upstream, *coordinates, **options)
    if matrix is None:
        return scatter()
    return affine_gradient.gathered(upstream, scatter, matrix=matrix, size=options["size"])


@backend.compile
def scattered(upstream, *coordinates, size, **options):
    """`by_images` for any warp."""
    indices, weights = corners(coordinates, size=size, **options)
    rows = sums.scatter_sum(upstream, indices, weights, math.prod(size))
    return ops.reshape(rows, (-1, *size, upstream.shape[-1]))


def by_coordinates(upstream, images, coordinates, options):
    """The gradient of each coordinate, `(batch, *output_size)`."""
    if options["interpolation"] == "nearest":
        return [ops.zeros_like(coordinate) for coordinate in coordinates]
    dots = derivatives(upstream, images, *coordinates, **options)
    return [ops.squeeze(dot, -1) for dot in dots]


@backend.compile
def derivatives(upstream, images, *coordinates, size, **options):
    """`by_coordinates`, each `(batch, *output_size, 1)`."""
    indices, slopes = corners(coordinates, size=size, **options, of_slopes=True)
    rows = ops.reshape(images, (-1, math.prod(size), images.shape[-1]))
    return sums.gather_dots(upstream, rows, indices, slopes)


def corners(coordinates, *, size, dtype, of_slopes=False, **options):
    """The pixels around each sample: all combinations of the taps of its axes.

    Returns:
        `(indices, weights)`, lists of `(batch, *output_size, 1)`, an item per pixel. Indices count
        the pixels of an image row by row. With `of_slopes`, the second is a list of lists: the
        derivatives of the weights with respect to each of the coordinates.
    """
    by_axis = [
        taps(ops.expand_dims(coordinate, -1), length, of_slopes=of_slopes, **options)
        for coordinate, length in zip(reversed(coordinates), size)
    ]
    (indices, *columns), weights, slopes = zip(*by_axis)
    for column, length in zip(columns, size[1:]):
        stride = ops.convert_to_tensor(length, "int32")
        rows = [index * stride for index in indices]
        indices = [row + position for row in rows for position in column]
    if not of_slopes:
        return indices, products(weights, dtype)
    sets = [
        products((*weights[:axis], slopes[axis], *weights[axis + 1 :]), dtype)
        for axis in reversed(range(len(size)))
    ]
    return indices, sets


def products(factors, dtype):
    """The products of all combinations of one factor per axis."""
    found = [functools.reduce(operator.mul, one_each) for one_each in itertools.product(*factors)]
    return [ops.cast(product, dtype) for product in found]


def missing(coordinates, fill, dtype, size, interpolation):
    """The fill value, times the weight of the taps outside the image."""
    fill = ops.reshape(ops.cast(fill, dtype), (1,) * (len(size) + 1) + (-1,))
    by_axis = zip(reversed(coordinates), size)
    inside = [inside_weight(coordinate, length, interpolation) for coordinate, length in by_axis]
    weight = ops.cast(ops.expand_dims(1 - functools.reduce(operator.mul, inside), -1), dtype)
    return ops.where(weight != 0, weight * fill, 0)
