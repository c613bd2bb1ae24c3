"""The definitions in plain NumPy, float64, one pixel at a time: slow and easy to check by eye."""

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
    height, width = output_size
    theta = np.asarray(theta, "float64").reshape(-1, 2, 3)
    grid = np.empty((len(theta), height, width, 2))
    for b, i, j in np.ndindex(grid.shape[:3]):
        x, y = position(j, width, align_corners), position(i, height, align_corners)
        grid[b, i, j] = theta[b] @ [x, y, 1]
    return grid


def mirrored(index, length, align_corners):
    """Where pixel `index` of the endlessly mirrored row comes from."""
    row = list(range(length))
    there_and_back = row + row[-2:0:-1] if align_corners else row + row[::-1]
    return there_and_back[index % len(there_and_back)]


def pixel(image, row, column, fill_mode, fill_value, align_corners):
    """A pixel of the image continued beyond its borders."""
    height, width, _ = image.shape
    if fill_mode == "constant":
        inside = 0 <= row < height and 0 <= column < width
        return image[row, column] if inside else np.asarray(fill_value, "float64")
    if fill_mode == "nearest":
        return image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return image[mirrored(row, height, align_corners), mirrored(column, width, align_corners)]


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
    """Sum over the neighbours of their weight times their pixel; channels last."""
    images, grid = np.asarray(images, "float64"), np.asarray(grid, "float64")
    _, height, width, channels = images.shape
    samples = np.zeros((*grid.shape[:3], channels))
    for b, i, j in np.ndindex(grid.shape[:3]):
        x = pixel_index(grid[b, i, j, 0], width, align_corners)
        y = pixel_index(grid[b, i, j, 1], height, align_corners)
        for row, row_weight in neighbours(y, interpolation):
            for column, column_weight in neighbours(x, interpolation):
                samples[b, i, j] += (row_weight * column_weight) * pixel(
                    images[b], row, column, fill_mode, fill_value, align_corners
                )
    return samples
