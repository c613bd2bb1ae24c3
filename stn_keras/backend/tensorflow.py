import functools

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from stn_keras.dots import dots

floor = tf.floor
_jit = functools.partial(tf.function, jit_compile=True, autograph=False)


def blend(rows, neighbours, coordinates, to_rows=None):
    """`mix` of the rows and weights that `neighbours(*coordinates)` gives.

    Differentiated by hand. A coordinate's gradient is the mix by its weights' slopes, times the
    upstream. That of the rows is `to_rows(upstream, scatter)` where that is given; `scatter` adds
    each tap to what the others have added, where automatic differentiation would scatter it into
    zeros of its own.
    """

    @tf.custom_gradient
    def blended(*inputs):
        def scatter(upstream):
            rows, *coordinates = inputs
            total = tf.zeros_like(tf.reshape(rows, (-1, rows.shape[-1])), upstream.dtype)
            for index, weight in zip(*neighbours(*coordinates)):
                updates = tf.reshape(weight[..., None] * upstream, (-1, rows.shape[-1]))
                total = tf.tensor_scatter_nd_add(total, in_batch(index, rows), updates)
            return tf.reshape(total, tf.shape(rows))

        def gradient(upstream):
            # Without the barrier XLA would share the pixels with the forward pass, and for that
            # write them down.
            upstream, rows, *coordinates = apart([upstream, *inputs])
            indices, _ = neighbours(*coordinates)
            weights = slopes(neighbours, coordinates)
            wide = functools.partial(gather, dtype=upstream.dtype)
            found = dots(upstream, rows, indices, weights, mix=mix, gather=wide, sums=sums)
            total = scatter(upstream) if to_rows is None else to_rows(upstream, scatter)
            return tf.cast(total, rows.dtype), *(
                tf.cast(dot, coordinate.dtype) for dot, coordinate in zip(found, coordinates)
            )

        rows, *coordinates = inputs
        return mix(rows, *neighbours(*coordinates)), gradient

    return blended(rows, *coordinates)


def mix(rows, indices, weights):
    """Sum of `weights[k]` times the rows of `(batch, n, channels)` at `indices[k]`."""
    taps = zip(indices, weights)
    return sum(weight[..., None] * gather(rows, index, weight.dtype) for index, weight in taps)


def slopes(neighbours, coordinates):
    """The derivative of each weight of `neighbours` by each coordinate: a list per coordinate."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(coordinates)
        _, weights = neighbours(*coordinates)
    none = tf.UnconnectedGradients.ZERO
    by_weight = [tape.gradient(weight, coordinates, None, none) for weight in weights]
    return [
        [tf.cast(slope, weights[0].dtype) for slope in by_coordinate]
        for by_coordinate in zip(*by_weight)
    ]


def gather(rows, indices, dtype):
    return tf.cast(tf.gather_nd(rows, indices[..., None], batch_dims=1), dtype)


@_jit
@tf.custom_gradient
def apart(tensors):
    """The same tensors, behind XLA's optimization barrier."""
    return xla.optimization_barrier(*tensors), lambda *upstream: upstream


@_jit
@tf.custom_gradient
def sums(tensors):
    """Sums of equally many tensors over their channels, in one pass over what they share.

    XLA would make as many passes of as many `reduce_sum`s.
    """
    zero = tf.zeros((), tensors[0].dtype)
    add = tf.function(lambda *pairs: [x + y for x, y in zip(pairs, pairs[len(tensors) :])])
    totals = xla.variadic_reduce(
        tensors,
        [zero] * len(tensors),
        dimensions_to_reduce=[len(tensors[0].shape) - 1],
        reducer=add.get_concrete_function(*[zero] * (2 * len(tensors))),
    )

    def gradient(*upstream):
        return [tf.broadcast_to(u[..., None], tf.shape(t)) for u, t in zip(upstream, tensors)]

    return totals, gradient


def in_batch(indices, rows):
    """Indices `(batch, ...)` of rows within their image → `(n, 1)` within the whole batch."""
    batch, count = tf.unstack(tf.shape(rows)[:2])
    first = tf.reshape(tf.range(batch) * count, [-1] + [1] * (len(indices.shape) - 1))
    return tf.reshape(indices + first, (-1, 1))


def convolve(images, kernel):
    """Convolution without padding; on a CPU the gradient of images of few channels is cheap."""
    # A variable would have to be given its gradient apart.
    return convolved(images, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def convolved(images, kernel):
    def gradient(upstream):
        by_kernel = tf.compat.v1.nn.conv2d_backprop_filter(
            images, kernel.shape, upstream, [1, 1, 1, 1], "VALID"
        )
        return in_blocks(upstream, kernel), by_kernel

    return tf.nn.conv2d(images, kernel, 1, "VALID"), gradient


def in_blocks(upstream, kernel):
    """The gradient that `upstream` of a convolution sends to its images.

    oneDNN would pad the images' channels to 16. Here a convolution has blocks of 4×4 pixels as
    channels: a pixel's gradient is the upstream around it times the mirrored kernel, so that one
    position serves a block, with the kernel moved to the place of each pixel in it.
    """
    side = 4
    mirrored = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
    moved = [
        tf.pad(mirrored, ((row, side - 1 - row), (column, side - 1 - column), (0, 0), (0, 0)))
        for row in range(side)
        for column in range(side)
    ]
    by_place = tf.stack(moved, axis=3)
    by_place = tf.reshape(by_place, (*by_place.shape[:3], -1))
    rows, columns = (length - 1 for length in kernel.shape[:2])
    around = tf.pad(upstream, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    return tf.nn.depth_to_space(tf.nn.conv2d(around, by_place, side, "VALID"), side)


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
