"""The correlation of two images in a small window around each pixel."""

import math

from keras import ops

from stn_keras import backend
from stn_keras.sampler.axes import as_float

FLAT = 1e-10  # a product of variances next to which windows count as flat


def squared_correlation(first, second, window):
    """0 to 1, of images `(batch, *size, channels)`, in that shape; 0 where one of them is flat."""
    first, second = centred(first), centred(second)
    maps = [first, second, first**2, second**2, first * second]
    sums = window_sum(ops.concatenate(maps, axis=-1), window)
    means = sums / window_sum(ops.ones_like(first[:1, ..., :1]), window)
    x, y, xx, yy, xy = ops.split(means, 5, axis=-1)
    variances = ops.relu(xx - x**2) * ops.relu(yy - y**2)
    return (xy - x * y) ** 2 / (variances + FLAT)


def centred(images):
    """Images without their mean, in units of their root mean square, both taken as constants.

    This alters no correlation; sums of squares keep more digits.
    """
    axes = tuple(range(1, images.ndim - 1))
    count = as_float(math.prod(ops.shape(images)[1:-1]), images.dtype)
    middle = ops.sum(images, axis=axes, keepdims=True) / count
    size = ops.sqrt(ops.sum(images**2, axis=axes, keepdims=True) / count)
    middle, size = ops.stop_gradient(middle), ops.stop_gradient(size)
    return (images - middle) / ops.where(size > 0, size, 1)


def window_sum(images, window):
    """Sums over the pixels in a window around each pixel, of `(batch, *size, channels)`."""

    def forward(images):
        shape = ops.shape(images)
        for axis in range(1, images.ndim - 1):
            # In two dimensions, as TensorFlow's pooling of volumes has no float64.
            rows = ops.reshape(images, (-1, shape[axis], 1, math.prod(shape[axis + 1 :])))
            rows = ops.pad(rows, [(0, 0), (window // 2, window // 2), (0, 0), (0, 0)])
            sums = window * ops.average_pool(
                rows, (window, 1), strides=1, padding="valid", data_format="channels_last"
            )
            images = ops.reshape(sums, shape)
        return images

    # Its own adjoint, and several times faster than the gradient of pooling.
    return backend.with_gradient(forward, lambda wanted, upstream, _: [forward(upstream)])(images)
