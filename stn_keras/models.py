"""Functional-API models with spatial transformers in them."""

import keras
from keras import layers

from stn_keras import localization
from stn_keras.layers import SpatialTransformer

__all__ = ["cifar10_stn"]

# Of the training images, per channel (red, green, blue), with pixels in 0 … 1.
CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)


def cifar10_stn(
    transformer: bool = True,
    *,
    spatial_dropout: float = 0.5,
    dropout: float = 0.5,
    gradient_scale: float = 1.0,
) -> keras.Model:
    """The published CIFAR-10 spatial transformer network; 473,120 parameters.

    Example:

    >>> model = cifar10_stn()
    >>> model.predict(np.zeros((1, 32, 32, 3), "uint8"), verbose=0).shape
    (1, 10)

    Args:
        transformer: Whether the images pass through a `SpatialTransformer`; without it the
            same classifier has 424,698 parameters.
        spatial_dropout: Rate after the classifier's second convolution.
        dropout: Rate after its dense layer of 1024.
        gradient_scale: See `SpatialTransformer`.

    Returns:
        A functional `keras.Model` from `(batch, 32, 32, 3)` pixels in 0 … 255 to
        `(batch, 10)` float32 logits.
    """
    images = keras.Input((32, 32, 3), name="images")
    # Its float32 keeps the pixels exact under mixed precision until they are normalized.
    x = layers.Normalization(
        mean=[255 * m for m in CIFAR10_MEAN],
        variance=[(255 * s) ** 2 for s in CIFAR10_STD],
        dtype="float32",
        name="normalization",
    )(images)
    if transformer:
        x = SpatialTransformer(
            localization.cnn(), gradient_scale=gradient_scale, name="transformer"
        )(x)
    x = layers.Conv2D(8, 5)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(16, 5)(x)
    x = layers.SpatialDropout2D(spatial_dropout)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1024, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(10, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="cifar10_stn" if transformer else "cifar10_cnn")
