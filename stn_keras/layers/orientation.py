"""A localization network that learns, without labels, by what angle images are turned."""

import math

import keras
import numpy as np
from keras import ops

from stn_keras import transforms
from stn_keras.checks.arguments import as_count, as_flag, as_number
from stn_keras.checks.images import as_data_format, check_images, size_of
from stn_keras.layers import networks
from stn_keras.layers.base import OneArgument
from stn_keras.sampling import grid_sample

__all__ = ["Orientation"]


@keras.saving.register_keras_serializable("stn_keras")
class Orientation(OneArgument):
    """Regresses the rotation that turns each image upright, and learns it from turned copies.

    The classification loss alone hardly teaches a transformer to turn natural images upright. This
    layer has a loss of its own, which needs no labels. It needs only `max_rotation`: images are
    turned by unknown angles between `-max_rotation` and `max_rotation`. In training, the layer
    turns a copy of each image by a known random angle φ. The angle of the copy must then lie within
    `max_rotation` of φ. The loss is minus the logarithm of the probability that the network gives
    to these angles. Because φ takes all values, only the true angle satisfies all copies.

    The network gives probabilities of `bins` angles. The result for an image is the mean angle
    under these probabilities, among the angles up to `max_rotation`. By default the network sees
    only the disc inside the image, because the corners of a copy may show by what angle it was
    turned.

    Example:

    >>> features = keras.Sequential([keras.layers.Conv2D(8, 3, 2), keras.layers.Flatten()])
    >>> orientation = Orientation(features, max_rotation=np.pi / 2)
    >>> upright = stn_keras.SpatialTransformer(orientation, transform="rigid")
    >>> upright(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 32, 32, 3)
    True

    Args:
        network: Keras layer or model from images to features `(batch, features)`.
        max_rotation: Greatest angle in radians by which images are turned, above 0 and below π.
        weight: Factor on the loss, which is added to the model's.
        disc: Whether the network sees nothing outside the disc. `False` is better if the images
            have borders that turned with them, such as black corners.
        bins: Number of angles, evenly spaced around the circle; at least π / `max_rotation`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        seed: Seed of the angles of the copies, an integer of at least 0; `None` for a random one.
            Do not pass the seed with which a data pipeline turns the images, because both may draw
            the same numbers.

    Call arguments:
        inputs: Images `(batch, height, width, channels)`, `data_format` permitting.
        training: Whether to turn copies and to add the loss.

    Returns:
        `theta` of `transforms.Rigid`, `(batch, 3)`, float32: the angle in radians, and zeros.

    Raises:
        ValueError: if an argument is out of range, or `network` does not give `(batch, features)`.
    """

    def __init__(
        self,
        network: keras.Layer,
        max_rotation: float,
        *,
        weight: float = 1.0,
        disc: bool = True,
        bins: int = 36,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(network, keras.Layer):
            raise ValueError(f"`network` must be a Keras layer. Received: network={network!r}")
        self.network = network
        self.max_rotation = as_number(max_rotation, "max_rotation")
        if not 0 < self.max_rotation < math.pi:
            raise ValueError(
                "`max_rotation` must be an angle in radians above 0 and below π. "
                f"Received: max_rotation={max_rotation}"
            )
        self.weight = as_number(weight, "weight")
        self.disc = as_flag(disc, "disc")
        self.bins = as_count(bins, "bins")
        if self.bins * self.max_rotation < math.pi:
            raise ValueError(
                f"`bins` must be at least {math.ceil(math.pi / self.max_rotation)} for this "
                f"`max_rotation`, so that one of the angles is within it. Received: bins={bins}, "
                f"max_rotation={max_rotation}"
            )
        self.data_format = as_data_format(data_format)
        self.seed = None if seed is None else as_count(seed, "seed", least=0)
        self.random = keras.random.SeedGenerator(self.seed)
        self.head = keras.layers.Dense(self.bins, dtype="float32", name="angles")
        self.angles = (2 * np.arange(self.bins) + 1 - self.bins) * (math.pi / self.bins)

    _wanted = "images alone"

    def build(self, input_shape):
        check_images(tuple(input_shape), (0.0,), self.data_format, ranks=(4,))
        shape = networks.built_for(tuple(input_shape), self.network)
        if len(shape) != 2:
            raise ValueError(
                "`network` must give features of shape (batch, features). "
                f"Received: shape={tuple(shape)} of network={self.network}"
            )
        self.head.build(shape)

    def call(self, images, training=False):
        if training:
            turns = keras.random.uniform(
                ops.shape(images)[:1], -math.pi, math.pi, "float32", self.random
            )
            copies = self._turned(images, turns)
            self.add_loss(self.weight * self._loss(self._logits(copies), turns))
        logits = self._within(self._logits(images), np.abs(self.angles))
        return rotation(ops.sum(ops.softmax(logits) * ops.cast(self.angles, "float32"), axis=-1))

    def _logits(self, images):
        return self.head(self.network(self._within_disc(images) if self.disc else images))

    def _loss(self, logits, turns):
        """Minus the mean log probability that a copy's angle is within `max_rotation` of `-turns`,
        which undoes the turn."""
        away = ops.cast(self.angles, "float32") + turns[:, None]
        away = ops.abs(ops.mod(away + math.pi, 2 * math.pi) - math.pi)
        inside = ops.logsumexp(self._within(logits, away), axis=-1)
        return ops.mean(ops.logsumexp(logits, axis=-1) - inside)

    def _within(self, logits, away):
        return ops.where(away <= self.max_rotation, logits, -1e9)

    def _turned(self, images, turns):
        size = size_of(ops.shape(images), self.data_format)
        grid = transforms.Rigid().grid(rotation(turns), size)
        return grid_sample(images, grid, fill_mode="nearest", data_format=self.data_format)

    def _within_disc(self, images):
        """Images, black outside the largest disc that stays inside the image when it is turned."""
        height, width = size_of(ops.shape(images), self.data_format)
        y, x = (2 * ops.arange(n) + 1 - n for n in (height, width))  # in halves of a pixel
        inside = y[:, None] ** 2 + x**2 <= (ops.minimum(height, width) - 2) ** 2
        axis = -1 if self.data_format == "channels_last" else 0
        return images * ops.cast(ops.expand_dims(inside, axis), images.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape[0], 3

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "max_rotation": self.max_rotation,
            "weight": self.weight,
            "disc": self.disc,
            "bins": self.bins,
            "data_format": self.data_format,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def rotation(angles):
    """The `theta` of `Rigid` that rotates by `(batch,)` angles and does not translate."""
    return ops.pad(angles[:, None], [[0, 0], [0, 2]])
