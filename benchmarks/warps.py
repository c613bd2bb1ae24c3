"""The warps that are timed, each by our library and by PyTorch, with its images and coordinates.

A cell has a table, the shape of its images, `(batch, height, width, channels)` or `(batch, depth,
height, width, channels)`, a function that draws coordinates (theta or a grid), and the warp twice:
`ours(images, coordinates)`, and `pytorch(images, coordinates)` of images with channels first.
`align_corners=False` throughout; bilinear, with zeros outside the images, unless its name says
otherwise.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cell:
    table: str
    shape: tuple[int, ...]
    coordinates: Callable  # of a random generator and the shape of the images
    ours: Callable
    pytorch: Callable


# Ours.


@functools.cache
def transformer(**options):
    import stn_keras

    return stn_keras.SpatialTransformer(**options)


def layer(**options):
    return lambda images, theta: transformer(**options)([images, theta])


def dense_warp(images, displacement):
    return dense_layer()([images, displacement])


@functools.cache
def dense_layer():
    import stn_keras

    return stn_keras.DenseWarp()


def sampler(**options):
    def warp(images, grid):
        import stn_keras

        return stn_keras.grid_sample(images, grid, **options)

    return warp


# PyTorch's.


def torch_sampler(**options):
    def warp(images, grid):
        from torch.nn.functional import grid_sample

        return grid_sample(images, grid, align_corners=False, **options)

    return warp


def torch_affine(**options):
    sample = torch_sampler(**options)

    def warp(images, theta):
        from torch.nn.functional import affine_grid

        return sample(images, affine_grid(theta, images.shape, align_corners=False))

    return warp


def torch_displaced(images, displacement):
    size = tuple(images.shape[2:])
    points, steps = output_grid(size, images.device)
    return torch_sampler()(images, points + displacement * steps)


@functools.cache
def output_grid(size, device):
    """Normalized output pixels, and a pixel in these units."""
    import torch

    points, steps = np.stack(pixel_centres(size), axis=-1), [2 / length for length in size[::-1]]
    return [torch.tensor(np.float32(values), device=device) for values in (points, steps)]


def torch_projective(images, theta):
    import torch

    batch, _, *size = images.shape
    matrix = torch.cat([theta, theta.new_ones(batch, 1)], dim=1).reshape(batch, 3, 3)
    points = output_points(tuple(size), images.device) @ matrix.mT  # (batch, pixels, 3)
    grid = points[..., :2] / points[..., 2:]
    return torch_sampler()(images, grid.reshape(batch, *size, 2))


def torch_spline(images, theta):
    batch, _, *size = images.shape
    influence = spline_influence(tuple(size), images.device)  # (pixels, 16)
    points = output_points(tuple(size), images.device)[:, :2]
    grid = points + influence @ theta.reshape(batch, -1, 2)
    return torch_sampler()(images, grid.reshape(batch, *size, 2))


@functools.cache
def output_points(size, device):
    """`(pixels, 3)`: x, y and 1 of each output pixel."""
    import torch

    x, y = pixel_centres(size)
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=-1)
    return torch.as_tensor(points, dtype=torch.float32, device=device)


@functools.cache
def spline_influence(size, device):
    """`(pixels, 16)`: how far each pixel follows each of 4×4 control points."""
    import torch

    def bend(points):
        squares = ((points[:, None] - centres) ** 2).sum(-1)
        return squares * np.log(np.where(squares > 0, squares, 1))

    y, x = np.meshgrid(*[np.linspace(-1, 1, 4)] * 2, indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], axis=-1)
    plane = np.column_stack([np.ones(16), centres])
    system = np.block([[bend(centres), plane], [plane.T, np.zeros((3, 3))]])
    x, y = (axis.ravel() for axis in pixel_centres(size))
    points = np.stack([x, y], axis=-1)
    basis = np.column_stack([bend(points), np.ones(x.size), points])
    influence = basis @ np.linalg.inv(system)[:, :16]
    return torch.as_tensor(influence, dtype=torch.float32, device=device)


def pixel_centres(size):
    """Normalized coordinates of all pixels, x first."""
    axes = [(2 * np.arange(length) + 1) / length - 1 for length in size]
    return np.meshgrid(*axes, indexing="ij")[::-1]


# Coordinates and images.


def affine_theta(rng, shape, scale=1):
    axes = len(shape) - 2
    return scale * (np.eye(axes, axes + 1) + 0.1 * rng.standard_normal((shape[0], axes, axes + 1)))


def projective_theta(rng, shape):
    noise = rng.standard_normal((shape[0], 3, 3)) * [[0.1], [0.1], [0.05]]
    return (np.eye(3) + noise).reshape(-1, 9)[:, :8]


def spline_theta(rng, shape):
    return 0.05 * rng.standard_normal((shape[0], 32))


def wavy_grid(rng, shape):
    """An affine grid with waves in it."""
    theta = affine_theta(rng, shape)
    points = np.stack(pixel_centres(shape[1:-1]), axis=-1).reshape(-1, len(shape) - 2)
    moved = points @ theta[:, :, :-1].transpose(0, 2, 1) + theta[:, None, :, -1]
    waves = 0.05 * np.sin(5 * points[:, ::-1])
    return (moved + waves).reshape(*shape[:-1], -1)


def displacement(rng, shape):
    """A smooth one of up to three pixels, as in registration."""
    points = np.stack(pixel_centres(shape[1:-1]), axis=-1)
    phases = rng.uniform(0, 6, (shape[0], *[1] * len(points.shape)))
    return 3 * np.sin(phases + 4 * points[..., ::-1])


def arrays(cell, shape):
    """Images, coordinates near the identity, and a random upstream gradient, in float32."""
    rng = np.random.default_rng(0)
    wave, window = rng.uniform(-3, 3, (shape[0], *[1] * (len(shape) - 2), shape[-1])), 1
    for axis, length in enumerate(shape[1:-1], 1):
        position = np.linspace(-1, 1, length).reshape([-1] + [1] * (len(shape) - 1 - axis))
        wave = wave + rng.uniform(-3, 3, shape[-1]) * position
        window = window * (1 - position**2)
    # Smooth, and dark at the edges: if pixels differ much from their neighbours, the gradient of
    # the coordinates depends on the last digits of these.
    images, coordinates = np.sin(wave) * window, cell.coordinates(rng, shape)
    upstream = rng.standard_normal(shape)
    return [array.astype("float32") for array in (images, coordinates, upstream)]


def affine_cell(name):
    shape = tuple(map(int, name.split("x")))
    return Cell("affine", shape, affine_theta, layer(), torch_affine())


def other(coordinates, ours, pytorch, shape=(32, 96, 96, 8)):
    return Cell("warps", shape, coordinates, ours, pytorch)


zoom_theta = functools.partial(affine_theta, scale=1 / 3)
volume, image = (4, 32, 48, 48, 4), (1, 224, 224, 3)
SHAPES = ["64x32x32x3", "32x224x224x3", "16x56x56x64", "8x128x128x32", "4x1024x1024x16"]
CELLS = {
    **{name: affine_cell(name) for name in SHAPES},
    "grid_sample bilinear": other(wavy_grid, sampler(), torch_sampler()),
    "grid_sample bicubic": other(
        wavy_grid, sampler(interpolation="bicubic"), torch_sampler(mode="bicubic")
    ),
    "grid_sample nearest": other(
        wavy_grid, sampler(interpolation="nearest"), torch_sampler(mode="nearest")
    ),
    "projective": other(projective_theta, layer(transform="projective"), torch_projective),
    "thin-plate spline": other(spline_theta, layer(transform="thin_plate_spline"), torch_spline),
    "threefold zoom": other(zoom_theta, layer(), torch_affine()),
    "affine bicubic": other(
        affine_theta, layer(interpolation="bicubic"), torch_affine(mode="bicubic")
    ),
    "affine reflect": other(
        affine_theta, layer(fill_mode="reflect"), torch_affine(padding_mode="reflection")
    ),
    "affine border": other(
        affine_theta, layer(fill_mode="nearest"), torch_affine(padding_mode="border")
    ),
    "volumes": other(wavy_grid, sampler(), torch_sampler(), volume),
    "one image": other(affine_theta, layer(), torch_affine(), image),
    **{
        f"displacement {name}": Cell(
            "dense", tuple(map(int, name.split("x"))), displacement, dense_warp, torch_displaced
        )
        for name in ("8x256x256x1", "2x64x64x64x1")
    },
}
