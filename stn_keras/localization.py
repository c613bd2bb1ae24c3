"""Networks that regress `theta` from images, starting at the identity."""

import keras
import numpy as np
from keras import layers

from stn_keras import transforms

__all__ = ["Identity", "cnn", "head"]


@keras.saving.register_keras_serializable("stn_keras")
class Identity(keras.initializers.Initializer):
    """Bias initializer: the parameters of a transform that does nothing.

    Example:

    >>> np.array(Identity("similarity")(shape=(4,)))  # angle, scale, x, y
    array([0., 1., 0., 0.], dtype=float32)

    Args:
        transform: A name or an instance of `stn_keras.transforms`.

    Raises:
        ValueError: if `transform` is none of these.
    """

    def __init__(self, transform="affine"):
        self.transform = transforms.get(transform)

    def __call__(self, shape, dtype=None):
        return keras.ops.reshape(keras.ops.cast(self.transform.identity, dtype or "float32"), shape)

    def get_config(self):
        return {"transform": keras.saving.serialize_keras_object(self.transform)}


def head(transform="affine", start=None, activity_regularizer=None, name="theta"):
    """The last layer of a localization network: `(batch, features)` → `theta`.

    A zero kernel and the identity as bias, so training starts from images left alone. It
    computes in float32 under every dtype policy.

    Example:

    >>> theta = head("attention", start=(0.5, -0.5, -0.5))  # begins with the upper left quarter
    >>> np.array(theta(np.zeros((1, 64), "float32")))
    array([[ 0.5, -0.5, -0.5]], dtype=float32)

    Args:
        transform: A name or an instance of `stn_keras.transforms`.
        start: The parameters to start from, where not the identity: several transformers that
            look at the same images start at different places.
        activity_regularizer: A penalty on `theta`, such as those of `stn_keras.regularizers`.
        name: Name of the layer; several heads in one functional model need different ones.

    Returns:
        A `keras.layers.Dense`, `(batch, features)` → `(batch, num_parameters)`, float32.

    Raises:
        ValueError: if `transform` is none, or `start` does not have its number of parameters.
    """
    transform = transforms.get(transform)
    if start is not None and as_array(start).shape != (transform.num_parameters,):
        raise ValueError(
            f"`start` must be {transform.num_parameters} numbers for transform={transform}. "
            f"Received: start={start}"
        )
    bias = Identity(transform) if start is None else keras.initializers.Constant(list(start))
    return layers.Dense(
        transform.num_parameters,
        kernel_initializer="zeros",
        bias_initializer=bias,
        activity_regularizer=activity_regularizer,
        dtype="float32",
        name=name,
    )


def as_array(numbers):
    """An array of floats, empty where `numbers` are none."""
    try:
        return np.asarray(numbers, float)
    except (ValueError, TypeError):
        return np.empty(0)


def cnn(
    transform="affine",
    start=None,
    activity_regularizer=None,
    *,
    last_pool=2,
    data_format=None,
    name="localization",
):
    """The localization network of the published CIFAR-10 model; 48,422 weights on 32×32×3.

    Conv 7×7×16 – pool – ReLU – conv 5×5×32 – pool – ReLU – dense 64 ReLU – `theta`.

    Example:

    >>> layer = stn_keras.SpatialTransformer(cnn())
    >>> layer.theta(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 6)
    True

    Args:
        transform: A name or an instance of `stn_keras.transforms`.
        start: See `head`.
        activity_regularizer: See `head`.
        last_pool: Side of the second pooling. More than 2 keeps the dense layer small on larger
            images.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting. The
            weights are the same in both.
        name: Name of the model.

    Returns:
        A `keras.Sequential`, `(batch, height, width, channels)` (`data_format` permitting) →
        `(batch, num_parameters)`; images of 18×18 at least.

    Raises:
        ValueError: as `head` does, or if there is no such `data_format`.
    """
    return keras.Sequential(
        [
            layers.Conv2D(16, 7, data_format=data_format),
            layers.MaxPooling2D(2, data_format=data_format),
            layers.ReLU(),
            layers.Conv2D(32, 5, data_format=data_format),
            layers.MaxPooling2D(last_pool, data_format=data_format),
            layers.ReLU(),
            layers.Flatten(data_format=data_format),
            layers.Dense(64, activation="relu"),
            head(transform, start, activity_regularizer),
        ],
        name=name,
    )
