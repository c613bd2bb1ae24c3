"""A transformer that is also trained, without labels, to straighten a bent picture alike.

A picture and the same picture bent at random must end in the same warped one: the warp of the bent
picture, followed by the bend, has to sample where the warp of the picture does. A reader alone
stops asking for a straighter word as soon as it can read it.
"""

import keras
import numpy as np
from keras import ops

from examples import word_reader
from stn_keras import SpatialTransformer, transforms
from stn_keras.data import words

WEIGHT = 30  # of squared distances in normalised units, beside the reader's loss
SPLINE = transforms.ThinPlateSpline((2, 8))
# The control points of the bends. Warps are compared there.
POINTS = word_reader.control_points(SPLINE)[np.newaxis].astype("float32")


@keras.saving.register_keras_serializable("word_reader")
class Consistent(SpatialTransformer):
    """A `SpatialTransformer` of pictures of words that adds its inconsistency to the loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seeds = keras.random.SeedGenerator()

    def call(self, images, training=False):
        if not training:
            return super().call(images)
        warp = self.warp(images)
        self.add_loss(WEIGHT * self.inconsistency(images, warp))
        return warp(images, fill_mode=self.fill_mode)

    def compute_output_spec(self, images, training=False):
        return super().compute_output_spec(images)

    def inconsistency(self, images, warp):
        """Mean squared distance between the positions that the warp of the images samples and
        those that the warp of bent images samples, followed by the bend."""
        points = ops.repeat(POINTS, ops.shape(images)[0], axis=0)
        bend = random_bend(ops.shape(images)[0], self.seeds)
        bent = self.warp(bend(images, fill_mode="nearest"))
        there = bend.to_input(bent.to_input(points, normalized=True), normalized=True)
        return ops.mean(ops.square(there - warp.to_input(points, normalized=True)))


def random_bend(count, seeds):
    """Random `Warp`s of as many pictures: an arc and a wave, tilted, moved and in perspective."""

    def uniform(low, high):
        return keras.random.uniform((count, 1), low, high, "float32", seed=seeds)

    x, y = POINTS[..., 0], POINTS[..., 1]
    arc = uniform(-0.5, 0.5) * (x**2 - 0.5) + uniform(-0.4, 0.4) * x
    wave = uniform(-0.4, 0.4) * ops.sin(uniform(2, 4) * x + uniform(0, 2 * np.pi))
    size = uniform(-0.2, 0.2) + uniform(-0.2, 0.2) * y + uniform(-0.2, 0.2) * x * y
    along = uniform(-0.1, 0.1) + uniform(-0.15, 0.15) * x + uniform(-0.1, 0.1) * y
    along += uniform(-0.1, 0.1) * x**2
    theta = ops.stack([along, arc + wave + size], axis=-1)
    return SPLINE.warp(ops.reshape(theta, (count, SPLINE.num_parameters)), words.SIZE)
