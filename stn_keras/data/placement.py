"""Images rotated, scaled, shifted and tilted by known amounts."""

import tensorflow as tf

from stn_keras import geometry, transforms
from stn_keras.sampling import grid_sample


def placed(images, canvas=None, *, angle=0.0, scale=1.0, shift=(0.0, 0.0), tilt=0.0):
    """Rotates, scales, tilts and shifts images about their middle, on a black canvas.

    The canvas `(height, width)` has the aspect ratio of the images; an image of another size is put
    in its middle. `angle` is in radians, clockwise, and `shift` `(x, y)` in pixels, to the right
    and down. With a positive `tilt` the right edge comes nearer, enlarged by `1 + tilt`, and the
    left edge moves away.
    """
    images = tf.cast(images, "float32")
    canvas = tuple(canvas or images.shape[1:3])
    unit = canvas[0] / images.shape[1]
    angle, scale = (tf.reshape(tf.cast(x, "float32"), [1]) for x in (angle, scale))
    shift = tf.reshape(tf.cast(shift, "float32"), [1, 2])
    turned, moved = matrices(unit, canvas, -angle, scale, shift)
    tilted = transforms.Projective().matrix([[1, 0, 0, 0, 1, 0, tilt, 0]])
    matrix = geometry.compose(geometry.compose(turned, tilted), moved)
    projective = transforms.Projective()
    return grid_sample(images, projective.grid(projective.from_matrix(matrix), canvas))


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
