import jax
from jax import lax
from jax import numpy as jnp

floor = jnp.floor
compile = jax.jit


def is_fused():
    return True


def is_unread():
    return False


def has_native(*args, **options):
    return False


affine_grid = native = is_never = None


def magnitudes(tensor):
    return None


def with_gradient(forward, backward):
    """`forward(*tensors)`, whose gradients are `backward(wanted, upstream, *tensors)`.

    Differentiable in reverse mode, and what `backward` does in any.
    """
    function = jax.custom_vjp(forward)

    def gradients(tensors, upstream):
        # Behind a barrier, or XLA would share pixels with the forward pass and write them down.
        upstream, *tensors = lax.optimization_barrier((upstream, *tensors))
        found = backward([True] * len(tensors), upstream, *tensors)
        return tuple(
            jnp.zeros_like(tensor) if gradient is None else gradient.astype(tensor.dtype)
            for gradient, tensor in zip(found, tensors, strict=True)
        )

    function.defvjp(lambda *tensors: (forward(*tensors), tensors), gradients)
    return function


def shape(tensor):
    return tensor.shape


@jax.vmap
def gather(rows, indices):
    """The rows of `(batch, n, channels)` at each of several `(batch, ...)` indices."""
    return [rows.at[index].get(mode="promise_in_bounds") for index in indices]


@jax.custom_jvp
def keep(samples, weight):
    """The samples where their weight is not 0, and 0 where it is, even for NaN."""
    # A mask of bits: LLVM would turn a choice into a branch, and no longer vectorize.
    integer = {4: jnp.int32, 8: jnp.int64}[samples.dtype.itemsize]
    mask = -jnp.minimum(jnp.ceil(jnp.abs(weight)), 1).astype(integer)
    bits = lax.bitcast_convert_type(samples, integer) & mask[..., None]
    return lax.bitcast_convert_type(bits, samples.dtype)


@keep.defjvp
def keep_tangent(primals, tangents):
    samples, weight = primals
    tangent = jnp.where(weight[..., None] != 0, tangents[0], 0)
    return keep(samples, weight), tangent


def weigh(samples, weight):
    """The samples times their weight, and 0 where it is 0, even for NaN."""
    return weight[..., None] * keep(samples, weight)


def scatter(upstream, indices, weights, count):
    """Adds `weights[k] * upstream` to the rows at `indices[k]`: `(batch, count, channels)`.

    On a CPU sample by sample, all taps of each: XLA's own scatter takes three times as long.
    """
    batch, channels = upstream.shape[0], upstream.shape[-1]
    first = jnp.arange(batch, dtype=indices[0].dtype).reshape(-1, *(1,) * (indices[0].ndim - 1))
    indices = [(index + first * count).reshape(-1) for index in indices]
    weights = [weight.reshape(-1) for weight in weights]
    samples = upstream.reshape(-1, channels)
    zeros = jnp.zeros((batch * count, channels), upstream.dtype)

    def loop(samples, indices, weights):
        # Four taps at a time: XLA makes one kernel of no more.
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

    if 0 in upstream.shape:  # XLA checks the steps of a loop that it never takes
        return zeros.reshape(batch, count, channels)
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # Python would run the loop
        return at_once(samples, indices, weights).reshape(batch, count, channels)
    total = lax.platform_dependent(samples, indices, weights, cpu=loop, default=at_once)
    return total.reshape(batch, count, channels)


def channel_sums(tensors):
    """Sums of equally many tensors over their channels, in one pass over what they share."""
    if tensors[0].shape[-1] == 1:
        # Written down: XLA would gather the pixels again for each coordinate.
        return lax.optimization_barrier([tensor[..., 0] for tensor in tensors])
    zeros = [jnp.zeros((), tensor.dtype) for tensor in tensors]

    def add(these, those):
        return [this + that for this, that in zip(these, those)]

    return lax.reduce(tensors, zeros, add, [tensors[0].ndim - 1])
