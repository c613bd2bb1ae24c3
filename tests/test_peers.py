"""The README's table of options: what PyTorch, kornia and keras.ops.image do, and what not."""

import contextlib

import keras
import numpy as np
import pytest
from autodiff import derivative, float64
from keras import ops
from keras.ops import image

from stn_keras import affine_grid, grid_sample

with contextlib.suppress(ImportError):
    import torch
    import torch.nn.functional as nn
    from kornia import geometry as kornia

if keras.backend.backend() != "tensorflow":
    pytest.skip("one backend shows what the peers do", allow_module_level=True)

RNG = np.random.default_rng(0)
IMAGES, SMALL = (RNG.random((1, *size, 3)).astype("float32") for size in [(11, 37), (3, 4)])
VOLUMES = RNG.random((1, 4, 5, 6, 3)).astype("float32")
STRIPES = np.tile(np.float32([0, 1, 0]), (1, 12, 8))[..., None]  # (1, 12, 24, 1)
PARABOLA = np.square(np.arange(16, dtype="float32")).reshape(1, 1, 16, 1)
CORNERS = np.float32([[[0, 0], [36, 0], [0, 10], [36, 10]]])
TRAPEZIUM = np.float32([[[3, 1], [30, 2], [1, 9], [35, 11]]])
FILL = [0.375, -0.25, 1.5]


# A shift by a number of pixels in each of the libraries.


def shifted(pixels, images, align_corners):
    theta = [[1, 0, 2 * pixels / (images.shape[2] - align_corners)], [0, 1, 0]]
    return np.array([theta], images.dtype)


def ours(images=IMAGES, pixels=2.3, align_corners=False, **options):
    theta, size = shifted(pixels, images, align_corners), images.shape[1:3]
    grid = affine_grid(theta, size, align_corners=align_corners)
    images = np.moveaxis(images, -1, 1) if "data_format" in options else images
    return grid_sample(images, grid, align_corners=align_corners, **options)


def in_torch(images=IMAGES, pixels=2.3, dtype=None, align_corners=False, **options):
    theta, images = torch.tensor(shifted(pixels, images, align_corners)), nchw(images, dtype)
    grid = nn.affine_grid(theta.to(images.dtype), images.shape, align_corners)
    return nhwc(nn.grid_sample(images, grid, align_corners=align_corners, **renamed(**options)))


def in_kornia(images=IMAGES, pixels=2.3, dtype=None, fill_value=None, **options):
    images, options = nchw(images, dtype), {"align_corners": False, **renamed(**options)}
    if fill_value is not None:
        options |= {"padding_mode": "fill", "fill_value": torch.tensor(fill_value)}
    matrix = torch.tensor([[[1, 0, -pixels], [0, 1, 0]]], dtype=images.dtype)
    return nhwc(kornia.warp_affine(images, matrix, images.shape[2:], **options))


def in_keras(images=IMAGES, pixels=2.3, dtype=None, **options):
    images = np.moveaxis(images, -1, 1) if "data_format" in options else images
    images, row = ops.cast(images, dtype or images.dtype), np.float32([1, 0, pixels, 0, 1, 0, 0, 0])
    return image.affine_transform(images, row, **options)


def renamed(interpolation="bilinear", fill_mode="constant", **options):
    padding_modes = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
    return {"mode": interpolation, "padding_mode": padding_modes[fill_mode], **options}


def nchw(images, dtype=None):
    return torch.tensor(np.moveaxis(images, -1, 1), dtype=dtype and getattr(torch, dtype))


def nhwc(tensor):
    return tensor.movedim(1, -1).double().numpy()


# Whether what a library did is right.


def close(values, wanted, atol=1e-5):
    return np.abs(np.array(values) - wanted).max() < atol


def same(warp, **options):
    atol = 1e-12 if options.get("images", IMAGES).dtype == "float64" else 1e-5
    return close(warp(**options), float64(ours(**options)), atol)


def halves(warp):
    return all(close(float64(warp(dtype=d)), ours(), 0.2) for d in ("float16", "bfloat16"))


def same_bits(warp):
    return np.array_equal(warp(pixels=0), IMAGES)


def finite(values):
    return np.isfinite(np.array(values)).all()


def smooth(stripes):
    """Whether what fills a third of `STRIPES` counts for about a third."""
    return close(stripes, 1 / 3, 0.2)


def compared(check, warp, transform):
    """PyTorch's gradients to images and transform against finite differences."""
    tensors = nchw(SMALL), torch.tensor(transform)
    return check(warp, [tensor.double().requires_grad_() for tensor in tensors])


def move(function, *arrays):
    """Whether Keras has gradients of the sum of a function's squares."""
    gradients = derivative(lambda *arrays: ops.sum(function(*arrays) ** 2))(*arrays)
    return all(np.any(float64(gradient)) for gradient in gradients)


# What the checks ask of one library alone.


def torch_warp(images, theta, size=(3, 4)):
    grid = nn.affine_grid(theta, (*images.shape[:2], *size), False)
    return nn.grid_sample(images, grid, align_corners=False)


def kornia_warp(images, matrix):
    return kornia.warp_affine(images, matrix, (3, 4))


def kornia_perspective():
    corners, trapezium = torch.tensor(CORNERS), torch.tensor(TRAPEZIUM)
    matrix = kornia.get_perspective_transform(trapezium, corners)
    return nhwc(kornia.warp_perspective(nchw(IMAGES), matrix, (11, 37)))


def kornia_spline():
    """How far from where they should kornia sends control points."""
    start, end = torch.rand(2, 1, 5, 2, generator=torch.manual_seed(0))
    spline = kornia.get_tps_transform(start, end)
    assert kornia.warp_image_tps(nchw(SMALL), end, *spline).shape == (1, 3, 3, 4)
    return kornia.warp_points_tps(start, end, *spline) - end


def kornia_matrices():
    there = torch.tensor([[[0.0, -2.0, 3.0], [1.0, 0.5, 4.0]]])
    back = torch.cat([kornia.invert_affine_transform(there), torch.tensor([[[0.0, 0, 1]]])], 1)
    points = torch.tensor([[[4.0, -7.0], [3.0, 4.0]]])
    found = kornia.transform_points(back, points)
    return found
