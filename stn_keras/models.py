"""Functional-API models with spatial transformers in them."""

import keras
from keras import layers

from stn_keras import localization
from stn_keras.layers import SpatialTransformer

# Of the training images, per channel (red, green, blue), with pixels in 0 … 1.
CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)


def cifar10_stn(
    transformer=True,
    *,
    image_size=32,
    classes=10,
    spatial_dropout=0.5,
    dropout=0.5,
    gradient_scale=1.0,
):
    """The published CIFAR-10 spatial transformer network; 473,120 parameters.

    Example:

    >>> model = cifar10_stn()
    >>> model.predict(np.zeros((1, 32, 32, 3), "uint8")).shape
    (1, 10)

    Args:
        transformer: Whether the images pass through a `SpatialTransformer`; without it the
            same classifier has 424,698 parameters.
        image_size: Height and width of the images, at least 18. From twice 32 pixels on the
            second poolings grow with it, which keeps the dense layers small.
        classes: How many there are.
        spatial_dropout: Rate after the classifier's second convolution.
        dropout: Rate after its dense layer of 1024.
        gradient_scale: See `SpatialTransformer`.

    Returns:
        A functional `keras.Model` from `(batch, image_size, image_size, 3)` pixels in 0 … 255 to
        `(batch, classes)` float32 logits.
    """
    images = keras.Input((image_size, image_size, 3), name="images")
    last_pool = 2 * max(1, image_size // 32)
    # Its float32 keeps the pixels exact under mixed precision until they are normalized.
    x = layers.Normalization(
        mean=[255 * m for m in CIFAR10_MEAN],
        variance=[(255 * s) ** 2 for s in CIFAR10_STD],
        dtype="float32",
        name="normalization",
    )(images)
    if transformer:
        x = SpatialTransformer(
            localization.cnn(last_pool=last_pool), gradient_scale=gradient_scale, name="transformer"
        )(x)
    x = layers.Conv2D(8, 5)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(16, 5)(x)
    x = layers.SpatialDropout2D(spatial_dropout)(x)
    x = layers.MaxPooling2D(last_pool)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1024, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="cifar10_stn" if transformer else "cifar10_cnn")
