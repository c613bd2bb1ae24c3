"""Losses between pictures, with a weight for each pixel.

All functions take `(fixed, warped, weights)`: pictures `(batch, *size, channels)` and weights
`(batch, *size, 1)`. They return `(batch,)` and are differentiable with respect to `warped`.
"""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from stn_keras.losses.correlation import LocalCrossCorrelation, squared_correlation

TINY = 1e-6  # avoids a division by 0
BINS = 32  # of the histograms for mutual information
RANGE = 3.0  # standard deviations that the bins cover on each side of the mean


def mean(values, weights):
    """The weighted mean over pixels and channels."""
    axes = tuple(range(1, len(values.shape)))
    total = ops.sum(weights, axis=axes) * values.shape[-1]
    return ops.sum(values * weights, axis=axes) / (total + TINY)


def ecc(fixed, warped, weights):
    """1 minus the correlation, in 0 to 2."""
    axes = tuple(range(1, len(fixed.shape) - 1))
    total = ops.sum(weights, axis=axes, keepdims=True) + TINY
    fixed, warped = (
        x - ops.sum(x * weights, axis=axes, keepdims=True) / total for x in (fixed, warped)
    )
    both, first, second = (
        mean(product, weights) for product in (fixed * warped, fixed**2, warped**2)
    )
    return 1 - both / ops.sqrt(first * second + TINY**2)


def mse(fixed, warped, weights):
    """The mean squared difference."""
    return mean((fixed - warped) ** 2, weights)


@dataclasses.dataclass(frozen=True)
class LocalCorrelation:
    """Minus the mean squared correlation in windows of that side, in -1 to 0."""

    window: int = 9

    def __call__(self, fixed, warped, weights):
        return -mean(squared_correlation(fixed, warped, self.window, weights), weights)


def nmi(fixed, warped, weights):
    """Minus the normalised mutual information, in -2 to -1.

    It is the sum of both marginal entropies, divided by the joint entropy
    ([Studholme et al., 1999](https://doi.org/10.1016/S0031-3203(98)00091-0)). The weight of each
    pixel is divided linearly between the two nearest bins of the histogram.
    """
    weights = ops.reshape(weights + 0 * fixed, (fixed.shape[0], -1, 1))
    first, second = (in_bins(ops.reshape(x, (x.shape[0], -1, 1))) for x in (fixed, warped))
    joint = ops.matmul(ops.transpose(first * weights, (0, 2, 1)), second)
    joint = joint / (ops.sum(joint, axis=(1, 2), keepdims=True) + TINY)
    return -(entropy(ops.sum(joint, axis=2)) + entropy(ops.sum(joint, axis=1))) / (
        entropy(ops.reshape(joint, (-1, BINS * BINS))) + TINY
    )


def in_bins(values):
    """The weight of each value in each bin, `(batch, n, bins)`.

    Values are `(batch, n, 1)`, with mean 0 and standard deviation 1.
    """
    places = ops.clip((values / RANGE + 1) / 2, 0, 1) * (BINS - 1)
    return ops.relu(1 - ops.abs(places - ops.arange(BINS, dtype=values.dtype)))


def entropy(shares):
    return -ops.sum(shares * ops.log(shares + TINY**2), axis=-1)


@dataclasses.dataclass(frozen=True)
class FromKeras:
    """A loss of Keras, or a function with the arguments of one, computed for each pair.

    A loss with one value for a whole picture gets pictures that are 0 where the weight is 0, and is
    divided by the share of the other pixels.
    """

    loss: Callable

    def __call__(self, fixed, warped, weights):
        seen = ops.cast(weights > 0, fixed.dtype)
        function = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        values = function(fixed * seen, warped * seen)
        if tuple(values.shape) == tuple(fixed.shape[:-1]):
            return mean(values[..., None], weights)
        if tuple(values.shape) == (fixed.shape[0],):
            return values / (mean(seen, ops.ones_like(seen)) + TINY)
        raise ValueError(
            "`loss` must return a value for each pixel or each picture, of shape "
            f"{tuple(fixed.shape[:-1])} or {(fixed.shape[0],)}. Received: {tuple(values.shape)}"
        )


SIMILARITIES = {"ecc": ecc, "mse": mse, "lncc": LocalCorrelation(), "nmi": nmi}


def get(loss):
    """The function for the name of a loss, or for a loss of Keras.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(loss, str) and loss in SIMILARITIES:
        return SIMILARITIES[loss]
    if isinstance(loss, LocalCrossCorrelation):
        return LocalCorrelation(loss.window)
    if callable(loss) and not isinstance(loss, type):
        return FromKeras(loss)
    raise ValueError(
        f"`loss` must be one of {tuple(SIMILARITIES)} or a loss of Keras. Received: loss={loss!r}"
    )
