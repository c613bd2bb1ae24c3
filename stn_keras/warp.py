"""Warps images by theta; all coordinates are in pixels."""

import functools

import keras
from keras import ops

from stn_keras import backend, sampling
from stn_keras.arguments import as_type
from stn_keras.blend import sample
from stn_keras.geometry import between_pixels


@backend.compiled
def warp(images, theta, fill, *, transform, output_size, antialias, **options):
    """Computes `grid_sample(images, transform.grid(theta, output_size))` in one function.

    Args:
        images: `(batch, *size, channels)`, images or volumes.
        theta: `(batch, num_parameters)`.
        fill: `(channels,)` or `(1,)`, see `fill_mode`.
        transform: What `theta` means.
        output_size: Size of the warped images, or None for the images'.
        antialias: Samples per output pixel along each axis, averaged.
        **options: interpolation, fill_mode, filled and align_corners, see `sample`.

    Returns:
        `(batch, *output_size, channels)`, in the dtype of `images`.
    """
    input_size = backend.shape(images)[1:-1]
    fine_size = [length * antialias for length in output_size or input_size]
    where = theta, input_size, fine_size, options["align_corners"]
    samples = None
    if backend.has_native(images, fine_size, **options):
        samples = natively(images, fill, transform, where, options)
    if samples is None:
        samples = in_pixels(images, fill, transform, where, options)
    dtype = keras.backend.standardize_dtype(images.dtype)
    return as_type(mean_of_blocks(samples, antialias), dtype)


def in_pixels(images, fill, transform, where, options):
    """The samples by this library's own sampler, which uses the matrix of an affine warp."""
    theta, input_size, size, align_corners = where
    coordinates = transform.pixels(*where)
    if not backend.is_fixed(transform):  # then this is not compiled, but the sampling can be
        points = ops.stack(coordinates, -1)
        return sampling.at_points(images, points, fill, name="coordinates", **options)
    # For the images' gradient, which in volumes, or not compiled, is cheaper scattered.
    matrix = None
    if transform.axes == 2 and backend.is_fused():
        matrix = transform.affine(theta, input_size, align_corners)
    if matrix is not None:
        matrix = between_pixels(matrix, input_size, size, align_corners)
    return sample(images, coordinates, fill, matrix=matrix, **options)


def natively(images, fill, transform, where, options):
    """The samples by the backend's own sampler, which takes a normalised grid, or None.

    It rounds the grid, so images that the identity warps are returned unchanged.
    """
    _, input_size, size, _ = where
    unchanged = untouched(transform, *where) if tuple(size) == tuple(input_size) else None
    return sampling.natively(images, transform.normalised(*where), fill, options, unchanged)


def untouched(transform, theta, *where):
    """Which images have the `theta` of the identity; None if none has."""
    theta = ops.reshape(theta, (-1, transform.num_parameters))
    identity = ops.convert_to_tensor(transform.identity, dtype=theta.dtype)[None]
    same = ops.all(theta == identity, axis=1)
    if backend.is_never(same):
        return None
    # A transform of users may call something else the identity.
    return ops.logical_and(same, at_rest(transform.pixels(identity, *where)))


def at_rest(coordinates):
    """Which of the images, whose pixels are looked up at `(x, y[, z])`, stay as they are."""
    by_axis = []
    for k, coordinate in enumerate(coordinates):
        position = ops.arange(coordinate.shape[-1 - k], dtype=coordinate.dtype)
        by_axis.append(coordinate == ops.reshape(position, (-1,) + (1,) * k))
    still = functools.reduce(ops.logical_and, by_axis)
    return ops.all(still, axis=tuple(range(1, len(still.shape))))


def mean_of_blocks(images, side):
    """Averages each block of `side` pixels along every axis of `(batch, *size, channels)`."""
    if side == 1:
        return images
    _, *depth, height, width, channels = backend.shape(images)
    if depth:  # apart: TensorFlow has no broadcasts of so many axes, which the gradient needs
        slices = ops.reshape(images, (-1, side, height * width * channels))
        images = ops.reshape(ops.sum(slices, axis=1) / side, (-1, height, width, channels))
    blocks = (-1, height // side, side, width // side, side, channels)
    means = ops.sum(ops.reshape(images, blocks), axis=(2, 4)) / side**2
    if depth:
        means = ops.reshape(means, (-1, depth[0] // side, height // side, width // side, channels))
    return means
