"""A convolution behind a warp, whose gradient by images of few channels is cheap on a CPU."""

import tensorflow as tf


def convolve(images, kernel):
    """Convolution without padding; on a CPU the gradient of images of few channels is cheap."""
    # A variable would have to be given its gradient apart.
    return convolved(images, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def convolved(images, kernel):
    def gradient(upstream):
        by_kernel = tf.compat.v1.nn.conv2d_backprop_filter(
            images, kernel.shape, upstream, [1, 1, 1, 1], "VALID"
        )
        return in_blocks(upstream, kernel), by_kernel

    return tf.nn.conv2d(images, kernel, 1, "VALID"), gradient


def in_blocks(upstream, kernel):
    """The gradient that `upstream` of a convolution sends to its images.

    oneDNN would pad the images' channels to 16. Here a convolution has blocks of 4×4 pixels as
    channels: a pixel's gradient is the upstream around it times the mirrored kernel, so that one
    position serves a block, with the kernel moved to the place of each pixel in it.
    """
    side = 4
    mirrored = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
    moved = [
        tf.pad(mirrored, ((row, side - 1 - row), (column, side - 1 - column), (0, 0), (0, 0)))
        for row in range(side)
        for column in range(side)
    ]
    by_place = tf.stack(moved, axis=3)
    by_place = tf.reshape(by_place, (*by_place.shape[:3], -1))
    rows, columns = (length - 1 for length in kernel.shape[:2])
    around = tf.pad(upstream, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return tf.nn.depth_to_space(tf.nn.conv2d(around, by_place, side, "VALID"), side)
