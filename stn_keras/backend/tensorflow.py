import functools

import tensorflow as tf

floor = tf.floor
_jit = functools.partial(tf.function, jit_compile=True, autograph=False)


def blend(rows, indices, weights):
    """Sum of `weights[k]` times the rows of `(batch, n, channels)` at `indices[k]`.

    The gradient by hand: each scatter adds to what the others have added, where automatic
    differentiation would scatter each tap into zeros of its own and then add these up.
    """

    @tf.custom_gradient
    def blended(rows, *weights):
        def gradient(upstream):
            to_weights = [dot(upstream, gather(rows, index, upstream.dtype)) for index in indices]
            to_rows = tf.zeros_like(tf.reshape(rows, (-1, rows.shape[-1])), upstream.dtype)
            for index, weight in zip(indices, weights):
                updates = tf.reshape(weight[..., None] * upstream, (-1, rows.shape[-1]))
                to_rows = tf.tensor_scatter_nd_add(to_rows, in_batch(index, rows), updates)
            return tf.cast(tf.reshape(to_rows, tf.shape(rows)), rows.dtype), *to_weights

        taps = zip(indices, weights)
        samples = sum(w[..., None] * gather(rows, index, w.dtype) for index, w in taps)
        return samples, gradient

    return blended(rows, *weights)


def gather(rows, indices, dtype):
    return tf.cast(tf.gather_nd(rows, indices[..., None], batch_dims=1), dtype)


def dot(left, right):
    """Products summed over channels."""
    channels = left.shape[-1]
    if channels < 48:
        return tf.reduce_sum(left * right, axis=-1)
    # On a CPU XLA sums the last axis number by number, and would do so once for x and once for y.
    return tf.squeeze(tf.matmul(left * right, tf.ones((channels, 1), left.dtype)), -1)


def in_batch(indices, rows):
    """Indices `(batch, ...)` of rows within their image → `(n, 1)` within the whole batch."""
    batch, count = tf.unstack(tf.shape(rows)[:2])
    first = tf.reshape(tf.range(batch) * count, [-1] + [1] * (len(indices.shape) - 1))
    return tf.reshape(indices + first, (-1, 1))


def compile(function):
    """`function(*tensors)` compiled by XLA, also inside an uncompiled model.

    XLA pays for a warp, where it fuses dozens of element-wise steps, and not for convolutions on
    a CPU. The gradient of each tensor is a compiled function of its own, so that a graph computes
    only those it needs: the images' is the costliest, and nobody needs it where a model begins
    with a warp.
    """
    forward = _jit(function)

    @_jit
    def gradient(index, tensors, upstream):
        with tf.GradientTape() as tape:
            tape.watch(tensors[index])
            output = function(*tensors)
        return tape.gradient(output, tensors[index], upstream, tf.UnconnectedGradients.ZERO)

    @tf.custom_gradient
    def call(*tensors):
        def gradients(upstream):
            return [gradient(index, tensors, upstream) for index in range(len(tensors))]

        return forward(*tensors), gradients

    # A variable would have to be given its gradient apart.
    return lambda *tensors: call(*map(tf.convert_to_tensor, tensors))
