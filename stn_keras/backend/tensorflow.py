"""TensorFlow: `tf.gather_nd`, and what XLA compiles better in other words."""

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from stn_keras.backend.tensorflow_tracing import compile as compile
from stn_keras.backend.tensorflow_tracing import is_fused, on_tape
from stn_keras.backend.tensorflow_tracing import is_unread as is_unread

floor = tf.floor


def has_native(*args, **options):
    return False


affine_grid = native = is_never = None


def magnitudes(tensor):
    return None


def with_gradient(forward, backward):
    """`forward(*tensors)`, whose gradients are `backward(wanted, upstream, *tensors)`.

    That gives one per tensor, or None for those that are not `wanted`, a list of booleans.
    """

    @tf.custom_gradient
    def function(*tensors):
        wanted = on_tape(tensors)

        def gradients(upstream):
            # Without the barrier XLA would share pixels with the forward pass and write them down.
            inputs = barrier([upstream, *tensors]) if is_fused() else (upstream, *tensors)
            return [
                tf.cast(gradient, tensor.dtype) if gradient is not None else None
                for gradient, tensor in zip(backward(wanted, *inputs), tensors, strict=True)
            ]

        return forward(*map(tf.stop_gradient, tensors)), gradients

    return function


@tf.custom_gradient
def barrier(tensors):
    """The same tensors, behind XLA's optimization barrier."""
    return xla.optimization_barrier(*tensors), lambda *upstream: upstream


def shape(tensor):
    """The lengths of all axes: tensors of those that are open, cut from one."""
    known = tensor.shape.as_list()
    if None not in known:
        return tuple(known)
    found = tf.unstack(tf.shape(tensor))
    return tuple(found[k] if length is None else length for k, length in enumerate(known))


def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ...)` indices."""
    flat = tf.reshape(rows, (-1, rows.shape[-1]))
    indices = in_batch(indices, tf.shape(rows)[1])
    return [tf.gather_nd(flat, tf.expand_dims(index, -1)) for index in indices]


def weigh(samples, weight):
    """The samples times their weight, and 0 where it is 0, even for NaN."""
    factor = tf.expand_dims(weight, -1)
    # Not `multiply_no_nan`: its derivative by a weight of 0 is the sample, even NaN.
    return factor * (keep(samples, weight) if is_fused() else tf.where(factor != 0, samples, 0))


@tf.custom_gradient
def keep(samples, weight):
    """The samples where their weight is not 0, and 0 where it is, even for NaN."""
    # A mask of bits: LLVM would turn a choice into a branch, and no longer vectorize.
    integer = {4: tf.int32, 8: tf.int64}[samples.dtype.size]
    mask = -tf.cast(tf.minimum(tf.math.ceil(tf.abs(weight)), 1), integer)
    bits = tf.bitwise.bitwise_and(tf.bitcast(samples, integer), tf.expand_dims(mask, -1))

    def gradient(upstream):
        return tf.where(tf.expand_dims(weight != 0, -1), upstream, 0), None

    return tf.bitcast(bits, samples.dtype), gradient


def in_batch(indices, count):
    """Indices of rows within their image → within the whole batch."""
    first = tf.range(tf.shape(indices[0])[0]) * count
    first = tf.reshape(first, [-1] + [1] * (indices[0].shape.rank - 1))
    return [index + first for index in indices]


def scatter(upstream, indices, weights, count):
    """Adds `weights[k] * upstream` to the rows at `indices[k]`: `(batch, count, channels)`."""
    channels = upstream.shape[-1]
    samples = tf.reshape(upstream, (-1, channels))
    indices = [tf.reshape(index, (-1, 1)) for index in in_batch(indices, count)]
    weights = [tf.reshape(weight, (-1, 1)) for weight in weights]
    total = tf.zeros((tf.shape(upstream)[0] * count, channels), upstream.dtype)
    for index, weight in zip(indices, weights):
        share = tf.math.multiply_no_nan(samples, weight)
        total = tf.tensor_scatter_nd_add(total, index, share)
    return tf.reshape(total, (-1, count, channels))


def channel_sums(tensors):
    """Sums of equally many tensors over their channels."""
    if tensors[0].shape[-1] == 1:
        sums = [tf.squeeze(tensor, -1) for tensor in tensors]
        # Written down: XLA would gather the pixels again for each coordinate.
        return barrier(sums) if is_fused() else sums
    return fused_sums(tensors) if is_fused() else [tf.reduce_sum(x, -1) for x in tensors]


@tf.custom_gradient
def fused_sums(tensors):
    """In one pass over what they share; XLA would make one of each `reduce_sum`."""
    zero = tf.zeros((), tensors[0].dtype)
    add = tf.function(lambda *pairs: [x + y for x, y in zip(pairs, pairs[len(tensors) :])])
    totals = xla.variadic_reduce(
        tensors,
        [zero] * len(tensors),
        dimensions_to_reduce=[tensors[0].shape.rank - 1],
        reducer=add.get_concrete_function(*[zero] * (2 * len(tensors))),
    )

    def gradient(*upstream):
        return [tf.broadcast_to(u[..., None], tf.shape(t)) for u, t in zip(upstream, tensors)]

    return totals, gradient
