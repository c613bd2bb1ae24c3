"""TensorFlow: plain operations that any runtime knows, some of them marked for XLA."""

import contextlib
import functools
import math

import tensorflow as tf

# With at least so many positions in one image, XLA is worth its compilation of a tenth of a second.
LARGE = 2**8

floor = tf.floor
matmul = tf.matmul


def compile(function):
    """The function, with its operations marked so that TensorFlow hands them to XLA.

    That pays for a warp, in which XLA fuses dozens of element-wise steps, but not for convolutions
    on a CPU. The operations in the graph stay the same, so they can be exported. TensorFlow
    compiles the first batch size at once, and another one when it comes a second time, so the
    smaller last batch of an epoch does not wait for the compiler.

    Nothing is marked in eager calls, on small images, or on images of unknown size.

    The function must not add sums (`a + b + c`), but subtract. TensorFlow's graph optimizer would
    replace a sum of sums by one operation without a mark, which splits what XLA compiles.
    """

    @functools.wraps(function)
    def call(*tensors, **options):
        with marked(tensors):
            return function(*tensors, **options)

    return call


def marked(tensors, compiled=True):
    """Where the operations of a graph are marked for XLA, or left to TensorFlow, if one of the
    tensors holds images or coordinates of a known size with many positions."""
    sizes = [tensor.shape[1:3] for tensor in tensors if tensor.shape.rank > 2]
    large = any(None not in sides and math.prod(sides) >= LARGE for sides in sizes)
    if tf.executing_eagerly() or not large:
        return contextlib.nullcontext()
    return tf.xla.experimental.jit_scope(compile_ops=compiled)


def jit(function):
    return tf.function(function, autograph=False, jit_compile=True)


def value_and_gradient(function):
    def call(point, *tensors):
        with tf.GradientTape() as tape:
            tape.watch(point)
            values = function(point, *tensors)
        return values, tape.gradient(values, point)

    return call


def per_warp(function):
    return function


def sample(generic, images, warp, fill, **options):
    with marked([images]):
        return generic(images, warp, fill, **options)


def with_gradient(forward, backward, *tensors, first=None):
    tensors = tuple(map(here, tensors))
    if first is not None:
        return with_gradients_apart(forward, backward, first, *tensors)

    @tf.custom_gradient
    def function(*floats):
        given = iter(floats)
        inputs = [next(given) if tensor.dtype.is_floating else tensor for tensor in tensors]
        results = forward(*inputs)

        def gradients(*upstreams):
            upstream = list(upstreams) if isinstance(results, list) else upstreams[0]
            return [
                tf.cast(gradient, tensor.dtype) if gradient is not None else None
                for gradient, tensor in zip(backward(upstream, *inputs), tensors, strict=True)
                if tensor.dtype.is_floating
            ]

        return results, gradients

    return function(*(tensor for tensor in tensors if tensor.dtype.is_floating))


def with_gradients_apart(forward, backward, first, tensor, *rest):
    """`with_gradient`, which computes the gradient of the first tensor only if a tape watches that:
    the images of a data set are not watched."""
    fixed = [tf.stop_gradient(other) for other in rest]
    result = with_gradient(
        lambda tensor: forward(tensor, *fixed),
        lambda upstream, tensor: [first(upstream, tensor, *rest)],
        tensor,
    )
    return with_gradient(
        lambda result, *rest: result,
        lambda upstream, result, *rest: [upstream, *backward(upstream, tensor, *rest)],
        result,
        *rest,
    )


def here(tensor):
    """The same as a tensor, not a variable, of the graph that is being traced.

    In the gradient of a condition, TensorFlow does not find tensors of outer graphs.
    """
    tensor = tf.convert_to_tensor(tensor)
    if tf.executing_eagerly() or getattr(tensor, "graph", None) is tf.compat.v1.get_default_graph():
        return tensor
    return tf.identity(tensor)


def shape(tensor, start=0, stop=None):
    """The lengths of the axes from `start` to `stop`: integers, or tensors if they are unknown."""
    known = tensor.shape[start:stop].as_list()
    if None not in known:
        return tuple(known)
    found = tf.unstack(tf.shape(tensor))[start:stop]
    return tuple(found[k] if length is None else length for k, length in enumerate(known))


def gather_sum(rows, indices, weights, finite=False):
    pixels = gather(rows, indices)
    if rows.dtype.is_integer:  # one tap, of weight 0 or 1
        return tf.where(weights[0] != 0, pixels[0], tf.zeros((), rows.dtype))
    constants = [tf.constant(number, weights[0].dtype) for number in (0, math.nan)]
    times = scaled if finite else functools.partial(weighted, constants=constants)
    return total(times, pixels, weights)


def gather_dots(upstream, rows, indices, sets):
    """Sums two products at once, as parts of complex numbers, which saves XLA every other pass."""

    with marked([upstream, rows]):
        # Masked once for all: XLA makes one loop of the sums, and LLVM vectorizes only short ones.
        one = tf.ones((), sets[0][0].dtype)
        pixels = [masked(pixels, one, *of) for pixels, *of in zip(gather(rows, indices), *sets)]
        products = [upstream * total(scaled, pixels, weights) for weights in sets]
        pairs = zip(products[::2], products[1::2])
        paired = [tf.reduce_sum(tf.complex(*pair), axis=-1, keepdims=True) for pair in pairs]
        rest = products[2 * len(paired) :]
        last = [tf.reduce_sum(product, axis=-1, keepdims=True) for product in rest]
    # Inside a compiled part, XLA would make a pass for each.
    with marked([upstream, rows], compiled=False):
        parts = [part(pair) for pair in paired for part in (tf.math.real, tf.math.imag)]
    return parts + last


def total(times, pixels, weights):
    """The sum of pixels times weights, by subtraction; see `compile`."""
    if len(pixels) == 1:
        return times(pixels[0], weights[0])
    rest = times(pixels[1], -weights[1])
    for pixel, weight in zip(pixels[2:], weights[2:]):
        rest = rest - times(pixel, weight)
    return times(pixels[0], weights[0]) - rest


def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ..., 1)` indices."""
    flat = tf.reshape(rows, (-1, rows.shape[-1]))
    indices = in_batch(indices, *shape(rows, 1, 2))
    return [tf.gather_nd(flat, index) for index in indices]


def in_batch(indices, count):
    """Indices of rows within their image → within the whole batch."""
    before = tf.range(shape(indices[0])[0]) * -count
    before = tf.reshape(before, [-1] + [1] * (indices[0].shape.rank - 1))
    return [index - before for index in indices]


def scaled(pixels, weight):
    return weight * tf.cast(pixels, weight.dtype)


def weighted(pixels, weight, constants):
    """The pixels times their weight, and 0 where the weight is 0, even if the pixel is NaN."""
    zero, nan = constants  # made once for all taps, because users wait while operations are traced
    product = weight * tf.cast(pixels, weight.dtype)
    # The condition is on the product. One on the weight alone would become a branch, which LLVM
    # does not vectorize, and be half as fast.
    instead = tf.where(weight != zero, nan, zero)
    return tf.where(tf.math.is_nan(product), instead, product)


def masked(pixels, one, *weights):
    """The pixels, but 0 where all of their weights are 0, even if the pixel is NaN."""
    pixels = tf.cast(pixels, weights[0].dtype)
    # By masks of bits: LLVM would turn `where` or booleans into branches, which it does not
    # vectorize.
    integer = {4: tf.int32, 8: tf.int64}[pixels.dtype.size]
    read = tf.minimum(tf.math.ceil(functools.reduce(tf.maximum, map(tf.abs, weights))), one)
    mask = -tf.cast(read, integer)
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(pixels, integer), mask), pixels.dtype)


def scatter_sum(upstream, indices, weights, count):
    channels = upstream.shape[-1]
    samples = tf.reshape(upstream, (-1, channels))
    total = tf.zeros((shape(upstream)[0] * count, channels), upstream.dtype)
    column = tf.constant((-1, 1))
    for index, weight in zip(in_batch(indices, count), weights):
        share = tf.math.multiply_no_nan(samples, tf.reshape(weight, column))
        total = tf.tensor_scatter_nd_add(total, tf.reshape(index, column), share)
    return tf.reshape(total, (-1, count, channels))
