import jax

floor = jax.numpy.floor


def blend(rows, neighbours, coordinates, to_rows=None):
    """`mix` of the rows and weights that `neighbours(*coordinates)` gives.

    Differentiated by the backend, which needs no `to_rows`.
    """
    return mix(rows, *neighbours(*coordinates))


def mix(rows, indices, weights):
    """Sum of `weights[k]` times the rows of `(batch, n, channels)` at `indices[k]`."""
    taps = zip(indices, weights)
    return sum(weight[..., None] * gather(rows, index) for index, weight in taps)


@jax.vmap
def gather(rows, indices):
    return rows.at[indices].get(mode="promise_in_bounds")


compile = jax.jit
