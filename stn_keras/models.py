"""Functional-API models with spatial transformers."""

import math

import keras
from keras import layers

from stn_keras import localization
from stn_keras.layers import SpatialTransformer
from stn_keras.transforms import Transform

__all__ = ["cifar10_stn", "mnist_stn"]

# Of the training images, per channel (red, green, blue), with pixels in 0 … 1.
CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)


def cifar10_stn(
    transformer: bool = True,
    *,
    image_size: int = 32,
    classes: int = 10,
    warped: str = "images",
    units: int = 1024,
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
        image_size: Height and width of the images, at least 18. From 64 pixels on, the second
            pooling windows grow with the size, which keeps the dense layers small.
        classes: Number of classes.
        warped: `"images"`, or `"features"` to warp the feature maps after the first convolution.
            The localization network sees the images in both cases.
        units: Number of units of the classifier's dense layer.
        spatial_dropout: Dropout rate after the classifier's second convolution.
        dropout: Dropout rate after the classifier's dense layer.
        gradient_scale: See `SpatialTransformer`.

    Returns:
        A functional `keras.Model` from `(batch, image_size, image_size, 3)` pixels in 0 … 255, or
        `(batch, 3, image_size, image_size)` if Keras's `image_data_format` is `"channels_first"`,
        to `(batch, classes)` float32 logits. The weights are the same in both formats.

    Raises:
        ValueError: if `warped` has another value.
    """
    if warped not in ("images", "features"):
        raise ValueError(f"`warped` must be 'images' or 'features'. Received: warped={warped!r}")
    images = square_images(image_size, channels=3)
    last_pool = 2 * max(1, image_size // 32)
    x = normalization()(images)
    theta = None
    if transformer:
        localize = localization.cnn(last_pool=last_pool)
        if warped == "images":
            x = SpatialTransformer(localize, gradient_scale=gradient_scale, name="transformer")(x)
        else:
            theta = localize(x)
    x = layers.Conv2D(8, 5)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(x)
    if theta is not None:
        x = SpatialTransformer(gradient_scale=gradient_scale, name="transformer")([x, theta])
    x = layers.Conv2D(16, 5)(x)
    x = layers.SpatialDropout2D(spatial_dropout)(x)
    x = layers.MaxPooling2D(last_pool)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(units, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="cifar10_stn" if transformer else "cifar10_cnn")


def square_images(size, channels):
    """The input of a model, in Keras's `image_data_format`."""
    first = keras.config.image_data_format() == "channels_first"
    return keras.Input((channels, size, size) if first else (size, size, channels), name="images")


def normalization():
    """Normalizes pixels in 0 … 255, under every policy in float32, in which they are exact."""
    return layers.Normalization(
        axis=1 if keras.config.image_data_format() == "channels_first" else -1,
        mean=[255 * m for m in CIFAR10_MEAN],
        variance=[(255 * s) ** 2 for s in CIFAR10_STD],
        dtype="float32",
        name="normalization",
    )


def mnist_stn(
    classifier: str = "cnn",
    transform: str | Transform | None = "affine",
    *,
    size: int = 28,
    parameters: int = 400_000,
    gradient_scale: float = 1.0,
) -> keras.Model:
    """A network of the distorted-MNIST table of [Jaderberg et al., 2015](
    https://arxiv.org/abs/1506.02025), with the same number of parameters with and without a
    transformer.

    `"fcn"` has two dense layers with equal numbers of units. `"cnn"` is conv 9×9×32 – pool – conv
    7×7×64 – pool – dense. The transformer is the first layer and uses the paper's localization
    networks. From images larger than 28×28 it samples 28×28 pixels, each the average of 2×2
    samples. The localization network of the CNN sees such images at half their size.

    Example:

    >>> model = mnist_stn("fcn", "projective")
    >>> model.predict(np.zeros((1, 28, 28, 1), "uint8"), verbose=0).shape
    (1, 10)

    Args:
        classifier: `"fcn"` or `"cnn"`.
        transform: What the transformer's `theta` means; `None` for no transformer.
        size: Height and width of the images.
        parameters: Approximate number of parameters; determines the units of the dense layers.
        gradient_scale: See `SpatialTransformer`.

    Returns:
        A functional `keras.Model` from `(batch, size, size, 1)` pixels in 0 … 255, or
        `(batch, 1, size, size)` if Keras's `image_data_format` is `"channels_first"`, to
        `(batch, 10)` float32 logits. The weights are the same in both formats.

    Raises:
        ValueError: if `classifier` is unknown, or `parameters` is too small for it.
    """
    if classifier not in ("fcn", "cnn"):
        raise ValueError(
            f"`classifier` must be 'fcn' or 'cnn'. Received: classifier={classifier!r}"
        )
    images = square_images(size, channels=1)
    x = layers.Rescaling(1 / 255, name="pixels")(images)
    if transform is not None:
        x = SpatialTransformer(
            mnist_localization(classifier, transform, size),
            transform=transform,
            output_size=(28, 28),
            antialias=2 if size > 28 else 1,
            gradient_scale=gradient_scale,
            name="transformer",
        )(x)
    if classifier == "cnn":
        x = layers.Conv2D(32, 9, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Conv2D(64, 7, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    hidden = 1 if classifier == "cnn" else 2
    left = parameters - keras.Model(images, x).count_params()
    units = dense_units(left, x.shape[1], hidden)
    for _ in range(hidden):
        x = layers.Dense(units, activation="relu")(x)
    logits = layers.Dense(10, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"mnist_{'st_' if transform else ''}{classifier}")


@keras.saving.register_keras_serializable("stn_keras")
class WarpedConv2D(layers.Conv2D):
    """`Conv2D` under the name that it has in files of earlier versions."""


def mnist_localization(classifier, transform, size):
    """Three hidden layers and the head: dense 32 each, or conv 5×5×20 – pool – conv 5×5×20 – dense
    20. Images larger than 28×28 are pooled to half their size before the convolutions."""
    if classifier == "fcn":
        body = [layers.Flatten(), *(layers.Dense(32, activation="relu") for _ in range(3))]
    else:
        body = [
            *([layers.AveragePooling2D(2)] if size > 28 else []),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(20, 5, activation="relu"),
            layers.Flatten(),
            layers.Dense(20, activation="relu"),
        ]
    return keras.Sequential([*body, localization.head(transform)], name="localization")


def dense_units(parameters, features, hidden):
    """Units of each of one or two hidden layers before ten logits, for a number of parameters."""
    linear, constant = features + hidden + 10, 10 - parameters
    if hidden == 1:
        units = round(-constant / linear)
    else:
        units = round((math.sqrt(linear**2 - 4 * constant) - linear) / 2)
    if units < 1:
        raise ValueError(f"No units are left for {parameters} parameters and {features} features.")
    return units
