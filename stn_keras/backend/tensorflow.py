"""TensorFlow: `tf.gather_nd`, and XLA where the size of the work pays for its compilation."""

import contextlib
import functools
import threading

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python import pywrap_tfe

from stn_keras.backend.tensorflow_convolution import convolve as convolve

floor = tf.floor

# Output positions times batch from which XLA is worth its compilation, a tenth of a second or
# more for each new size. Less than that takes a millisecond or two without it.
LARGE = 2**14


class State(threading.local):
    """Whether a thread traces for XLA, and whether for gradients alone."""

    fused = unread = False


_state = State()


def compile(function):
    """`function(*tensors)`, and each of its gradients, traced once for all sizes.

    Called eagerly, on little, or on images of unknown size it runs as it is: nothing is compiled,
    nothing kept. In a graph, on images of known size, it is compiled by XLA, on its own inside an
    uncompiled model: that pays for a warp, where XLA fuses dozens of element-wise steps, and not
    for convolutions on a CPU. Which of the two depends on sizes alone, so trainings repeat.

    Gradients are traced together, and only those that a tape can ask for: the images' is the
    costliest, and nobody needs it where a model begins with a warp.
    The last tensor is a constant.
    """

    def gradient(wanted, upstream, *tensors):
        asked = [tensor for tensor, needed in zip(tensors, wanted) if needed]
        with tf.GradientTape() as tape, tracing(unread=True):
            tape.watch(asked)
            output = function(*tensors)
        return tape.gradient(output, asked, upstream, tf.UnconnectedGradients.ZERO)

    forward = traced(function)
    gradients = functools.cache(lambda *wanted: traced(functools.partial(gradient, wanted)))

    @tf.custom_gradient
    def call(*tensors):
        wanted = on_tape(tensors[:-1])

        def backward(upstream):
            found = iter(gradients(*wanted)(upstream, *tensors))
            return [next(found) if needed else None for needed in wanted] + [None]

        # Without a gradient of its own, which TensorFlow would trace beside ours.
        return forward(*map(tf.stop_gradient, tensors)), backward

    def plain_or_compiled(*tensors):
        # A variable would have to be given its gradient separately.
        tensors = tuple(map(tf.convert_to_tensor, tensors))
        # Inside forward mode no tape records, by which `gradient` is traced.
        return function(*tensors) if has_tangents(tensors) else call(*tensors)

    return plain_or_compiled


def traced(function):
    """`function(*tensors)`, once as it is and once for XLA, all axes open but the last."""

    @functools.lru_cache(maxsize=16)
    def concrete(fused, *signature):
        specs = [
            tf.TensorSpec([None] * (rank - 1) + [last], dtype) for rank, last, dtype in signature
        ]
        with tracing(fused=fused, unread=False):
            graph = tf.function(function, specs, autograph=False, jit_compile=fused or None)
            return graph.get_concrete_function()

    def call(*tensors):
        signature = [(x.shape.rank, x.shape[-1], x.dtype) for x in tensors]

        def plain():
            return concrete(False, *signature)(*tensors)

        def fused():
            return concrete(True, *signature)(*tensors)

        large = is_large(tensors)
        if isinstance(large, bool):
            return fused() if large else plain()
        return tf.cond(large, fused, plain)

    return call


def is_large(tensors):
    """Whether XLA is worth its compilation: a bool, or a tensor where the batch size is open."""
    images = max(tensors, key=lambda tensor: tensor.shape.rank)
    if tf.executing_eagerly() or not has_xla() or None in images.shape[1:]:
        return False
    if images.shape[0] is None:
        return tf.shape(images)[0] * images.shape[1:-1].num_elements() >= LARGE
    return images.shape[:-1].num_elements() >= LARGE


@contextlib.contextmanager
def tracing(**state):
    """Inside, functions are traced for XLA if `fused`, for their gradients alone if `unread`."""
    before = dict(vars(_state))
    vars(_state).update(state)
    try:
        yield
    finally:
        vars(_state).clear()
        vars(_state).update(before)


def is_fused():
    return _state.fused


def is_unread():
    return _state.unread


def has_native(*args, **options):
    return False


affine_grid = native = None


@functools.cache
def has_xla():
    """Whether XLA compiles for the devices: it does not for other GPUs than CUDA's and ROCm's."""
    known = tf.test.is_built_with_cuda() or tf.test.is_built_with_rocm()
    return known or not tf.config.list_physical_devices("GPU")


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


def on_tape(tensors):
    """Which of the tensors a gradient may be asked for."""
    found = [pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes([tensor]) > 0 for tensor in tensors]
    return found if any(found) else [True] * len(tensors)  # tf.gradients has no tape


def has_tangents(tensors):
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of the tensors."""
    _, tangents = pywrap_tfe.TFE_Py_PackJVPs(list(tensors))
    return bool(tangents)


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
    if is_fused():
        return factor * keep(samples, weight)
    if samples.shape.rank > 4:  # LiteRT's `multiply_no_nan` broadcasts no more axes
        return factor * tf.where(factor != 0, samples, 0)
    return tf.math.multiply_no_nan(samples, factor)


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
