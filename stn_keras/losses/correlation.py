"""How alike two images are: their correlation in a small window around each pixel."""

import math

import keras
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_count
from stn_keras.checks.images import check_images, to_channels_last
from stn_keras.losses.base import ImageLoss, between
from stn_keras.sampler.axes import as_float, mean_over_points

FLAT = 1e-10  # windows with a smaller product of variances count as flat
ROUNDING = 1e-12  # of a squared mean: float32 cannot tell a smaller variance from 0
TINY = 1e-6  # avoids a division by 0 in windows without weight


@keras.saving.register_keras_serializable("stn_keras")
class LocalCrossCorrelation(ImageLoss):
    """How unlike two images are: minus the mean of the squared correlation in small windows.

    The loss of [VoxelMorph](https://doi.org/10.1109/TMI.2019.2897538), for images of the same kind
    whose brightness or contrast differ. For each pixel it takes the squared correlation, 0 to 1, of
    both images in a window around the pixel; at an edge, in the part of the window inside the
    image. A window whose standard deviations are less than about 0.3 % of the images' root mean
    squares counts as flat, with a correlation of 0.

    Example:

    >>> fixed = np.random.rand(1, 32, 32, 1)
    >>> loss = LocalCrossCorrelation()
    >>> float(loss(fixed, 1 - fixed / 2)) == pytest.approx(-1, abs=1e-4)
    True

    Args:
        window: Side of the window in pixels, odd.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        reduction: As in Keras's losses.
        name: Name of the loss.
        dtype: Dtype of the computation; float32 by default, under every dtype policy.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or volumes `(batch, depth, height, width,
            channels)`.
        y_pred: Warped images of that shape.

    Raises:
        ValueError: if `window` is not a positive odd integer, or images have a wrong rank or shape.
    """

    def __init__(
        self,
        window: int = 9,
        *,
        data_format: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "local_cross_correlation",
        dtype=None,
    ):
        super().__init__(data_format, reduction, name, dtype)
        self.window = as_count(window, "window")
        if self.window % 2 == 0:
            raise ValueError(f"`window` must be odd. Received: window={window!r}")

    def call(self, y_true, y_pred):
        for name, images in {"y_true": y_true, "y_pred": y_pred}.items():
            check_images(tuple(images.shape), (0.0,), self.data_format, name=name)
        batch = {y_true.shape[0], y_pred.shape[0]} - {None}
        if len(batch) > 1 or tuple(y_true.shape[1:]) != tuple(y_pred.shape[1:]):
            raise ValueError(
                "`y_true` and `y_pred` must have the same shape. Received: "
                f"y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        if 0 in tuple(y_true.shape[1:]):
            raise ValueError(
                "`y_true` and `y_pred` must have at least one channel. "
                f"Received: y_true.shape={tuple(y_true.shape)}"
            )
        y_true = to_channels_last(y_true, self.data_format)
        y_pred = to_channels_last(y_pred, self.data_format)
        return -mean_over_points(squared_correlation(y_true, y_pred, self.window))

    def get_config(self):
        return {**super().get_config(), "window": self.window}


def squared_correlation(first, second, window, weights=None):
    """0 to 1, of images `(batch, *size, channels)`, in that shape; 0 where one of them is flat.

    Each pixel of a window counts by its weight, `(batch, *size, 1)`; by default all count equally.
    """
    weights = ops.ones_like(first[:1, ..., :1]) if weights is None else weights

    def backward(upstream, x, y, weights):
        # The derivatives of E[xy] - E[x] E[y] and its like: sums, which lose no digits.
        count = ops.maximum(window_sum(weights, window), TINY)
        to_x, to_y, to_xx, to_yy, to_xy = (gradient / count for gradient in upstream)
        mean_x, mean_y = (window_sum(weights * images, window) / count for images in (x, y))
        to_x, to_y = (
            to_x - 2 * to_xx * mean_x - to_xy * mean_y,
            to_y - 2 * to_yy * mean_y - to_xy * mean_x,
        )
        of_x, of_y, of_xx, of_yy, of_xy = (
            window_sum(gradient, window) for gradient in (to_x, to_y, to_xx, to_yy, to_xy)
        )
        to_x, to_y = of_x + 2 * of_xx * x + of_xy * y, of_y + 2 * of_yy * y + of_xy * x
        return [weights * to_x, weights * to_y, None]

    x, y, xx, yy, xy = backend.with_gradient(
        lambda x, y, weights: moments_of(x, y, weights, window),
        backward,
        scaled(first),
        scaled(second),
        weights,
    )
    return xy**2 / ((xx + ROUNDING * x**2) * (yy + ROUNDING * y**2) + FLAT)


def window_sum(images, window):
    """The sum over a window around each pixel, as far as it is inside the image."""
    shape = ops.shape(images)
    for axis in range(1, len(shape) - 1):
        # In two dimensions, because TensorFlow's pooling of volumes has no float64.
        rows = ops.reshape(images, (-1, shape[axis], 1, math.prod(shape[axis + 1 :])))
        rows = ops.pad(rows, [(0, 0), (window // 2, window // 2), (0, 0), (0, 0)])
        means = ops.average_pool(rows, (window, 1), 1, "valid", data_format="channels_last")
        images = ops.reshape(window * means, shape)
    return images


def moments_of(x, y, weights, window):
    """The means of both, their variances and their covariance in a window around each pixel."""
    moments = [weights, x, y, *3 * [ops.zeros_like(x)]]
    for axis in range(1, len(x.shape) - 1):
        moments = in_windows(moments, window, axis)
    count, x, y, *sums = moments
    return [x, y, *(total / ops.maximum(count, TINY) for total in sums)]


def scaled(images):
    """Images without their mean, in units of their root mean square, both taken as constants.

    This alters no correlation, and gives `FLAT` the same meaning for all images.
    """
    axes = tuple(range(1, len(images.shape) - 1))
    count = as_float(math.prod(ops.shape(images)[1:-1]), images.dtype)
    middle = ops.sum(images, axis=axes, keepdims=True) / count
    size = ops.sqrt(ops.sum(images**2, axis=axes, keepdims=True) / count)
    middle, size = ops.stop_gradient(middle), ops.stop_gradient(size)
    return (images - middle) / ops.where(size > 0, size, 1)


def in_windows(moments, window, axis):
    """The moments in a window around each pixel along an axis, from the moments of the pixels.

    Moments are a count, two means, and the sums of squares and products of the deviations from
    these means, in the part of a window inside the image. They are merged from the moments of
    shorter windows. If an image is bright and flat, the difference of its mean square and its
    squared mean would have no digits left.
    """
    edges = [(0, 0)] * len(moments[0].shape)
    edges[axis] = (window // 2, window // 2)
    single = merged = [ops.pad(values, edges) for values in moments]
    length = 1
    for bit in f"{window:b}"[1:]:
        merged = merge(merged, merged, length, axis)
        length *= 2
        if bit == "1":
            merged = merge(merged, single, length, axis)
            length += 1
    return merged


def merge(windows, others, length, axis):
    """The moments of windows of that length, joined with the windows that begin where they end.

    By the pairwise formulas of Chan, Golub & LeVeque, 1979.
    """
    others = [between(values, axis, length, None) for values in others]
    windows = [between(values, axis, None, ops.shape(others[0])[axis]) for values in windows]
    (first, x, y, *sums), (second, other_x, other_y, *other_sums) = windows, others
    count = first + second
    share = second / ops.maximum(count, TINY)
    dx, dy = other_x - x, other_y - y
    weight = first * share
    across = [weight * dx * dx, weight * dy * dy, weight * dx * dy]
    sums = [a + b + c for a, b, c in zip(sums, other_sums, across)]
    return [count, x + share * dx, y + share * dy, *sums]
