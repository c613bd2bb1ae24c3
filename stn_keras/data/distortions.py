"""Random distortions of batches of images inside `tf.data`, with the library's own transforms.

They are the distortions of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), section 4.1
and appendix A.4. Each is a function from float images `(batch, height, width, channels)` and a seed
to distorted images. As everywhere in the library, a transform maps each output pixel to a position
in the input. Pixels outside the image are black.
"""

import math

import numpy as np
import tensorflow as tf

from stn_keras import transforms
from stn_keras.data.placement import laid_on
from stn_keras.sampling import grid_sample

__all__ = ["distort", "fixed"]

CANVASES = {28: 42}  # size of RTS's output for MNIST's size of images; it keeps other sizes


def distort(images, name, seed, elastic=0.0):
    """Distorts a batch of images.

    Example:

    >>> distort(np.zeros((8, 28, 28, 1), "uint8"), "RTS", seed=(0, 0)).shape
    TensorShape([8, 42, 42, 1])

    In a training, every batch is distorted anew:

    >>> import functools
    >>> from stn_keras.data import pipeline
    >>> rotated = functools.partial(distort, name="R")
    >>> batches = pipeline.training_batches(images, labels, batch_size=4, seed=0, distort=rotated)
    >>> history = model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)

    Args:
        images: uint8 `(batch, height, width, channels)`, square.
        name: `"R"` (rotation), `"RTS"` (rotation, scaling and translation), `"P"` (projective),
            `"E"` (elastic, a thin-plate spline) or `"TC"` (translation and clutter).
        seed: Two integers that determine the random numbers.
        elastic: Standard deviation, in pixels, of the displacement of 16 control points of a
            thin-plate spline that is applied to each image before the distortion.

    Returns:
        uint8 images. RTS of 28×28 images gives 42×42; TC gives 60×60; the others keep the size.

    Raises:
        ValueError: if `name` is unknown.
    """
    if name not in DISTORTIONS:
        raise ValueError(f"`name` must be one of {tuple(DISTORTIONS)}. Received: name={name!r}")
    images = tf.cast(images, "float32")
    if elastic:
        grid = spline(images, tf.random.experimental.stateless_fold_in(seed, 1), elastic)
        images = tf.round(grid_sample(images, grid))
    return tf.cast(tf.round(DISTORTIONS[name](images, seed)), "uint8")


def fixed(images, name, seed):
    """Distorts a whole array, the same way in every call.

    Example:

    >>> fixed(images, "R", seed=0).shape
    (8, 32, 32, 3)

    Args:
        images: uint8 array `(n, height, width, channels)`.
        name: See `distort`.
        seed: Integer that determines the random numbers.

    Returns:
        uint8 array of the distorted images, in the order of `images`.
    """
    # Eagerly: in a graph, XLA may compile one call and not the next, and rounds differently.
    batches = [
        distort(images[start : start + 500], name, tf.constant([seed, step], "int64"))
        for step, start in enumerate(range(0, len(images), 500))
    ]
    return np.concatenate(batches)


def rotate(images, seed):
    """R: rotation by −90° to 90°."""
    angle = uniform(images, seed, -math.pi / 2, math.pi / 2)
    still = tf.zeros_like(angle)
    theta = tf.stack([angle, still, still], axis=1)
    return grid_sample(images, transforms.Rigid().grid(theta, images.shape[1:3]))


def rotate_scale_translate(images, seed):
    """RTS: rotation by −45° to 45°, scale of 0.7 to 1.2, and translation on a canvas.

    The translation keeps the image's inscribed circle on the canvas or, if the canvas is smaller,
    the canvas inside that circle.
    """
    turn, size, place = split(seed, 3)
    angle = uniform(images, turn, -math.pi / 4, math.pi / 4)
    scale = uniform(images, size, 0.7, 1.2)
    side = images.shape[1]
    canvas = CANVASES.get(side, side)
    room = tf.abs(canvas - scale * side)[:, None] / 2
    shift = room * uniform(images, place, -1, 1, axes=2)
    return laid_on(images, canvas, angle, scale, shift)


def project(images, seed):
    """P: scale of 0.75 to 1, and a homography whose corners move by a deviation of 5 pixels."""
    size, jitter = split(seed, 2)
    scale = uniform(images, size, 0.75, 1)[:, None, None]
    corners = tf.constant([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    aside = normal(images, jitter, pixels=5, points=4)
    theta = homography(corners, corners / scale + aside)
    return grid_sample(images, transforms.Projective().grid(theta, images.shape[1:3]))


def bend(images, seed):
    """E: scale of 0.75 to 1, and a spline whose 16 points move by a deviation of 1.5 pixels."""
    size, jitter = split(seed, 2)
    scale = uniform(images, size, 0.75, 1)[:, None, None, None]
    return grid_sample(images, spline(images, jitter, 1.5) / scale)


def translate_clutter(images, seed):
    """TC: translation on a 60×60 canvas, and six 6×6 patches of other images of the batch."""
    canvas = 60
    batch, side = tf.shape(images)[0], images.shape[1]
    place, *rest = split(seed, 4)
    corner = corners(place, [batch, 2], canvas - side)
    shift = tf.cast(corner, "float32") - (canvas - side) / 2
    still = tf.zeros([batch])
    return clutter(laid_on(images, canvas, still, tf.ones_like(still), shift), images, rest)


def clutter(canvases, images, seeds, count=6, patch=6):
    """Puts `count` square patches of other images, `patch` pixels wide, on each canvas.

    The first of `images` are on the canvases. The three `seeds` select the images that patches
    come from, the patches, and their places. Brighter pixels of a canvas stay.
    """
    source, cut, spot = seeds
    batch, total = tf.shape(canvases)[0], tf.shape(images)[0]
    side, canvas = (min(x.shape[1:3]) for x in (images, canvases))
    others = tf.random.stateless_uniform([batch, count], source, 1, tf.maximum(total, 2), "int32")
    others = (tf.range(batch)[:, None] + others) % total
    cuts = corners(cut, [batch, count, 2], side - patch)
    patches = tf.gather_nd(images, window(others, cuts, patch))
    owners = tf.repeat(tf.range(batch)[:, None], count, axis=1)
    spots = corners(spot, [batch, count, 2], canvas - patch)
    return tf.tensor_scatter_nd_max(canvases, window(owners, spots, patch), patches)


DISTORTIONS = {
    "R": rotate,
    "RTS": rotate_scale_translate,
    "P": project,
    "E": bend,
    "TC": translate_clutter,
}


def spline(images, seed, deviation):
    """Grid of a thin-plate spline whose 16 points move by a deviation given in pixels."""
    aside = tf.reshape(normal(images, seed, pixels=deviation, points=16), (-1, 32))
    return transforms.ThinPlateSpline((4, 4)).grid(aside, images.shape[1:3])


def homography(points, targets):
    """The `theta` of `Projective` that maps four points `(4, 2)` to targets `(batch, 4, 2)`.

    Each pair gives the equation `x · (g·u + h·v + 1) = a·u + b·v + c`, and one for y with d, e, f.
    """
    u, v = (tf.broadcast_to(points[:, axis], tf.shape(targets)[:2]) for axis in (0, 1))
    none, one = tf.zeros_like(u), tf.ones_like(u)
    x, y = targets[..., 0], targets[..., 1]
    rows_x = tf.stack([u, v, one, none, none, none, -u * x, -v * x], axis=-1)
    rows_y = tf.stack([none, none, none, u, v, one, -u * y, -v * y], axis=-1)
    system = tf.concat([rows_x, rows_y], axis=1)  # (batch, 8, 8)
    return tf.linalg.solve(system, tf.concat([x, y], axis=1)[..., None])[..., 0]


def window(images, corners, side):
    """Indices `(..., side, side, 3)` of the square of pixels at each corner of each image."""
    steps = tf.stack(tf.meshgrid(tf.range(side), tf.range(side), indexing="ij"), axis=-1)
    pixels = corners[..., None, None, :] + steps
    owners = tf.broadcast_to(images[..., None, None, None], tf.shape(pixels[..., :1]))
    return tf.concat([owners, pixels], axis=-1)


def corners(seed, shape, most):
    """Whole pixels from 0 to `most`."""
    return tf.random.stateless_uniform(shape, seed, 0, most + 1, "int32")


def uniform(images, seed, least, most, axes=None):
    """`(batch,)` or `(batch, axes)` numbers."""
    shape = [tf.shape(images)[0]] + ([] if axes is None else [axes])
    return tf.random.stateless_uniform(shape, seed, least, most)


def normal(images, seed, pixels, points):
    """Normal offsets `(batch, points, 2)` in normalised units; the deviation is in pixels."""
    deviation = 2 * pixels / images.shape[1]
    return tf.random.stateless_normal([tf.shape(images)[0], points, 2], seed, 0, deviation)


def split(seed, count):
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))
