"""JAX: everything is compiled."""

import functools
import operator
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

FEW = 4  # channels

floor = jnp.floor
jit = jax.jit
matmul = functools.partial(jnp.matmul, precision="highest")


def compile(function):
    """The function itself, because `sample` compiles everything."""
    return function


def per_warp(function):
    """`function(warp, *tensors, **options)`, compiled once for each kind of warp, its sizes and its
    options."""

    @functools.wraps(function)
    def call(warp, *tensors, **options):
        kind: Any = type(warp)
        made = compiled(function, kind, warp.settings, tuple(options.items()))
        return made(warp.tensor, *tensors)

    return call


@functools.lru_cache(maxsize=512)
def compiled(function, kind, settings, options):
    def call(tensor, *tensors):
        return function(kind(tensor, **dict(settings)), *tensors, **dict(options))

    return jax.jit(call)


def sample(generic, images, warp, fill, **options):
    return sampled(warp, images, fill, generic=generic, **options)


@per_warp
def sampled(warp, images, fill, generic, **options):
    return generic(images, warp, fill, **options)


def with_gradient(forward, backward, *tensors, first=None):
    """See `stn_keras.backend`.

    The result is differentiable in reverse mode, and `backward` in any mode.
    """
    function = jax.custom_vjp(forward)

    def gradients(tensors, upstream):
        # Without a barrier, XLA shares pixels with the forward pass and stores them in memory.
        upstream, *tensors = lax.optimization_barrier((upstream, *tensors))
        found = backward(upstream, *tensors)
        if first is not None:
            found = [first(upstream, *tensors), *found]
        return tuple(
            gradient if gradient is None else gradient.astype(tensor.dtype)
            for gradient, tensor in zip(found, tensors, strict=True)
        )

    # By `function`, not by `forward`: the second derivative goes through the forward pass, too.
    function.defvjp(lambda *tensors: (function(*tensors), tensors), gradients)
    return function(*tensors)


def value_and_gradient(function):
    def total(*tensors):
        values = function(*tensors)
        return jnp.sum(values), values

    def call(*tensors):
        (_, values), slope = jax.value_and_grad(total, has_aux=True)(*tensors)
        return values, slope

    return call


def shape(tensor, start=0, stop=None):
    return tensor.shape[start:stop]


def gather_sum(rows, indices, weights, finite=False):
    times = scaled if finite else weighted
    return functools.reduce(operator.add, map(times, gather(rows, indices), weights))


def gather_dots(upstream, rows, indices, sets):
    """Few channels are summed before they are multiplied by the upstream. Otherwise each pixel is
    multiplied, which takes no more products."""
    pixels = gather(rows, indices)
    if 1 < upstream.shape[-1] <= FEW:
        pixels = list(map(masked, pixels, *sets))
        sums = [functools.reduce(operator.add, map(scaled, pixels, weights)) for weights in sets]
        return channel_sums([upstream * pixels for pixels in sums])
    dots = channel_sums([upstream * pixel.astype(upstream.dtype) for pixel in pixels])
    return [functools.reduce(operator.add, map(weighted, dots, weights)) for weights in sets]


def channel_sums(tensors):
    """Sums over channels in one pass: XLA would gather the pixels again for each sum."""
    if tensors[0].shape[-1] == 1:
        return lax.optimization_barrier(tensors)
    zeros = [jnp.zeros((), tensor.dtype) for tensor in tensors]

    def add(these, those):
        return [this + that for this, that in zip(these, those)]

    sums = lax.optimization_barrier(lax.reduce(tensors, zeros, add, [tensors[0].ndim - 1]))
    return [total[..., None] for total in sums]


@jax.vmap
def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ..., 1)` indices."""
    return [rows.at[index[..., 0]].get(mode="promise_in_bounds") for index in indices]


def scaled(pixels, weight):
    return weight * pixels.astype(weight.dtype)


def weighted(pixels, weight):
    """The pixels times their weight, and 0 where the weight is 0, even if the pixel is NaN."""
    unread = weight == 0
    if jnp.issubdtype(pixels.dtype, jnp.integer):
        return jnp.where(unread, jnp.zeros((), pixels.dtype), pixels)
    product = scaled(pixels, weight)
    # The condition is on the product. One on the weight alone would become a branch, which LLVM
    # does not vectorize, and be half as fast.
    return jnp.where(jnp.isnan(product), jnp.where(unread, 0, jnp.nan), product)


def masked(pixels, *weights):
    """The pixels, but 0 where all of their weights are 0, even if the pixel is NaN."""
    pixels = pixels.astype(weights[0].dtype)
    # By masks of bits: LLVM would turn `where` or booleans into branches, which it does not
    # vectorize.
    integer = {4: jnp.int32, 8: jnp.int64}[pixels.dtype.itemsize]
    read = jnp.minimum(jnp.ceil(functools.reduce(jnp.maximum, map(jnp.abs, weights))), 1)
    mask = -read.astype(integer)
    return lax.bitcast_convert_type(lax.bitcast_convert_type(pixels, integer) & mask, pixels.dtype)


def scatter_sum(upstream, indices, weights, count):
    """On a CPU, adds sample by sample, which is three times as fast as XLA's own scatter."""
    batch, channels = upstream.shape[0], upstream.shape[-1]
    first = jnp.arange(batch, dtype=indices[0].dtype).reshape(-1, *(1,) * (indices[0].ndim - 1))
    indices = [(index + first * count).reshape(-1) for index in indices]
    weights = [weight.reshape(-1) for weight in weights]
    samples = upstream.reshape(-1, channels)
    zeros = jnp.zeros((batch * count, channels), upstream.dtype)

    def loop(samples, indices, weights):
        # Four taps at a time: XLA fuses no more of them into one kernel.
        total = zeros
        for k in range(0, len(indices), 4):
            total = loop_over(samples, indices[k : k + 4], weights[k : k + 4], total)
        return total

    def loop_over(samples, indices, weights, total):
        def add(number, total):
            sample = lax.dynamic_slice_in_dim(samples, number, 1)
            for index, weight in zip(indices, weights):
                row, weight = index[number], weight[number]
                share = jnp.where(weight != 0, weight * sample, 0)
                changed = lax.dynamic_slice_in_dim(total, row, 1) + share
                total = lax.dynamic_update_slice_in_dim(total, changed, row, 0)
            return total

        return lax.fori_loop(0, samples.shape[0], add, total)

    def at_once(samples, indices, weights):
        total = zeros
        for index, weight in zip(indices, weights):
            share = jnp.where(weight[:, None] != 0, weight[:, None] * samples, 0)
            total = total.at[index].add(share, mode="promise_in_bounds")
        return total

    if 0 in upstream.shape:  # XLA checks the body of a loop even if it never runs
        return zeros.reshape(batch, count, channels)
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # Python would run the loop
        return at_once(samples, indices, weights).reshape(batch, count, channels)
    total = lax.platform_dependent(samples, indices, weights, cpu=loop, default=at_once)
    return total.reshape(batch, count, channels)
