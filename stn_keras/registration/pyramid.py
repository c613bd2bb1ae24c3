"""Image pyramids: a large shift of the full picture is a small shift at a coarse level."""

import numpy as np

from stn_keras.registration.pictures import Side

LEAST = 16  # pixels; no axis is halved to fewer
KERNEL = (1, 4, 6, 4, 1)


def pyramid(side):
    """The sides of all levels, from the coarsest to the full pictures.

    Each coarser level halves every axis whose half has at least `LEAST` pixels. The outer edges of
    the pictures do not move, so normalised coordinates are the same at all levels.
    """
    levels = [side]
    while max(levels[0].size) >= 2 * LEAST:
        levels.insert(0, halved(levels[0]))
    return levels


def halved(side):
    """A side of half the size. Masked pixels contribute to no average."""
    table = to_table(side)
    for axis, length in enumerate(side.size, 1):
        if length >= 2 * LEAST:
            table = resampled(blurred(table, axis), axis, (length + 1) // 2)
    return from_table(table)


def smoothed(side):
    """A slightly blurred side, which reduces noise and interpolation artefacts."""
    table = to_table(side)
    for axis in range(1, table.ndim - 1):
        table = blurred(table, axis, (1, 2, 1))
    found = from_table(table)
    return Side(found.pixels, side.weights)


def to_table(side):
    """The weighted pixels, with the weights as last channel; averages of both give a `Side`."""
    return Side(side.pixels * side.weights, side.weights).with_weights()


def from_table(table):
    """The inverse of `to_table`."""
    weights = table[..., -1:]
    return Side(table[..., :-1] / np.maximum(weights, 1e-6), weights)


def blurred(values, axis, kernel=KERNEL):
    """Values convolved with a kernel along an axis; outside, the edge values are repeated."""
    reach = len(kernel) // 2
    values = np.moveaxis(values, axis, 0)
    padded = np.concatenate([values[:1]] * reach + [values] + [values[-1:]] * reach)
    total = np.zeros_like(values)
    for k, weight in enumerate(kernel):
        total += padded[k : k + len(values)] * np.float32(weight / sum(kernel))
    return np.moveaxis(total, 0, axis)


def resampled(values, axis, count):
    """Values resized to `count` along an axis by linear interpolation; the outer edges coincide."""
    length = values.shape[axis]
    places = np.clip((np.arange(count) + 0.5) * (length / count) - 0.5, 0, length - 1)
    before = np.minimum(places.astype(int), length - 2)
    share = np.expand_dims(places - before, (*range(1, values.ndim),)).astype("float32")
    values = np.moveaxis(values, axis, 0)
    return np.moveaxis(values[before] * (1 - share) + values[before + 1] * share, 0, axis)
