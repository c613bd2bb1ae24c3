import functools

import torch
from keras import ops

floor = torch.floor
convolve = functools.partial(ops.conv, data_format="channels_last")


def blend(rows, neighbours, coordinates, to_rows=None):
    """`mix` of the rows and weights that `neighbours(*coordinates)` gives.

    Differentiated by the backend, which needs no `to_rows`.
    """
    return mix(rows, *neighbours(*coordinates))


def mix(rows, indices, weights):
    """Sum of `weights[k]` times the rows of `(batch, n, channels)` at `indices[k]`."""
    taps = zip(indices, weights)
    return sum(weight[..., None] * gather(rows, index) for index, weight in taps)


def gather(rows, indices):
    batch, count, channels = rows.shape
    first = torch.arange(batch, device=rows.device).reshape(-1, *(1,) * (indices.ndim - 1))
    picked = rows.reshape(-1, channels).index_select(0, (indices + first * count).reshape(-1))
    return picked.reshape(*indices.shape, channels)


def compile(function):
    """The function itself: PyTorch's own compiler needs a C++ compiler on the user's machine."""
    return function
