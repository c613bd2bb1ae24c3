"""Functions traced once, and compiled by XLA where the size of the work pays for it."""

import contextlib
import functools
import threading

import tensorflow as tf
from tensorflow.python import pywrap_tfe

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


@functools.cache
def has_xla():
    """Whether XLA compiles for the devices: it does not for other GPUs than CUDA's and ROCm's."""
    known = tf.test.is_built_with_cuda() or tf.test.is_built_with_rocm()
    return known or not tf.config.list_physical_devices("GPU")


def on_tape(tensors):
    """Which of the tensors a gradient may be asked for."""
    found = [pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes([tensor]) > 0 for tensor in tensors]
    return found if any(found) else [True] * len(tensors)  # tf.gradients has no tape


def has_tangents(tensors):
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of the tensors."""
    _, tangents = pywrap_tfe.TFE_Py_PackJVPs(list(tensors))
    return bool(tangents)
