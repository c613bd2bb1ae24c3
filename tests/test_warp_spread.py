"""How far warps differ from image to image: numbers known by hand."""

import keras
import numpy as np
import pytest
from autodiff import float64
from numpy.testing import assert_allclose

from stn_keras import SpatialTransformer, metrics, transforms
from stn_keras.metrics import corners
from stn_keras.observe import observe

SIZE = (32, 32)
CORNER = np.hypot(15.5, 15.5)  # pixels from the middle to a corner pixel of 32 × 32


def found(theta, transform, size=SIZE, **options):
    theta = np.asarray(theta, "float32")
    return [float(value) for value in metrics.warp_spread(theta, transform, size, **options)]


@pytest.mark.parametrize(
    "transform", ["translation", "attention", "rigid", "similarity", "affine", "projective"]
)
def test_one_warp_for_all_images_has_no_spread(transform, rng):
    theta = transforms.get(transform).identity + rng.uniform(0.05, 0.1)
    one_warp, shift = found(np.tile(theta, (5, 1)), transform)
    assert one_warp == pytest.approx(0, abs=1e-4) and shift > 0.5
    identity = np.tile(transforms.get(transform).identity, (3, 1))
    assert_allclose(found(identity, transform), 0, atol=1e-4)


@pytest.mark.parametrize(
    "align_corners, height, width", [(False, 10, 20), (True, 9, 19)], ids=["edges", "centres"]
)
def test_translations(align_corners, height, width):
    """To the right by half the width; up or down by an eighth of the height."""
    theta = [[1.0, 0.25], [1.0, -0.25]]
    values = found(theta, "translation", size=(10, 20), align_corners=align_corners)
    assert_allclose(values, [height / 8, width / 2], rtol=1e-5)


def test_rotations():
    """Turned by ± a, a corner at distance d is d sin a from the mean, and the mean is d (1 − cos a)
    closer to the centre."""
    angle = 0.3
    values = found([[angle, 0, 0], [-angle, 0, 0]], "rigid")
    assert_allclose(values, CORNER * np.array([np.sin(angle), 1 - np.cos(angle)]), rtol=1e-4)


def test_homographies():
    """`p` in x / (1 + p x): right corners, at x = 31/32, move inwards, left ones outwards."""
    theta = np.zeros((2, 3, 3), "float32")
    theta[:] = np.eye(3)
    theta[0, 2, 0] = p = 0.1
    x = 31 / 32
    moved = {k: 16 * np.hypot(*2 * [x / (1 + p * k) - x]) for k in (x, -x)}
    half = np.sqrt(np.mean(np.square([*moved.values()]))) / 2  # of two images, one of them moves
    assert_allclose(found(theta.reshape(2, 9)[:, :8], "projective"), half, rtol=1e-4)


def test_splines_move_the_corners_with_their_control_points():
    spline = transforms.ThinPlateSpline((2, 2))
    theta = np.stack([np.zeros(8), np.tile([0.25, 0.0], 4)])  # all points by 4 pixels, or by none
    assert_allclose(found(theta, spline), [2, 2], rtol=1e-4)


def test_nan_is_seen():
    assert np.isnan(found([[np.nan, 0], [0, 0]], "translation")).all()


def test_the_metric_is_of_all_batches_with_their_weights(rng):
    theta = rng.normal(0, 0.2, (10, 6)).astype("float32") + transforms.Affine().identity
    metric = metrics.WarpSpread("affine", SIZE)
    metric.update_state(None, theta[:7])
    metric.update_state(None, theta[7:])
    assert_allclose(float(metric.result()), found(theta, "affine")[0], rtol=1e-5)
    metric.reset_state()
    metric.update_state(None, theta, sample_weight=np.arange(10) < 4)
    assert_allclose(float(metric.result()), found(theta[:4], "affine")[0], rtol=1e-5)
    again = metrics.WarpSpread.from_config(metric.get_config())
    assert again.transform == metric.transform and again.size == SIZE and again.name == metric.name


@pytest.mark.parametrize("side, shift, deviation", [(32, 6, 0.02), (1024, 400, 0.1)])
@pytest.mark.parametrize("transform", ["translation", "affine"])
def test_warps_far_from_the_identity_keep_a_small_spread(rng, transform, side, shift, deviation):
    """In float32, in batches of different sizes and weights, without a grid for each image."""
    metric = metrics.WarpSpread(transform, (side, side))
    moves = shift + deviation * rng.normal(size=(3000, 2))
    theta = (2 * moves / side).astype("float32")
    if transform == "affine":
        ones, zeros = np.ones(3000, "float32"), np.zeros(3000, "float32")
        theta = np.stack([ones, zeros, theta[:, 0], zeros, ones, theta[:, 1]], axis=1)
    for batch in np.split(theta, [2, 3, 700, 1500]):
        metric.update_state(None, batch)
    metric.update_state(None, 3 * theta, sample_weight=np.zeros(3000))
    wanted = np.sqrt(moves.var(axis=0).sum())
    assert_allclose(float(metric.result()), wanted, rtol=0.02)
    assert_allclose(found(theta, transform, (side, side)), [wanted, shift * 2**0.5], rtol=0.02)


def test_large_images_have_the_spread_of_their_grids(rng):
    for transform in (transforms.ThinPlateSpline((2, 3)), transforms.get("projective")):
        theta = transform.identity + rng.uniform(-0.1, 0.1, (3, transform.num_parameters))
        for align_corners in (False, True):
            shifts = corners.theta_shifts(theta, transform, (130, 140), align_corners)
            grid = transform.grid(theta, (130, 140), align_corners)
            wanted = corners.corner_shifts(grid, (130, 140), align_corners)
            assert_allclose(float64(shifts), float64(wanted), atol=1e-3)


def test_layers_are_observed_in_pixels_of_their_input():
    """The output has another size and its own shape; only the points in the input count."""
    images, theta = keras.Input((8, 20, 3)), keras.Input((2,))
    layer = SpatialTransformer(transform="translation", output_size=(5, 4), name="warp")
    model = keras.Model([images, theta], layer([images, theta]))
    moves = np.tile([[0.5, 0.25], [0.5, -0.25]], (6, 1)).astype("float32")
    (sight,) = observe(model, [np.zeros((12, 8, 20, 3), "float32"), moves]).values()
    assert_allclose(sight.spread, [1, 5], rtol=1e-5)
    assert sight.shifts.shape == (12, 4, 2)
