import functools

import tensorflow as tf


def gather(rows, indices):
    """Rows of `(batch, n, channels)` at indices `(batch, ...)` → `(batch, ..., channels)`."""
    return tf.gather_nd(rows, indices[..., None], batch_dims=1)


def compiled(function):
    """`function(*tensors, **settings)` compiled by XLA; `.__wrapped__` is the plain one.

    The call may stand inside an uncompiled model: XLA pays for a warp, where it fuses dozens of
    element-wise steps, and not for convolutions on a CPU.
    """

    @functools.cache
    def specialized(**settings):
        return _compiled(functools.partial(function, **settings))

    @functools.wraps(function)
    def call(*tensors, **settings):
        return specialized(**settings)(*tensors)

    return call


def _compiled(function):
    """The gradient of each tensor is a compiled function of its own, so that a graph computes
    only those it needs: the images' is the costliest, and nobody needs it where a model begins
    with a warp."""
    compile = functools.partial(tf.function, jit_compile=True, autograph=False)
    forward = compile(function)

    @compile
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

    return call
