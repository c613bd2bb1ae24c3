"""Images rotated, scaled, shifted and tilted by known amounts."""

import tensorflow as tf

from stn_keras import geometry, transforms
from stn_keras.sampling import grid_sample


def placed(images, canvas=None, **amounts):
    """Images rotated, scaled, tilted and shifted by amounts of `placing`, on a black canvas.

    The canvas `(height, width)` has the aspect ratio of the images; it has their size if it is
    None.
    """
    images = tf.cast(images, "float32")
    size = tuple(images.shape[1:3])
    return placing(size, tuple(canvas or size), **amounts)(images, data_format="channels_last")


def placing(size, canvas, *, angle=0.0, scale=1.0, shift=(0.0, 0.0), tilt=0.0):
    """The warp that rotates, scales, tilts and shifts images of a size about their middle.

    It puts them in the middle of the canvas. `angle` is in radians, clockwise, and `shift` `(x, y)`
    in pixels, to the right and down. With a positive `tilt` the right edge comes nearer, enlarged
    by `1 + tilt`, and the left edge moves away.
    """
    angle, scale = (tf.reshape(tf.cast(x, "float32"), [1]) for x in (angle, scale))
    shift = tf.reshape(tf.cast(shift, "float32"), [1, 2])
    turned, moved = matrices(canvas[0] / size[0], canvas, -angle, scale, shift)
    tilted = transforms.Projective().matrix([[1, 0, 0, 0, 1, 0, tilt, 0]])
    matrix = geometry.compose(geometry.compose(turned, tilted), moved)
    projective = transforms.Projective()
    return projective.warp(projective.from_matrix(matrix), size, canvas)


def laid_on(images, canvas, angle, scale, shift):
    """Rotates and scales square images and places them `shift` pixels off a canvas's centre."""
    size = canvas, canvas
    turned, moved = matrices(canvas / images.shape[1], size, angle, scale, shift)
    theta = transforms.Affine().from_matrix(geometry.compose(turned, moved))
    return grid_sample(images, geometry.affine_grid(theta, size))


def matrices(unit, canvas, angle, scale, shift):
    """Two matrices: of a rotation and scale, and of the shift before them. `unit` is the size of
    the canvas divided by the size of the image."""
    still = tf.zeros_like(angle)
    theta = tf.stack([angle, unit / scale, still, still], axis=1)
    return (
        transforms.Similarity().matrix(theta, canvas),
        transforms.Translation().matrix(-shift * 2 / tf.constant(canvas[::-1], "float32")),
    )
