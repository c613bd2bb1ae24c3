"""The definitions in plain NumPy, float64, one pixel at a time: slow and easy to check by eye."""

import itertools
import math

import numpy as np


def position(index, length, align_corners):
    """Normalised coordinate of pixel `index` of `length`."""
    if align_corners:
        return 2 * index / (length - 1) - 1 if length > 1 else 0.0
    return (2 * index + 1) / length - 1


def pixel_index(position, length, align_corners):
    """The inverse of `position`, for any real coordinate."""
    if align_corners:
        return (position + 1) / 2 * (length - 1)
    return ((position + 1) * length - 1) / 2


def affine_grid(theta, output_size, align_corners=False):
    """`output_size` is `(height, width)` or `(depth, height, width)`."""
    axes = len(output_size)
    theta = np.asarray(theta, "float64").reshape(-1, axes, axes + 1)
    grid = np.empty((len(theta), *output_size, axes))
    for b, *index in np.ndindex(grid.shape[:-1]):
        point = [position(i, n, align_corners) for i, n in zip(index, output_size)]
        grid[b, *index] = theta[b] @ [*reversed(point), 1]
    return grid


def mirrored(index, length, align_corners):
    """The pixel that is repeated at `index` if a row is mirrored without end."""
    row = list(range(length))
    there_and_back = row + row[-2:0:-1] if align_corners else row + row[::-1]
    return there_and_back[index % len(there_and_back)]


def pixel(image, index, fill_mode, fill_value, align_corners):
    """The pixel at `index`, a number per axis, of the image continued beyond its borders."""
    size = image.shape[:-1]
    if fill_mode == "constant":
        inside = all(0 <= i < n for i, n in zip(index, size))
        return image[*index] if inside else np.asarray(fill_value, "float64")
    if fill_mode == "nearest":
        return image[*(min(max(i, 0), n - 1) for i, n in zip(index, size))]
    if fill_mode == "wrap":
        return image[*(i % n for i, n in zip(index, size))]
    return image[*(mirrored(i, n, align_corners) for i, n in zip(index, size))]


def keys(distance, a=-0.75):
    """The cubic convolution kernel, Keys 1981, equation 4 with a free `a`."""
    s = abs(distance)
    if s <= 1:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1
    return a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a if s < 2 else 0.0


def neighbours(x, interpolation):
    """Pixels around coordinate `x`, with their weights."""
    if interpolation == "nearest":
        return [(round(x), 1.0)]
    reach, kernel = {"bilinear": (1, lambda d: 1 - abs(d)), "bicubic": (2, keys)}[interpolation]
    around = range(math.floor(x) - reach + 1, math.floor(x) + reach + 1)
    return [(index, kernel(x - index)) for index in around]


def grid_sample(
    images,
    grid,
    fill_mode="constant",
    fill_value=0.0,
    align_corners=False,
    interpolation="bilinear",
):
    """Sum over all combinations of the axes' neighbours of weight times pixel; channels last."""
    images, grid = np.asarray(images, "float64"), np.asarray(grid, "float64")
    size = images.shape[1:-1]
    samples = np.zeros((*grid.shape[:-1], images.shape[-1]))
    for b, *index in np.ndindex(grid.shape[:-1]):
        point = reversed(grid[b, *index])  # in the order of sizes
        axes = [
            neighbours(pixel_index(x, n, align_corners), interpolation) for x, n in zip(point, size)
        ]
        for combination in itertools.product(*axes):
            where, weights = zip(*combination)
            samples[b, *index] += math.prod(weights) * pixel(
                images[b], where, fill_mode, fill_value, align_corners
            )
    return samples
