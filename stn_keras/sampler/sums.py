"""The three sums that do all arithmetic over pixels, differentiable any number of times.

Rows are the pixels of an image, `(batch, n, channels)`. Each tap of a sample has an index of a row
and a weight, `(batch, *output_size, 1)` both. The gradients of each sum are made of the three. A
pixel of weight 0 is not read: it may be infinite or NaN.
"""

import functools
import operator

from keras import ops

from stn_keras import backend


def gather_sum(rows, indices, weights):
    """The sum over the taps of `weights[k]` times the rows at `indices[k]`: `(batch, *output_size,
    channels)`. Integers may have one tap, of weight 0 or 1, and stay integers."""
    taps = len(indices)

    def forward(rows, *tensors):
        return backend.gather_sum(rows, tensors[:taps], tensors[taps:])

    def backward(upstream, rows, *tensors):
        indices, weights = tensors[:taps], tensors[taps:]
        to_rows = scatter_sum(upstream, indices, weights, backend.shape(rows)[1])
        return to_rows, *[None] * taps, *by_weights(upstream, rows, indices, weights)

    return backend.with_gradient(forward, backward, rows, *indices, *weights)


def scatter_sum(upstream, indices, weights, count):
    """Adds `weights[k]` times the upstream to the rows at `indices[k]`: `(batch, count,
    channels)`."""
    taps = len(indices)

    def forward(upstream, *tensors):
        return backend.scatter_sum(upstream, tensors[:taps], tensors[taps:], count)

    def backward(rows, upstream, *tensors):
        indices, weights = tensors[:taps], tensors[taps:]
        to_upstream = gather_sum(rows, indices, weights)
        return to_upstream, *[None] * taps, *by_weights(upstream, rows, indices, weights)

    return backend.with_gradient(forward, backward, upstream, *indices, *weights)


def gather_dots(upstream, rows, indices, sets):
    """For each of several sets of weights the dot product over channels of the upstream with
    `gather_sum`: a list of `(batch, *output_size, 1)`. What one set reads, all may read."""
    taps = len(indices)

    def split(tensors):
        indices, *sets = (tensors[k : k + taps] for k in range(0, len(tensors), taps))
        return indices, sets

    def forward(upstream, rows, *tensors):
        return backend.gather_dots(upstream, rows, *split(tensors))

    def backward(factors, upstream, rows, *tensors):
        indices, sets = split(tensors)
        scaled = [[factor * weight for weight in set] for factor, set in zip(factors, sets)]
        weights = [functools.reduce(operator.add, of_tap) for of_tap in zip(*scaled)]
        to_upstream = gather_sum(rows, indices, weights)
        to_rows = scatter_sum(upstream, indices, weights, backend.shape(rows)[1])
        dots = by_weights(upstream, rows, indices, weights)
        to_sets = [factor * dot for factor in factors for dot in dots]
        return to_upstream, to_rows, *[None] * taps, *to_sets

    tensors = [tensor for tensors in (indices, *sets) for tensor in tensors]
    return backend.with_gradient(forward, backward, upstream, rows, *tensors)


def by_weights(upstream, rows, indices, weights):
    """The gradient of each weight: the dot product of the upstream with its pixel."""
    dots = []
    for index, weight in zip(indices, weights):
        one = ops.ones_like(weight)
        (dot,) = gather_dots(upstream, rows, [index], [[one]])
        # Not that of a pixel that has a weight of 0 and is infinite or NaN.
        dots.append(ops.where(ops.logical_or(weight != 0, ops.isfinite(dot)), dot, 0))
    return dots
