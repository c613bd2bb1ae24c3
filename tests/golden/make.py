"""Writes `pytorch.npz`: what PyTorch gives for every option that the library shares with it.

    python tests/golden/make.py

Names of arrays begin with PyTorch's own words for the options; images are channels first. All is
float64. `test_golden.py` reads the file, and calls these functions where PyTorch is installed.
"""

import itertools
import pathlib

import numpy as np
import torch
from torch.nn import functional

SIZES = {"2d": ((5, 7), (4, 6)), "3d": ((3, 4, 5), (2, 3, 4))}  # of images and of grids
MODES = {"2d": ("nearest", "bilinear", "bicubic"), "3d": ("nearest", "bilinear")}
PADDING_MODES = ("zeros", "border", "reflection")


def grid_sample(images, grid, upstream, **options):
    """Samples, and the gradients that `upstream` on them sends to images and grid."""
    images, grid = (torch.tensor(array, requires_grad=True) for array in (images, grid))
    samples = functional.grid_sample(images, grid, **options)
    both = torch.autograd.grad(samples, (images, grid), torch.tensor(upstream))
    return {
        name: tensor.detach().numpy()
        for name, tensor in zip(("samples", "to_images", "to_grid"), (samples, *both))
    }


def affine_grid(theta, size, upstream, **options):
    """The grid, and the gradient that `upstream` on it sends to theta."""
    theta = torch.tensor(theta, requires_grad=True)
    grid = functional.affine_grid(theta, (len(theta), 1, *size), **options)
    (to_theta,) = torch.autograd.grad(grid, theta, torch.tensor(upstream))
    return {"grid": grid.detach().numpy(), "to_theta": to_theta.numpy()}


def cases(rng):
    """Pairs of a name and its arrays: inputs, and what PyTorch gives for each set of options."""
    for name, (size, out) in SIZES.items():
        axes = len(size)
        inputs = {
            "images": rng.normal(size=(2, 3, *size)),
            "grid": rng.uniform(-1.6, 1.6, (2, *out, axes)),  # reaches outside the images
            "upstream": rng.normal(size=(2, 3, *out)),
        }
        yield f"grid_sample/{name}", inputs
        for mode, padding_mode, align in itertools.product(
            MODES[name], PADDING_MODES, (False, True)
        ):
            options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align}
            results = grid_sample(**inputs, **options)
            yield f"grid_sample/{name}/{mode}/{padding_mode}/{align}", results
        inputs = {
            "theta": np.eye(axes, axes + 1) + rng.uniform(-1, 1, (2, axes, axes + 1)),
            "upstream": rng.normal(size=(2, *out, axes)),
        }
        yield f"affine_grid/{name}", inputs
        for align in (False, True):
            results = affine_grid(**inputs, size=out, align_corners=align)
            yield f"affine_grid/{name}/{align}", results


if __name__ == "__main__":
    arrays = {
        f"{case}/{name}": array
        for case, results in cases(np.random.default_rng(0))
        for name, array in results.items()
    }
    file = pathlib.Path(__file__).with_name("pytorch.npz")
    np.savez_compressed(file, torch_version=torch.__version__, **arrays)
    print(f"{file.name}: {len(arrays)} arrays of PyTorch {torch.__version__}")
