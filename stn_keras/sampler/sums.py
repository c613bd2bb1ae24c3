"""The three sums that are all the arithmetic over pixels, differentiable any number of times.

Rows are the pixels of an image, `(batch, n, channels)`. Each tap of a sample has an index of a row
and a weight, `(batch, *output_size)` both. The gradients of each sum are the other two. A pixel of
weight 0 is not read: it may be infinite or NaN.
"""

from keras import ops

from stn_keras import backend


def gather_sum(rows, indices, weights):
    """The sum over the taps of `weights[k]` times the rows at `indices[k]`: `(batch, *output_size,
    channels)`. Integers may have one tap, of weight 0 or 1, and stay integers."""
    indices, weights = list(indices), list(weights)
    taps = len(indices)

    def forward(rows, *tensors):
        return backend.gather_sum(rows, tensors[:taps], tensors[taps:])

    def backward(upstream, rows, *tensors):
        indices, weights = tensors[:taps], tensors[taps:]
        to_rows = scatter_sum(upstream, indices, weights, backend.shape(rows)[1])
        to_weights = map(readable, unstacked(gather_dot(upstream, rows, indices)), weights)
        return to_rows, *[None] * taps, *to_weights

    return backend.with_gradient(forward, backward)(rows, *indices, *weights)


def scatter_sum(upstream, indices, weights, count):
    """Adds `weights[k]` times the upstream to the rows at `indices[k]`: `(batch, count,
    channels)`."""
    taps = len(indices)

    def forward(upstream, *tensors):
        return backend.scatter_sum(upstream, tensors[:taps], tensors[taps:], count)

    def backward(rows, upstream, *tensors):
        indices, weights = tensors[:taps], tensors[taps:]
        to_upstream = gather_sum(rows, indices, weights)
        to_weights = map(readable, unstacked(gather_dot(upstream, rows, indices)), weights)
        return to_upstream, *[None] * taps, *to_weights

    return backend.with_gradient(forward, backward)(upstream, *indices, *weights)


def gather_dot(upstream, rows, indices):
    """The dot products over channels of the upstream and the rows at `indices[k]`: `(batch,
    *output_size, taps)`."""

    def forward(upstream, rows, *indices):
        return backend.gather_dot(upstream, rows, indices)

    def backward(weights, upstream, rows, *indices):
        weights = unstacked(weights)
        to_rows = scatter_sum(upstream, indices, weights, backend.shape(rows)[1])
        return gather_sum(rows, indices, weights), to_rows, *[None] * len(indices)

    return backend.with_gradient(forward, backward)(upstream, rows, *indices)


def readable(dot, weight):
    """A dot product with a pixel; 0 where the pixel has no weight and may be infinite or NaN."""
    return ops.where(ops.logical_or(weight != 0, ops.isfinite(dot)), dot, 0)


def unstacked(dots):
    """The product with each tap."""
    return [dots[..., k] for k in range(dots.shape[-1])]
