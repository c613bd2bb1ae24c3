"""Images rotated, scaled, shifted and tilted by known amounts."""

import tensorflow as tf

from stn_keras import geometry, transforms
from stn_keras.sampling import grid_sample

__all__ = ["pose"]


def pose(images, canvas=None, *, angle=0.0, scale=1.0, shift=(0.0, 0.0), tilt=0.0):
    """Rotates, scales, tilts and shifts images about their middle, on a black canvas.

    Example:

    >>> posed = pose(images, angle=np.pi / 6, shift=(4, 0))
    >>> posed.shape
    TensorShape([8, 32, 32, 3])

    Args:
        images: `(batch, height, width, channels)`, numbers.
        canvas: `(height, width)` of the output, with the images' aspect ratio; `None` for their
            size. An image of another size lies in its middle, at its own scale.
        angle: Rotation in radians, clockwise.
        scale: Factor of the image's size, above 0.
        shift: `(x, y)` in pixels, to the right and down.
        tilt: Perspective, above −1 and below 1: the right edge comes nearer, enlarged by
            `1 + tilt`, and the left one recedes, at `1 - tilt` of its size.

    Returns:
        float32 tensor `(batch, *canvas, channels)`.
    """
    images = tf.cast(images, "float32")
    canvas = tuple(canvas or images.shape[1:3])
    unit = canvas[0] / images.shape[1]
    angle, scale = (tf.reshape(tf.cast(x, "float32"), [1]) for x in (angle, scale))
    shift = tf.reshape(tf.cast(shift, "float32"), [1, 2])
    turned, moved = placement(unit, canvas, -angle, scale, shift)
    tilted = transforms.Projective().matrix([[1, 0, 0, 0, 1, 0, tilt, 0]])
    matrix = geometry.compose(geometry.compose(turned, tilted), moved)
    projective = transforms.Projective()
    return grid_sample(images, projective.grid(projective.from_matrix(matrix), canvas))


def lay(images, canvas, angle, scale, shift):
    """Rotates and scales square images and places them `shift` pixels off a canvas's centre."""
    size = canvas, canvas
    turned, moved = placement(canvas / images.shape[1], size, angle, scale, shift)
    theta = transforms.Affine().from_matrix(geometry.compose(turned, moved))
    return grid_sample(images, geometry.affine_grid(theta, size))


def placement(unit, canvas, angle, scale, shift):
    """Matrices of a rotation and scale and, before them, of a shift; `unit` is the canvas's size
    by the image's."""
    still = tf.zeros_like(angle)
    theta = tf.stack([angle, unit / scale, still, still], axis=1)
    return (
        transforms.Similarity().matrix(theta, canvas),
        transforms.Translation().matrix(-shift * 2 / tf.constant(canvas[::-1], "float32")),
    )
