"""The three sums that do all arithmetic over pixels, differentiable any number of times.

Rows are the pixels of an image, `(batch, n, channels)`. Each tap of a sample has the index of a row
and a weight, both `(batch, *output_size, 1)`. The gradients of `gather_sum` are `scatter_sum` and
`by_weights`; those of `scatter_sum` are `gather_sum` and `by_weights`. A pixel with a weight of 0
is not read, so it may be infinite or NaN.
"""

import functools
import itertools

from keras import ops

from stn_keras import backend


def gather_sum(rows, indices, weights):
    """The sum over the taps of `weights[k]` times the rows at `indices[k]`: `(batch, *output_size,
    channels)`. Integers may have one tap, of weight 0 or 1, and stay integers."""
    return gather_sums(rows, indices, [weights])[0]


def gather_sums(rows, indices, sets):
    """`gather_sum` for several sets of weights; pixels that one set reads may count for all."""
    taps = len(indices)

    def split(tensors):
        return [tensors[k : k + taps] for k in range(0, len(tensors), taps)]

    def forward(rows, *tensors):
        indices, *sets = split(tensors)
        return backend.gather_sums(rows, indices, sets)

    def backward(upstreams, rows, *tensors):
        indices, *sets = split(tensors)
        count = backend.shape(rows)[1]
        to_rows, to_weights = [], []
        for upstream, weights in zip(upstreams, sets):
            to_rows.append(scatter_sum(upstream, indices, weights, count))
            to_weights += by_weights(upstream, rows, indices, weights)
        return functools.reduce(ops.add, to_rows), *[None] * taps, *to_weights

    return backend.with_gradient(forward, backward)(rows, *indices, *itertools.chain(*sets))


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

    return backend.with_gradient(forward, backward)(upstream, *indices, *weights)


def by_weights(upstream, rows, indices, weights):
    """The gradient of each weight: the dot product of the upstream with its pixel."""

    def pixels(rows, *indices):
        one = ops.ones_like(indices[0], dtype=upstream.dtype)
        return [gather_sum(rows, [index], [one]) for index in indices]

    dots = [ops.expand_dims(dot, -1) for dot in backend.dots(pixels, upstream, rows, *indices)]
    return list(map(readable, dots, weights))


def readable(dot, weight):
    """The dot product with a pixel, or 0 if the pixel has a weight of 0 and is infinite or NaN."""
    return ops.where(ops.logical_or(weight != 0, ops.isfinite(dot)), dot, 0)
