"""Networks that regress `theta` from images, starting at the identity."""

import keras
from keras import layers, ops

from stn_keras import backend, transforms
from stn_keras.checks.arguments import as_array, as_count

__all__ = ["Identity", "cnn", "head"]


@keras.saving.register_keras_serializable("stn_keras")
class Identity(keras.initializers.Initializer):
    """Bias initializer that returns the parameters of a transform's identity.

    Example:

    >>> np.array(Identity("similarity")(shape=(4,)))  # angle, scale, x, y
    array([0., 1., 0., 0.], dtype=float32)

    Args:
        transform: A name or an instance of `stn_keras.transforms`.

    Raises:
        ValueError: if `transform` is not a transform.
    """

    def __init__(self, transform="affine"):
        self.transform = transforms.get(transform)

    def __call__(self, shape, dtype=None):
        return keras.ops.reshape(keras.ops.cast(self.transform.identity, dtype or "float32"), shape)

    def get_config(self):
        return {"transform": keras.saving.serialize_keras_object(self.transform)}


@keras.saving.register_keras_serializable("stn_keras")
class Head(layers.Dense):
    """The dense layer that `head` returns, which limits the sum of its features' absolute values.

    A step of Adam changes `theta` by up to the learning rate times this sum. With pixels in 0 … 1
    it is below 64 in most networks. With pixels in 0 … 255 it is in the thousands, and without this
    limit the first steps would move every sample out of the image.
    """

    limit = 64.0

    def call(self, inputs):
        total = ops.sum(ops.abs(inputs), axis=-1, keepdims=True)
        features = inputs * (self.limit / ops.maximum(total, self.limit))
        # Not as `Dense` multiplies: `torch.autocast` would round `theta` to half precision.
        return backend.matmul(features, ops.convert_to_tensor(self.kernel)) + self.bias


@keras.saving.register_keras_serializable("stn_keras")
class CNN(keras.Sequential):
    """The model that `cnn` returns; its error message says what images it needs."""

    def build(self, input_shape=None):
        try:
            super().build(input_shape)
        except (ValueError, TypeError) as error:
            raise ValueError(
                "`localization.cnn` needs a batch of images of a known size, at least 18×18, in "
                f"its `data_format`. Received: input_shape={input_shape}"
            ) from error


def head(transform="affine", start=None, activity_regularizer=None, name="theta"):
    """The last layer of a localization network: `(batch, features)` → `theta`.

    Its kernel is zero and its bias is the identity, so training starts with unchanged images. It
    computes in float32 under every dtype policy except `"float64"`, and Keras's `quantize` skips
    it. Features whose absolute values sum to more than 64 are scaled down to 64. With pixels in
    0 … 255, the first steps of Adam would otherwise move every sample out of the image.

    Example:

    >>> theta = head("attention", start=(0.5, -0.5, -0.5))  # begins with the upper left quarter
    >>> np.array(theta(np.zeros((1, 64), "float32")))
    array([[ 0.5, -0.5, -0.5]], dtype=float32)

    Args:
        transform: A name or an instance of `stn_keras.transforms`.
        start: Initial parameters; `None` for the identity. Several transformers of the same images
            need different ones.
        activity_regularizer: A penalty on `theta`, such as those of `stn_keras.regularizers`.
        name: Name of the layer. Several heads in one functional model need different names.

    Returns:
        A subclass of `keras.layers.Dense`, `(batch, features)` → `(batch, num_parameters)`.

    Raises:
        ValueError: if `transform` is not a transform, or `start` has another number of parameters.
    """
    transform = transforms.get(transform)
    if start is not None and as_array(start).shape != (transform.num_parameters,):
        raise ValueError(
            f"`start` must be {transform.num_parameters} numbers for transform={transform}. "
            f"Received: start={start}"
        )
    bias = Identity(transform) if start is None else keras.initializers.Constant(list(start))
    return Head(
        transform.num_parameters,
        kernel_initializer="zeros",
        bias_initializer=bias,
        activity_regularizer=activity_regularizer,
        dtype="float64" if keras.config.dtype_policy().name == "float64" else "float32",
        name=name,
    )


def cnn(
    transform="affine",
    start=None,
    activity_regularizer=None,
    *,
    last_pool=2,
    data_format=None,
    name="localization",
):
    """The localization network of the published CIFAR-10 model; 48,422 parameters on 32×32×3.

    Conv 7×7×16 – pool – ReLU – conv 5×5×32 – pool – ReLU – dense 64 ReLU – `theta`.

    Example:

    >>> layer = stn_keras.SpatialTransformer(cnn())
    >>> layer.theta(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 6)
    True

    Args:
        transform: A name or an instance of `stn_keras.transforms`.
        start: See `head`.
        activity_regularizer: See `head`.
        last_pool: Size of the second pooling window. A larger one keeps the dense layer small on
            large images.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting. The
            weights are the same in both.
        name: Name of the model.

    Returns:
        A `keras.Sequential` from images of at least 18×18, `(batch, height, width, channels)` or
        `(batch, channels, height, width)` according to `data_format`, to `(batch, num_parameters)`.

    Raises:
        ValueError: as for `head`, or if `data_format` is unknown or `last_pool` not positive.
    """
    body = [
        layers.Conv2D(16, 7, data_format=data_format),
        layers.MaxPooling2D(2, data_format=data_format),
        layers.ReLU(),
        layers.Conv2D(32, 5, data_format=data_format),
        layers.MaxPooling2D(as_count(last_pool, "last_pool"), data_format=data_format),
        layers.ReLU(),
        layers.Flatten(data_format=data_format),
        layers.Dense(64, activation="relu"),
        head(transform, start, activity_regularizer),
    ]
    return CNN(body, name=name)
