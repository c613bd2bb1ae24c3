"""What the gradients that are written by hand, TensorFlow's and JAX's, have in common."""


def dots(upstream, rows, indices, weights, *, mix, gather, sums):
    """The upstream times the mix by each list of weights, summed over channels.

    `mix`, `gather(rows, index)` and `sums(tensors)`, over channels, are the backend's.
    """
    if rows.shape[-1] <= len(indices):
        return sums([upstream * mix(rows, indices, axis) for axis in weights])
    # Many channels: fewer products if those with the pixels come first, then their mixes.
    by_tap = sums([upstream * gather(rows, index) for index in indices])
    return [sum(weight * dot for weight, dot in zip(axis, by_tap)) for axis in weights]
