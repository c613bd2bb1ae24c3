"""Smaller and smoother pictures: large shifts of the full picture are small ones there."""

import numpy as np

from stn_keras.registration.pictures import Side

LEAST = 16  # pixels along the axes of the coarsest level
KERNEL = (1, 4, 6, 4, 1)


def pyramid(side):
    """The sides of all levels, the coarsest first, the full pictures last.

    A level halves the axes of the next one whose half has `LEAST` pixels. The outer edges of the
    pictures stay where they are, so that normalised coordinates are the same at all levels.
    """
    levels = [side]
    while max(levels[0].size) >= 2 * LEAST:
        levels.insert(0, halved(levels[0]))
    return levels


def halved(side):
    """A side of half the size; a masked pixel counts in none of its averages."""
    table = np.concatenate([side.pixels * side.weights, side.weights], axis=-1)
    for axis, length in enumerate(side.size, 1):
        if length >= 2 * LEAST:
            table = resampled(blurred(table, axis), axis, (length + 1) // 2)
    return from_table(table)


def smoothed(side):
    """A side blurred a little, which weakens its noise and what interpolation adds."""
    table = np.concatenate([side.pixels * side.weights, side.weights], axis=-1)
    for axis in range(1, table.ndim - 1):
        table = blurred(table, axis, (1, 2, 1))
    found = from_table(table)
    return Side(found.pixels, side.weights)


def from_table(table):
    weights = table[..., -1:]
    return Side(table[..., :-1] / np.maximum(weights, 1e-6), weights)


def blurred(values, axis, kernel=KERNEL):
    """Values averaged along an axis; beyond the edges they go on with those at the edges."""
    reach = len(kernel) // 2
    values = np.moveaxis(values, axis, 0)
    padded = np.concatenate([values[:1]] * reach + [values] + [values[-1:]] * reach)
    total = np.zeros_like(values)
    for k, weight in enumerate(kernel):
        total += padded[k : k + len(values)] * np.float32(weight / sum(kernel))
    return np.moveaxis(total, 0, axis)


def resampled(values, axis, count):
    """Values at `count` places along an axis, linearly between pixels, edge on edge."""
    length = values.shape[axis]
    places = np.clip((np.arange(count) + 0.5) * (length / count) - 0.5, 0, length - 1)
    before = np.minimum(places.astype(int), length - 2)
    share = np.expand_dims(places - before, (*range(1, values.ndim),)).astype("float32")
    values = np.moveaxis(values, axis, 0)
    return np.moveaxis(values[before] * (1 - share) + values[before + 1] * share, 0, axis)
