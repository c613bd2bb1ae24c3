"""Averages of blocks of pixels, for antialiasing: a finer warp is averaged to the output."""

from keras import ops

from stn_keras import backend


def mean_of_blocks(images, side):
    """Averages each block of `side` pixels along every axis of `(batch, *size, channels)`."""
    *depth, height, width, channels = backend.shape(images, 1)
    if depth:  # separately, because TensorFlow cannot broadcast so many axes in the gradient
        slices = ops.reshape(images, (-1, side, height * width * channels))
        images = ops.reshape(ops.sum(slices, axis=1) / side, (-1, height, width, channels))
    blocks = (-1, height // side, side, width // side, side, channels)
    means = ops.sum(ops.reshape(images, blocks), axis=(2, 4)) / side**2
    if depth:
        means = ops.reshape(means, (-1, depth[0] // side, height // side, width // side, channels))
    return means
