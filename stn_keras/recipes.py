"""Settings with which `train.py` trains the CIFAR-10 network for the results in `results/`."""

import dataclasses
import math

import keras

from stn_keras import models
from stn_keras.training.muon import ConvMuon

__all__ = ["RECIPES", "Recipe", "one_cycle"]

STEPS_PER_EPOCH = 24  # at least, as far as SMALLEST_BATCH allows
SMALLEST_BATCH = 16


def one_cycle(peak, warmup, steps):
    """Learning rate schedule that rises linearly to `peak`, then falls to 0 along a cosine.

    Example:
        >>> schedule = one_cycle(0.02, warmup=0.2, steps=100)
        >>> [round(float(schedule(step)), 4) for step in (0, 10, 20, 60, 100)]
        [0.0, 0.01, 0.02, 0.01, 0.0]

    Args:
        peak: The highest learning rate.
        warmup: Share of the steps in which the rate rises, 0 … 1.
        steps: Number of steps of the whole training.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    rise = round(warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training with SGD or Muon, at a constant learning rate or in one cycle.

    Example:
        >>> recipe = RECIPES["tuned"]
        >>> model = recipe.model(transformer=True, classes=10)
        >>> loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        >>> model.compile(recipe.optimizer(steps=1000), loss, metrics=["accuracy"])

    Args:
        batch_size: Number of images in a batch; small data sets use fewer, see `batch_size_for`.
        peak: Highest learning rate.
        warmup: Share of the steps in which the rate rises to `peak`, before it falls to 0; with 0
            the rate is `peak` throughout.
        momentum: Nesterov momentum; 0 for plain SGD.
        muon: Whether to update the classifier's convolutions by orthogonalized steps (Muon).
        weight_decay: Decoupled weight decay, or `None`.
        gradient_scale: Factor on the gradient of the transformer's `theta`.
        spatial_dropout: Dropout rate after the classifier's second convolution.
        dropout: Dropout rate after its dense layer.
        flip: Whether to flip images horizontally with probability ½.
        crop: Largest random translation along both axes, in pixels.
    """

    batch_size: int
    peak: float
    warmup: float = 0.0
    momentum: float = 0.0
    muon: bool = False
    weight_decay: float | None = None
    gradient_scale: float = 1.0
    spatial_dropout: float = 0.0
    dropout: float = 0.0
    flip: bool = False
    crop: int = 0

    def batch_size_for(self, images):
        """The batch size for a number of training images.

        It is the recipe's batch size, halved until an epoch has 24 steps, but at least 16.
        """
        size = self.batch_size
        while size > SMALLEST_BATCH and math.ceil(images / size) < STEPS_PER_EPOCH:
            size //= 2
        return size

    def model(self, transformer=True, **settings):
        """`models.cifar10_stn` with this recipe's dropout and gradient scale."""
        return models.cifar10_stn(
            transformer,
            spatial_dropout=self.spatial_dropout,
            dropout=self.dropout,
            gradient_scale=self.gradient_scale,
            **settings,
        )

    def optimizer(self, steps):
        """The optimizer for a training of `steps` steps."""
        cycle = one_cycle(self.peak, self.warmup, steps)
        settings = {
            "learning_rate": cycle if self.warmup else self.peak,
            "momentum": self.momentum,
            "nesterov": self.momentum > 0,
            "weight_decay": self.weight_decay,
        }
        if self.muon:
            return ConvMuon(**settings, exclude_layers=["localization"])
        return keras.optimizers.SGD(**settings)


RECIPES = {
    "tuned": Recipe(
        batch_size=128,
        peak=0.02,
        warmup=0.2,
        momentum=0.9,
        muon=True,
        weight_decay=1e-4,
        gradient_scale=0.1,
        dropout=0.35,
        flip=True,
        crop=3,
    ),
    "published": Recipe(batch_size=64, peak=0.01, spatial_dropout=0.5, dropout=0.5),
}
