"""The table of docs/comparison.md: what PyTorch, kornia and keras.ops.image have and lack.

The tests show that what one of them has works, and that what it lacks fails, if there is something
to call.
"""

import contextlib
import pathlib
import re

import keras
import numpy as np
import pytest
from autodiff import derivative, float64
from keras import ops
from keras.ops import image

from stn_keras import affine_grid, grid_sample

pytestmark = pytest.mark.slow

with contextlib.suppress(ImportError):
    import torch
    import torch.nn.functional as nn
    from kornia import geometry as kornia

if keras.backend.backend() != "tensorflow":
    pytest.skip("one backend shows what the peers do", allow_module_level=True)

RNG = np.random.default_rng(0)
IMAGES, SMALL = (RNG.random((1, *size, 3)).astype("float32") for size in [(11, 37), (3, 4)])
VOLUMES = RNG.random((1, 4, 5, 6, 3)).astype("float32")
# (1, 12, 24, 1): three times smaller, it is a third everywhere, or 1 where it aliases.
STRIPES = np.tile(np.float32([0, 1, 0]), (1, 12, 8))[..., None]
FILL, THIRD, ZERO = [0.375, -0.25, 1.5], np.full(2, 1 / 3, "float32"), np.zeros(2, "float32")
THETA = np.float32([[[0.9, -0.2, 0.15], [0.1, 1.1, -0.3]]])
CORNERS = np.float32([[[0, 0], [36, 0], [0, 10], [36, 10]]])
TRAPEZIUM = np.float32([[[3, 1], [30, 2], [1, 9], [35, 11]]])


def test_the_tests_that_the_table_names_exist():
    tests = pathlib.Path(__file__).parent
    table = (tests.parent / "docs" / "comparison.md").read_text()
    rows = re.findall(r"`(test_\w+)`: (`test_.*`) \|", table)
    for file, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert f"def {name}(" in (tests / f"{file}.py").read_text()
    assert len(rows) == 38


def ours(images=IMAGES, shift=2.3, align_corners=False, **options):
    """Each output pixel samples `shift` pixels to its right; the functions below do the same."""
    theta, size = normalised(images, shift, align_corners), images.shape[1:3]
    grid = affine_grid(theta, size, align_corners=align_corners)
    images = np.moveaxis(images, -1, 1) if "data_format" in options else images
    return float64(grid_sample(images, grid, align_corners=align_corners, **options))


def normalised(images, shift, align_corners):
    shift = 2 * shift / (images.shape[2] - align_corners)
    return np.array([[[1, 0, shift], [0, 1, 0]]], images.dtype)


def in_torch(images=IMAGES, shift=2.3, dtype=None, align_corners=False, **options):
    theta, images = torch.tensor(normalised(images, shift, align_corners)), nchw(images, dtype)
    grid = nn.affine_grid(theta.to(images.dtype), images.shape, align_corners)
    return nhwc(nn.grid_sample(images, grid, align_corners=align_corners, **renamed(**options)))


def in_kornia(images=IMAGES, shift=2.3, dtype=None, fill_value=None, **options):
    images, options = nchw(images, dtype), {"align_corners": False, **renamed(**options)}
    if fill_value is not None:
        options |= {"padding_mode": "fill", "fill_value": torch.tensor(fill_value)}
    matrix = torch.tensor([[[1, 0, -shift], [0, 1, 0]]], dtype=images.dtype)
    return nhwc(kornia.warp_affine(images, matrix, images.shape[2:], **options))


def in_keras(images=IMAGES, shift=2.3, dtype=None, **options):
    images = np.moveaxis(images, -1, 1) if "data_format" in options else images
    row = np.float32([1, 0, shift, 0, 1, 0, 0, 0])
    return float64(image.affine_transform(ops.cast(images, dtype or images.dtype), row, **options))


def renamed(interpolation="bilinear", fill_mode="constant", **options):
    padding_modes = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
    return {"mode": interpolation, "padding_mode": padding_modes[fill_mode], **options}


def nchw(images, dtype=None):
    return torch.tensor(np.moveaxis(images, -1, 1), dtype=dtype and getattr(torch, dtype))


def nhwc(tensor):
    return tensor.movedim(1, -1).double().numpy()


def close(values, wanted, atol=1e-5):
    return np.allclose(values, wanted, rtol=0, atol=atol)


PEERS = {"torch": in_torch, "kornia": in_kornia, "keras": in_keras}
OPTIONS = {  # in this library's words, and which of the peers have them
    "nearest": ("torch kornia keras", {"interpolation": "nearest"}),
    "bilinear, fill 0": ("torch kornia keras", {}),
    "bicubic": ("torch kornia", {"interpolation": "bicubic"}),
    "fill any value": ("kornia keras", {"fill_value": 0.5}),
    "fill per channel": ("kornia", {"fill_value": FILL}),
    "fill nearest": ("torch kornia keras", {"fill_mode": "nearest"}),
    "fill reflect": ("torch kornia keras", {"fill_mode": "reflect"}),
    "align_corners": ("torch kornia", {"fill_mode": "reflect", "align_corners": True}),
    "channels first or last": ("keras", {"data_format": "channels_first"}),
}
for_all_peers = pytest.mark.parametrize("peer", PEERS)


@for_all_peers
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_gives_this_library_s_numbers_or_is_refused(option, peer):
    pytest.importorskip(peer)
    have_it, options = OPTIONS[option]
    if peer in have_it:
        assert close(PEERS[peer](**options), ours(**options))
    else:
        with pytest.raises(Exception, match=list(options)[-1]):
            PEERS[peer](**options)


@for_all_peers
def test_dtypes_on_a_cpu_and_the_identity_bit_for_bit(peer):
    pytest.importorskip(peer)
    warp, wide = PEERS[peer], IMAGES.astype("float64")
    for dtype in ("float16", "bfloat16"):  # of transforms too, but for Keras's float32
        assert close(warp(dtype=dtype), ours(), 0.005 if peer == "keras" else 0.1)
    assert close(warp(wide), ours(wide), 1e-12) == (peer != "keras")
    assert np.array_equal(warp(shift=0), IMAGES) == (peer == "keras")


@pytest.mark.parametrize("peer", ["torch", "kornia"])
def test_warps_of_tensors(peer):
    pytest.importorskip(peer)
    warp, resize = (torch_warp, nn.interpolate) if peer == "torch" else (kornia_warp, kornia.resize)
    images, volumes, stripes, theta = *map(nchw, (SMALL, VOLUMES, STRIPES)), torch.tensor(THETA)
    assert warp(images, theta, (5, 2)).shape == (1, 3, 5, 2)
    assert close(warp(volumes, torch.eye(3, 4)[None], (4, 5, 6)), volumes)
    tensors = [tensor.double().requires_grad_() for tensor in (images, theta)]
    assert torch.autograd.gradcheck(warp, tensors) and torch.autograd.gradgradcheck(warp, tensors)
    mode = {"mode" if peer == "torch" else "interpolation": "bilinear"}
    assert close(resize(stripes, (4, 8), antialias=True, **mode), 1 / 3, 0.2)

    shrink = torch.eye(2, 3) if peer == "torch" else torch.tensor([[1, 0, -1], [0, 1, -1]]) / 3
    assert not close(warp(stripes, shrink[None], (4, 8)), 1 / 3, 0.2)
    assert warp(images, theta * np.nan).isnan().all()
    with pytest.raises(RuntimeError, match="expected scalar type Half"):
        warp(images.half(), theta)
    with pytest.raises(ValueError, match="2x3"):  # kornia has another function for homographies
        warp(images, torch.eye(3)[None])


def torch_warp(images, theta, size=(3, 4)):
    grid = nn.affine_grid(theta, (1, 1, *size), align_corners=False)
    return nn.grid_sample(images, grid, align_corners=False)


def kornia_warp(images, matrix, size=(3, 4)):
    return (kornia.warp_affine if len(size) == 2 else kornia.warp_affine3d)(images, matrix, size)


def test_kornia_s_transforms():
    pytest.importorskip("kornia")
    images, matrix = nchw(IMAGES), torch.tensor(THETA)
    left = kornia.translate(images, torch.tensor([[-1.0, 0]]))
    assert close(left[..., :-1], images[..., 1:])
    assert close(kornia.rotate(images, torch.tensor([180.0])), images.flip(2, 3))

    start, end = torch.tensor(TRAPEZIUM), torch.tensor(CORNERS)
    homography = kornia.get_perspective_transform(start, end)
    assert close(kornia.transform_points(homography, start), end, 1e-4)
    warped = nhwc(kornia.warp_perspective(images, homography, (11, 37)))
    assert close(warped, image.perspective_transform(IMAGES, TRAPEZIUM, CORNERS))

    start, end = start / 37, end / 37
    spline = kornia.get_tps_transform(start, end)
    assert close(kornia.warp_points_tps(start, end, *spline), end)
    assert kornia.warp_image_tps(images, end, *spline).shape == images.shape

    there, back = torch.eye(4), torch.eye(4)
    there[:2, [0, 1, 3]] = matrix[0]
    back[:2, [0, 1, 3]] = kornia.invert_affine_transform(matrix)[0]
    assert close(kornia.compose_transformations(there, back), torch.eye(4))


def test_keras_s_other_functions():
    for images, atol in (VOLUMES, 1e-5), (IMAGES.astype("float64"), 1e-12):
        index = np.indices(images[..., 1:, :].shape).astype(images.dtype)
        index[-2] += 0.5
        assert close(at(images, index), (images[..., 1:, :] + images[..., :-1, :]) / 2, atol)
    outside = np.full((4, 1, 1, 1, 3), -9.0)
    assert close(image.map_coordinates(IMAGES, outside, 1, fill_value=FILL), FILL)
    squares = np.arange(9.0).reshape(1, 1, 9, 1) ** 2
    cubic = scaled(squares, np.ones(2), np.array([0, -0.5]), (1, 9), "cubic")
    assert close(cubic[0, 0, 1:-2, 0], (np.arange(1, 7) + 0.5) ** 2)
    assert close(image.resize(STRIPES, (4, 8), antialias=True), 1 / 3, 0.2)
    assert close(scaled(STRIPES, THIRD, ZERO), 1 / 3, 0.2)

    aliased = image.affine_transform(STRIPES, np.float32([3, 0, 1, 0, 3, 1, 0, 0]))
    assert not close(aliased[:, :4, :8], 1 / 3, 0.2)
    assert np.isnan(at(SMALL[0, :, :, 0], np.full((2, 1), np.nan, "float32"))).all()


def test_keras_s_gradients():
    def slopes(function, *arrays):
        return derivative(lambda *arrays: ops.sum(function(*arrays) ** 2))(*arrays)

    def moved(function, *arrays):
        return [bool(np.any(float64(slope))) for slope in slopes(function, *arrays)]

    def perspective(images, ends):
        return image.perspective_transform(images, TRAPEZIUM, ends)

    row, index = np.append(THETA, np.float32([0, 0])), np.indices(SMALL.shape) + np.float32(0.3)
    assert moved(image.affine_transform, SMALL, row) == [True, False]
    assert moved(perspective, IMAGES, CORNERS) == [True, False]
    assert moved(at, SMALL, index) == [True, True]
    assert moved(lambda *arrays: slopes(at, *arrays)[0], SMALL, index) == [True, True]
    assert moved(scaled, IMAGES, THIRD, ZERO) == [True, True, True]


def at(values, coordinates):
    return image.map_coordinates(values, coordinates, 1)


def scaled(images, scale, shift, size=(4, 8), method="linear"):
    shape = (1, *size, images.shape[3])
    return image.scale_and_translate(images, shape, scale, shift, (1, 2), method)
