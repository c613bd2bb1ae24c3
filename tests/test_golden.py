"""The numbers of PyTorch's functions of the same names: recorded ones, and fresh ones (slow)."""

import pathlib

import numpy as np
import pytest
from autodiff import float64, gradients
from numpy.testing import assert_allclose

import stn_keras

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "pytorch.npz")
PADDING_MODES = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
CASES = [
    ("2d", "nearest"),
    ("2d", "bilinear"),
    ("2d", "bicubic"),
    ("3d", "nearest"),
    ("3d", "bilinear"),
]

for_both_alignments = pytest.mark.parametrize("align_corners", [False, True])
for_all_fill_modes = pytest.mark.parametrize("fill_mode", PADDING_MODES)
for_all_interpolations = pytest.mark.parametrize(("kind", "interpolation"), CASES)


def recorded(case):
    """The arrays of a case by their names."""
    names = (name.rpartition("/") for name in GOLDEN.files)
    return {name: GOLDEN[f"{of}/{name}"] for of, _, name in names if of == case}


def sampled(images, grid, upstream, **options):
    def sample(images, grid):
        return stn_keras.grid_sample(images, grid, data_format="channels_first", **options)

    to_images, to_grid = gradients(sample, (images, grid), upstream)
    return {"samples": sample(images, grid), "to_images": to_images, "to_grid": to_grid}


def gridded(theta, upstream, size, **options):
    def grid(theta):
        return stn_keras.affine_grid(theta, size, **options)

    (to_theta,) = gradients(grid, [theta], upstream)
    return {"grid": grid(theta), "to_theta": to_theta}


def assert_same(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        assert_allclose(float64(ours[name]), wanted, tolerance, tolerance, err_msg=name)


@for_both_alignments
@for_all_fill_modes
@for_all_interpolations
def test_grid_sample_is_what_pytorch_gave(quick, kind, interpolation, fill_mode, align_corners):
    ours = sampled(
        **recorded(f"grid_sample/{kind}"),
        interpolation=interpolation,
        fill_mode=fill_mode,
        align_corners=align_corners,
    )
    options = f"{interpolation}/{PADDING_MODES[fill_mode]}/{align_corners}"
    assert_same(ours, recorded(f"grid_sample/{kind}/{options}"), 1e-12)


@for_both_alignments
@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_affine_grid_is_what_pytorch_gave(kind, align_corners):
    theirs = recorded(f"affine_grid/{kind}/{align_corners}")
    size = theirs["grid"].shape[1:-1]
    ours = gridded(**recorded(f"affine_grid/{kind}"), size=size, align_corners=align_corners)
    assert_same(ours, theirs, 1e-12)


@pytest.fixture
def pytorch():
    pytest.importorskip("torch")
    from golden import make

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-12)])
@for_both_alignments
@for_all_fill_modes
@for_all_interpolations
def test_grid_sample_is_what_pytorch_gives(
    rng,
    quick,
    pytorch,
    smooth_grid,
    kind,
    interpolation,
    fill_mode,
    align_corners,
    dtype,
    tolerance,
):
    size, out = pytorch.SIZES[kind]
    inputs = {
        "images": rng.normal(size=(2, 3, *size)),
        "grid": smooth_grid((2, *out), size, align_corners),
        "upstream": rng.normal(size=(2, 3, *out)),
    }
    inputs = {name: array.astype(dtype) for name, array in inputs.items()}
    ours = sampled(
        **inputs, interpolation=interpolation, fill_mode=fill_mode, align_corners=align_corners
    )
    theirs = pytorch.grid_sample(
        **inputs,
        mode=interpolation,
        padding_mode=PADDING_MODES[fill_mode],
        align_corners=align_corners,
    )
    assert_same(ours, theirs, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@for_both_alignments
@pytest.mark.parametrize("size", [(5, 8), (1, 6), (2, 4, 5), (3, 1, 1)], ids=str)
def test_affine_grid_is_what_pytorch_gives(rng, pytorch, size, align_corners, dtype, tolerance):
    axes = len(size)
    inputs = {
        "theta": rng.normal(size=(2, axes, axes + 1)).astype(dtype),
        "upstream": rng.normal(size=(2, *size, axes)).astype(dtype),
        "size": size,
        "align_corners": align_corners,
    }
    assert_same(gridded(**inputs), pytorch.affine_grid(**inputs), tolerance)
