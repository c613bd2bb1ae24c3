"""`register` finds warps that are known, on every backend, and says what it can't align."""

import keras
import numpy as np
import pytest
from keras import ops

import stn_keras
from stn_keras import transforms
from stn_keras.geometry import jacobian_determinant
from stn_keras.registration import adam
from stn_keras.sampler import warps

SIZE = (48, 56)
SMALL = (32, 36)  # for Adam, which takes more steps
ONE_LEVEL = (24, 28)


@pytest.fixture
def picture(rng):
    return texture(rng, 2)


def texture(rng, axes):
    """A picture known everywhere: a function of normalised points `(..., axes)`."""
    waves = rng.normal(0, 5, (30, axes))
    phases, heights = rng.uniform(0, 2 * np.pi, 30), rng.uniform(0.5, 1, 30)
    return lambda points: (heights * np.cos(points @ waves.T + phases)).sum(-1, keepdims=True)


def grid_of(transform, theta, size):
    return ops.convert_to_numpy(transforms.get(transform).grid(np.array(theta, "float32"), size))


def identity(size):
    transform = transforms.Affine(axes=len(size))
    return grid_of(transform, transform.identity[None], size)


def distances(warp, grid):
    """The distances in pixels from where a grid looks, in the middle of the output."""
    found = ops.convert_to_numpy(warp.grid())
    distances = np.linalg.norm((found - grid) * np.array(warp.input_size[::-1]) / 2, axis=-1)
    middle = tuple(slice(n // 8, n - n // 8) for n in grid.shape[1:-1])
    return distances[(slice(None), *middle)]


def error(warp, grid):
    return distances(warp, grid).max()


THETAS = {
    "translation": [0.12, -0.08],
    "attention": [0.9, 0.05, -0.06],
    "rigid": [0.15, 0.08, -0.06],
    "similarity": [-0.15, 1.1, 0.05, 0.05],
    "affine": [1.08, 0.1, 0.1, -0.06, 0.93, -0.05],
    "projective": [1.05, 0.08, 0.06, -0.05, 0.97, 0.05, 0.06, -0.08],
}


@pytest.mark.parametrize("loss", ["ecc", "mse"])
@pytest.mark.parametrize("name", THETAS)
def test_known_matrices(picture, name, loss):
    grid = grid_of(name, [THETAS[name]], SIZE)
    warp = stn_keras.register(picture(identity(SIZE)), picture(grid), transform=name, loss=loss)
    assert error(warp, grid) < 0.2
    assert warp.report.converged.all()
    assert (warp.report.loss_after < warp.report.loss_before).all()


def test_a_known_spline(picture, rng):
    spline = transforms.ThinPlateSpline((3, 3))
    grid = grid_of(spline, rng.uniform(-0.06, 0.06, (1, 18)), SIZE)
    warp = stn_keras.register(picture(identity(SIZE)), picture(grid), transform=spline)
    assert error(warp, grid) < 0.2


def test_known_volumes(rng):
    volume, size = texture(rng, 3), (20, 24, 28)
    theta = [0.1, -0.05, 0.1, 0.05, 0.04, -0.06]
    grid = grid_of(transforms.Rigid(axes=3), [theta], size)
    warp = stn_keras.register(volume(identity(size)), volume(grid), transform="rigid")
    assert error(warp, grid) < 0.1


def test_brightness_and_contrast_do_not_count(picture):
    grid = grid_of("affine", [THETAS["affine"]], SIZE)
    moving, fixed = picture(identity(SIZE)), 100 - 0.3 * -picture(grid)
    assert error(stn_keras.register(moving, fixed), grid) < 0.1


def test_pictures_of_other_sizes_and_channels(picture):
    theta = [0.9, 0.06, 0.05, -0.05, 0.95, -0.04]
    size = (60, 56)
    grid = grid_of("affine", [theta], size)
    moving = np.tile(picture(identity((128, 112))), 3) + [[-1, 0, 1]]
    warp = stn_keras.register(moving, picture(grid))
    assert error(warp, grid) < 0.2
    assert warp(moving).shape == (1, *size, 3)


def test_rigid_warps_of_another_size_keep_the_pixel(picture):
    moving = picture(identity((96, 80)))
    fixed = moving[:, 20:84, 12:76]
    warp = stn_keras.register(moving, fixed, transform="rigid")
    assert np.abs(ops.convert_to_numpy(warp(moving)) - fixed).max() < 0.1


def test_masks(picture, rng):
    grid = grid_of("affine", [THETAS["affine"]], SIZE)
    moving, fixed = picture(identity(SIZE)), picture(grid)
    masks = [np.ones((1, *SIZE), bool) for _ in range(2)]
    masks[0][:, 20:44, 6:30] = masks[1][:, 24:48, 40:64] = False
    moving[:, 20:44, 6:30] = np.nan
    fixed[:, 24:48, 40:64] = 20.0
    warp = stn_keras.register(moving, fixed, moving_mask=masks[0], fixed_mask=masks[1])
    assert error(warp, grid) < 0.2


def test_each_pair_of_a_batch_is_as_alone(picture):
    thetas = np.array([THETAS["rigid"], [-0.1, 0.05, 0.1], [0, 0, 0]])
    grid = grid_of("rigid", thetas, SIZE)
    moving, fixed = picture(identity(SIZE)), picture(grid)
    together = stn_keras.register(moving, fixed, transform="rigid")
    assert error(together, grid) < 0.1
    alone = stn_keras.register(moving, fixed[1:2], transform="rigid")
    shapes = {value.shape for value in vars(together.report).values() if hasattr(value, "shape")}
    assert shapes == {(3,)}
    np.testing.assert_allclose(
        ops.convert_to_numpy(together.grid())[1], ops.convert_to_numpy(alone.grid())[0], atol=1e-3
    )


@pytest.mark.parametrize("kind", ["matrix", "field"])
def test_an_initial_warp(picture, kind):
    far = transforms.Rigid().warp(np.array([[0.9, 0.3, -0.3]], "float32"), SIZE, SIZE)
    initial = far if kind == "matrix" else warps.Grid(far.grid(), SIZE, SIZE, False)
    near = [0.95, 0.33, -0.27]
    grid = grid_of("rigid", [near], SIZE)
    moving, fixed = picture(identity(SIZE)), picture(grid)
    warp = stn_keras.register(moving, fixed, transform="rigid", initial=initial)
    seen = (np.abs(grid) < 0.8).all(-1)
    distance = np.abs(ops.convert_to_numpy(warp.grid()) - grid)[seen] * max(SIZE) / 2
    assert distance.max() < 0.3


@pytest.mark.parametrize("kind", ["matrix", "field"])
def test_one_initial_warp_for_several_pairs(picture, kind):
    start = transforms.Rigid().warp(np.array([[0.02, 0.01, 0.0]], "float32"), SIZE, SIZE)
    initial = start if kind == "matrix" else warps.Grid(start.grid(), SIZE, SIZE, False)
    grid = grid_of("rigid", [[0.03, 0.05, 0.0], [0.0, -0.04, 0.02]], SIZE)
    moving = np.repeat(picture(identity(SIZE)), 2, axis=0)
    warp = stn_keras.register(moving, picture(grid), transform="rigid", initial=initial)
    assert distances(warp, grid).mean() < 0.3


def bumps(rng, size, height):
    """A smooth field of displacements in pixels."""
    grid = identity(size)
    waves, phases = rng.uniform(-2.5, 2.5, (2, 2)), rng.uniform(0, 6, 2)
    return height * np.sin(grid @ waves + phases)


def test_a_few_steps_of_a_displacement(picture, rng, monkeypatch):
    monkeypatch.setattr(adam, "STEPS", 30)
    field = bumps(rng, ONE_LEVEL, 2.0)
    grid = identity(ONE_LEVEL) + field * 2 / np.array(ONE_LEVEL[::-1])
    moving, fixed = picture(identity(ONE_LEVEL)), picture(grid)
    with pytest.warns(UserWarning, match="did not converge"):
        warp = stn_keras.register(moving, fixed, transform="displacement")
    assert distances(warp, grid).mean() < 0.8 * np.linalg.norm(field, axis=-1).mean()


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["displacement", ["affine", "displacement"]])
def test_a_known_field(picture, rng, stages):
    field = bumps(rng, SMALL, 2.0)
    grid = identity(SMALL) + field * 2 / np.array(SMALL[::-1])
    warp = stn_keras.register(picture(identity(SMALL)), picture(grid), transform=stages)
    assert distances(warp, grid).mean() < 0.5  # more where the picture has no structure
    found = ops.convert_to_numpy(warp.grid()) - identity(SMALL)
    determinants = jacobian_determinant(found * np.array(SMALL[::-1]) / 2)
    assert (ops.convert_to_numpy(determinants) > 0).all()


@pytest.mark.slow
def test_stages_behind_a_field_in_a_batch(picture, rng):
    grid = identity(ONE_LEVEL) + rng.uniform(-0.1, 0.1, (2, 1, 1, 2))
    moving, fixed = picture(identity(ONE_LEVEL)), picture(grid)
    warp = stn_keras.register(moving, fixed, transform=["displacement", "affine"])
    assert warp.report.converged.shape == (2,)
    assert distances(warp, grid).mean() < 0.3


@pytest.mark.parametrize("loss", ["nmi", "lncc", keras.losses.MeanAbsoluteError()])
def test_other_losses(picture, loss):
    grid = grid_of("rigid", [THETAS["rigid"]], ONE_LEVEL)
    moving, fixed = picture(identity(ONE_LEVEL)), picture(grid)
    if loss == "nmi":
        fixed = np.exp(-fixed / 3)
    warp = stn_keras.register(moving, fixed, transform="rigid", loss=loss)
    assert error(warp, grid) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["lncc", keras.losses.MeanSquaredError()])
def test_adam_stops_each_pair_when_it_has_converged(picture, loss, monkeypatch):
    grid = grid_of("translation", [[0, 0], [0.12, -0.08]], ONE_LEVEL)
    moving, fixed = picture(identity(ONE_LEVEL)), picture(grid)
    options = {"transform": "translation", "loss": loss}
    together = stn_keras.register(moving, fixed, **options)
    assert together.report.converged.all()
    assert (together.report.iterations < adam.STEPS).all()
    alone = stn_keras.register(moving, fixed[1:], **options)
    difference = alone.report.iterations - together.report.iterations[1:]
    assert abs(difference) <= adam.WINDOW  # it may settle a window earlier or later, by rounding
    theta, other = (ops.convert_to_numpy(x.tensor) for x in (together, alone))
    np.testing.assert_allclose(theta[1:], other, atol=8e-3)
    monkeypatch.setattr(adam, "STEPS", 15)
    with pytest.warns(UserWarning, match="did not converge"):
        assert not stn_keras.register(moving, fixed, **options).report.converged.any()


class Wave(transforms.Transform):
    """A transform of somebody's own, which is no matrix: `theta` is the height of a wave."""

    identity = np.zeros(1, "float32")

    def pixels(self, theta, input_size, output_size, align_corners):
        x, y = transforms.Affine().pixels(
            np.eye(2, 3, dtype="float32")[None], input_size, output_size, align_corners
        )
        return [x + 4 * theta[:, :, None] * ops.sin(y / 6), y + 0 * theta[:, :, None]]


def test_transforms_of_ones_own(picture):
    grid = ops.convert_to_numpy(Wave().grid(np.array([[0.5]], "float32"), ONE_LEVEL))
    warp = stn_keras.register(picture(identity(ONE_LEVEL)), picture(grid), transform=Wave())
    assert error(warp, grid) < 0.2


def test_the_progress_bar(picture, capsys):
    moving = picture(identity(ONE_LEVEL))
    stn_keras.register(moving, moving, transform="translation")
    assert not capsys.readouterr().out
    stn_keras.register(moving, moving, transform="translation", verbose=1)
    assert "1/1" in capsys.readouterr().out


def test_what_is_unlike_does_not_converge(rng):
    moving, fixed = rng.normal(size=(2, 1, *SIZE, 1))
    with pytest.warns(UserWarning, match="did not converge"):
        warp = stn_keras.register(moving, fixed, transform="affine")
    assert not warp.report.converged.any()


def test_the_same_call_gives_the_same_warp(picture):
    moving, fixed = picture(identity(SIZE)), picture(grid_of("rigid", [THETAS["rigid"]], SIZE))
    first, second = (stn_keras.register(moving, fixed, transform="rigid") for _ in range(2))
    np.testing.assert_array_equal(*(ops.convert_to_numpy(x.tensor) for x in (first, second)))


def test_channels_first(picture, set_format):
    grid = grid_of("affine", [THETAS["affine"]], SIZE)
    moving, fixed = (np.moveaxis(picture(x), -1, 1) for x in (identity(SIZE), grid))
    set_format("channels_first")
    assert error(stn_keras.register(moving, fixed), grid) < 0.1


GOOD = np.random.default_rng(0).normal(size=(1, 32, 32, 1))
NAN = np.where(GOOD > 2, np.nan, GOOD)
FAULTS = {
    "constant": (np.ones_like(GOOD), GOOD, {}, "`moving` must have structure"),
    "NaN": (GOOD, NAN, {}, "`fixed` must be finite"),
    "dimension": (GOOD, np.zeros((1, 32, 32, 32, 1)), {}, "both be images or both volumes"),
    "rank": (GOOD[0], GOOD, {}, "`moving` must have rank 4"),
    "batch": (np.tile(GOOD, (3, 1, 1, 1)), np.tile(GOOD, (2, 1, 1, 1)), {}, "same batch size"),
    "small": (GOOD[:, :4], GOOD, {}, "sides of at least 8 pixels"),
    "loss": (GOOD, GOOD, {"loss": "lcc"}, "`loss` must be one of"),
    "class of a loss": (GOOD, GOOD, {"loss": keras.losses.Loss}, "`loss` must be one of"),
    "loss of a batch": (GOOD, GOOD, {"loss": lambda x, y: ops.mean(x - y)}, "for each pixel or"),
    "alpha": (np.tile(GOOD, 4), np.tile(GOOD, 3), {}, "same number of channels, or 1 and 3"),
    "transform": (GOOD, GOOD, {"transform": "perspective"}, "'displacement'"),
    "nothing": (GOOD, GOOD, {"transform": []}, "at least one transform"),
    "volumes": (GOOD, GOOD, {"transform": transforms.Affine(axes=3)}, "of images"),
    "mask": (GOOD, GOOD, {"fixed_mask": np.ones((1, 8, 8))}, "`fixed_mask` must have shape"),
    "masked": (GOOD, GOOD, {"moving_mask": np.zeros((1, 32, 32))}, "`moving_mask` masks all"),
    "initial": (GOOD, GOOD, {"initial": np.eye(3)}, "`initial` must be a"),
    "smoothness": (GOOD, GOOD, {"smoothness": -1.0}, "`smoothness` must be"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name):
    moving, fixed, options, message = FAULTS[name]
    with pytest.raises(ValueError, match=message):
        stn_keras.register(moving, fixed, **options)


def test_pictures_apart_are_an_error():
    apart = transforms.Translation().warp(np.array([[3.0, 0.0]], "float32"), (32, 32), (32, 32))
    with pytest.raises(ValueError, match="pair 0 has no pixel in common"):
        stn_keras.register(GOOD, GOOD, initial=apart)
