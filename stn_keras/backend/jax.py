import functools

import jax
from jax import lax
from keras import ops

from stn_keras.dots import dots

floor = jax.numpy.floor
convolve = functools.partial(ops.conv, data_format="channels_last")


def blend(rows, neighbours, coordinates, to_rows=None):
    """`mix` of the rows and weights that `neighbours(*coordinates)` gives.

    Differentiated by hand, see `tensorflow.blend`: in reverse mode, and once more in any.
    """

    def rows_gradient(rows, coordinates, upstream):
        def scatter(upstream):
            indices, weights = neighbours(*coordinates)
            wide = jax.ShapeDtypeStruct(rows.shape, upstream.dtype)
            return jax.linear_transpose(lambda rows: mix(rows, indices, weights), wide)(upstream)[0]

        return scatter(upstream) if to_rows is None else to_rows(upstream, scatter)

    def blended(rows, coordinates, given):
        return mix(rows, *neighbours(*coordinates))

    def backward(inputs, upstream):
        # Apart from the forward pass, with which XLA would share pixels that it then writes down.
        (rows, coordinates, given), upstream = lax.optimization_barrier((inputs, upstream))
        indices, _ = neighbours(*coordinates)
        weights = slopes(neighbours, coordinates)
        found = dots(upstream, rows, indices, weights, mix=mix, gather=gather, sums=sums)
        return (
            rows_gradient(rows, coordinates, upstream, *given).astype(rows.dtype),
            [dot.astype(coordinate.dtype) for dot, coordinate in zip(found, coordinates)],
            [jax.numpy.zeros_like(tensor) for tensor in given],
        )

    example = jax.eval_shape(blended, rows, list(coordinates), [])
    rows_gradient, given = jax.closure_convert(rows_gradient, rows, list(coordinates), example)
    differentiable = jax.custom_vjp(blended)
    differentiable.defvjp(lambda *inputs: (blended(*inputs), inputs), backward)
    return differentiable(rows, list(coordinates), given)


def mix(rows, indices, weights):
    """Sum of `weights[k]` times the rows of `(batch, n, channels)` at `indices[k]`."""
    taps = zip(indices, weights)
    return sum(weight[..., None] * gather(rows, index) for index, weight in taps)


def slopes(neighbours, coordinates):
    """The derivative of each weight of `neighbours` by each coordinate: a list per coordinate."""

    def by(axis):
        def weights(coordinate):
            return neighbours(*coordinates[:axis], coordinate, *coordinates[axis + 1 :])[1]

        one = jax.numpy.ones_like(coordinates[axis])
        return jax.jvp(weights, (coordinates[axis],), (one,))[1]

    return [by(axis) for axis in range(len(coordinates))]


def sums(tensors):
    """Sums of equally many tensors over their channels, in one pass over what they share."""
    zeros = [jax.numpy.zeros((), tensor.dtype) for tensor in tensors]

    def add(these, those):
        return [this + that for this, that in zip(these, those)]

    return lax.reduce(tensors, zeros, add, [tensors[0].ndim - 1])


@jax.vmap
def gather(rows, indices):
    return rows.at[indices].get(mode="promise_in_bounds")


compile = jax.jit
