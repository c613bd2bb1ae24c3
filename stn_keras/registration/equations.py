"""The sums over pixels from which a Gauss–Newton step is computed."""

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.registration.families import call_compiled
from stn_keras.registration.pictures import Side
from stn_keras.sampler import sample, warps

NEAR = 1e-3  # least depth of homogeneous coordinates; points below it are ignored


def slopes_of(side):
    """Pictures, their derivatives and their weights in one array, to be sampled together.

    The derivatives are with respect to normalised coordinates. The array is `(batch, *size,
    channels * (1 + axes) + 1)`.
    """
    axes = range(len(side.size), 0, -1)  # x is the last axis
    halves = [side.size[axis - 1] / 2 for axis in axes]
    slopes = [np.gradient(side.pixels, axis=axis) * half for axis, half in zip(axes, halves)]
    stacked = np.stack(slopes, axis=-1).reshape(*side.pixels.shape[:-1], -1)
    table = np.concatenate([side.pixels, stacked, eroded(side.weights)], axis=-1)
    return table.astype("float32")


def eroded(weights):
    """Weights that are also 0 next to a pixel of weight 0, because derivatives read neighbours."""
    for axis in range(1, weights.ndim - 1):
        values = np.moveaxis(weights, axis, 0)
        padded = np.concatenate([values[:1], values, values[-1:]])
        values = np.minimum(np.minimum(padded[:-2], padded[2:]), values)
        weights = np.moveaxis(values, 0, axis)
    return weights


def sums(maps, basis, moving, fixed, weights):
    """The weighted sums over pixels of the products of two columns each.

    The columns are: the derivatives of the warped pictures with respect to the elements of `maps`,
    row by row; the warped pictures; the fixed pictures; and ones. From these sums follow the loss,
    its gradient and the Gauss–Newton matrix.

    Args:
        maps: `(batch, axes, count)`, or `(batch, axes + 1, count)` for homographies; see `Family`.
        basis: `(pixels, count)`, see `Family.basis`.
        moving: The array that `slopes_of` returns.
        fixed: `(batch, *size, channels)`.
        weights: Weights of the fixed pictures, `(batch, *size, 1)`.

    Returns:
        `(batch, channels, columns, columns)`.
    """
    axes, channels, size = len(moving.shape) - 2, fixed.shape[-1], tuple(fixed.shape[1:-1])
    mapped = backend.matmul(basis[None], ops.transpose(maps, (0, 2, 1)))
    where, depth = mapped[..., :axes], mapped[..., axes:]
    if maps.shape[1] > axes:
        front = depth > NEAR
        depth = ops.where(front, depth, 1)
        where = where / depth
        weights = weights * ops.reshape(ops.cast(front, "float32"), (-1, *size, 1))
    samples, seen = look(moving, ops.reshape(where, (-1, *size, axes)))
    weights = ops.reshape(weights * seen, (-1, basis.shape[0], 1))
    samples = ops.reshape(samples, (-1, basis.shape[0], samples.shape[-1]))
    fixed = ops.reshape(fixed, (-1, basis.shape[0], channels))
    ones, products = ops.ones_like(weights), []
    for k in range(channels):
        slopes = samples[..., channels + k * axes : channels + (k + 1) * axes]
        if maps.shape[1] > axes:
            inward = -ops.sum(slopes * where, axis=-1, keepdims=True)
            slopes = ops.concatenate([slopes, inward], axis=-1) / depth
        columns = ops.reshape(
            slopes[..., :, None] * basis[None, :, None, :],
            (-1, basis.shape[0], maps.shape[1] * basis.shape[1]),
        )
        pictures = [samples[..., k : k + 1], fixed[..., k : k + 1], ones]
        table = ops.concatenate([columns, *pictures], axis=-1)
        products.append(backend.matmul(ops.transpose(table * weights, (0, 2, 1)), table))
    return ops.stack(products, axis=1)


def look(pictures, where):
    """Samples pictures, whose last channel holds weights, at normalised points.

    Returns:
        `(samples, seen)`: the samples without the last channel, and the sampled weights in 0 to 1,
        which are 0 outside the picture.
    """
    size = tuple(pictures.shape[1:-1])
    warp = warps.Grid(where, size, tuple(where.shape[1:-1]), False)
    options = {"interpolation": "bilinear", "fill_mode": "nearest"}
    samples = sample(pictures, warp, None, **options)
    halves = ops.convert_to_tensor([length / 2 for length in reversed(size)], dtype="float32")
    inside = ops.clip((1 - ops.abs(where)) * halves + 0.5, 0, 1)
    seen = samples[..., -1:] * ops.prod(inside, axis=-1, keepdims=True)
    return samples[..., :-1], seen


class Sums:
    """`sums` for the pairs at one level of the pyramid."""

    def __init__(self, moving: Side, fixed: Side, basis):
        arrays = basis, slopes_of(moving), fixed.pixels, fixed.weights
        self.tensors = [ops.convert_to_tensor(x, dtype="float32") for x in arrays]
        self.basis, self.size, self.moving_size = basis, fixed.size, moving.size
        axes = tuple(range(1, fixed.weights.ndim))
        self.total = fixed.weights.sum(axes, "float64")

    def __call__(self, maps):
        """The sums for `maps`, as a float64 NumPy array."""
        tensors = ops.convert_to_tensor(maps, dtype="float32"), *self.tensors
        return ops.convert_to_numpy(call_compiled(sums, *tensors)).astype("float64")
