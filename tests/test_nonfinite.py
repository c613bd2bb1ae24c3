"""Pixels that are infinite or NaN, and transforms that map points to infinity."""

import keras
import numpy as np
import pytest
from autodiff import derivative, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, geometry, grid_sample, pixel_sample, transforms
from stn_keras.checks.images import FILL_MODES

SAMPLERS = [
    (interpolation, size)
    for interpolation in ("nearest", "bilinear", "bicubic")
    for size in ((4, 5), (2, 3, 4))
    if (interpolation, size) != ("bicubic", (2, 3, 4))
]
FAST = list(zip(SAMPLERS, ["reflect", "wrap", "constant", "nearest", "constant"]))
SETTINGS = [
    pytest.param(*sampler, mode, marks=[] if (sampler, mode) in FAST else pytest.mark.slow)
    for sampler in SAMPLERS
    for mode in FILL_MODES
]
HORIZON = [1, 0, 0, 0, 1, 0, 2, 0]  # depth 1 + 2x: 0 at the first of two columns
EDGE = [1, 0, 0, 0, 1, 0, 2, 4]


@pytest.mark.parametrize(("interpolation", "size", "fill_mode"), SETTINGS)
def test_only_samples_that_touch_a_pixel_are_touched(rng, quick, interpolation, size, fill_mode):
    options = {"interpolation": interpolation, "fill_mode": fill_mode}
    options["align_corners"] = bool(rng.integers(2))
    images = rng.uniform(size=(1, *size, 1))
    places = [-30, -2, -1, 0, 1, 2, 3, 4, 25, 0.3, 1.7, 2.4]
    points = rng.choice(places, (1, *(4,) * (len(size) - 1), 6, len(size)))
    where = (0, *(rng.integers(n) for n in size), 0)

    def run(pixel):
        changed = images.copy()
        changed[where] = pixel
        values = pixel_sample(changed, points, **options)
        both = gradients(lambda *x: pixel_sample(*x, **options), (changed, points), 1.0)
        return [float64(x) for x in (values, *both)]

    values, to_images, to_points = run(images[where])
    others = run(images[where] + 1)
    touched = np.abs(others[0] - values) > 1e-6
    for pixel in (np.nan, np.inf):
        found = run(pixel)
        assert_array_equal(np.isfinite(found[0]), ~touched)
        assert_allclose(found[0][~touched], values[~touched], 1e-5, 1e-6)
        assert_allclose(found[1], to_images, 1e-4, 1e-5)  # has nothing to do with pixels
        spoiled = touched[..., 0] | np.any(np.abs(others[2] - to_points) > 1e-6, axis=-1)
        if interpolation != "bicubic":  # whose slopes may cancel, of a pixel that is read twice
            assert np.all(np.isfinite(found[2][~spoiled]))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("policy", "name"),
    list(zip(["float32", "mixed_float16", "mixed_bfloat16", "float64"] * 2, transforms.TRANSFORMS)),
)
def test_the_identity_keeps_every_pixel(rng, set_policy, quick, policy, name, interpolation):
    set_policy(policy)
    layer = SpatialTransformer(transform=name, interpolation=interpolation)
    images = rng.normal(size=(3, 4, 5, 1))
    images[0, 1, 2] = images[0, 0, 0] = np.nan
    images[1, 3, 4] = np.inf
    images[2, 2, 0] = -np.inf
    images = ops.cast(images, layer.compute_dtype)
    theta = np.repeat(layer.transform.identity[None], 3, axis=0)
    assert_array_equal(float64(layer([images, theta])), float64(images))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_the_identity_keeps_every_pixel_where_compiled(rng, fused, interpolation):
    images = rng.normal(size=(2, 4, 5, 1)).astype("float32")
    images[0, 1, 2], images[1, 3, 3] = np.inf, np.nan
    inputs = keras.Input((4, 5, 1)), keras.Input((6,))
    model = keras.Model(inputs, SpatialTransformer(interpolation=interpolation)(inputs))
    theta = np.tile(transforms.Affine().identity, (2, 1))
    assert_array_equal(model.predict([images, theta], verbose=0), images)


@pytest.mark.parametrize(
    ("interpolation", "fill_mode"),
    [("nearest", "constant"), ("bicubic", "constant"), ("bicubic", "reflect")],
)
def test_pixels_of_weight_0_are_not_read_where_compiled(rng, fused, interpolation, fill_mode):
    options = {"interpolation": interpolation, "fill_mode": fill_mode}
    images = rng.uniform(size=(1, 5, 6, 2)).astype("float32")
    places = np.array([-30, -1.5, -1, 0, 1, 2, 2.25, 3, 4, 5.5, 25], "float32")
    points = np.stack(np.meshgrid(places, places), axis=-1)[None]

    def run(pixel):
        changed = images.copy()
        changed[0, 2, 3] = pixel
        return float64(pixel_sample(changed, points, **options))

    values = run(images[0, 2, 3])
    touched = np.abs(run(images[0, 2, 3] + 1) - values) > 1e-5
    for pixel in (np.nan, np.inf):
        found = run(pixel)
        assert_array_equal(np.isfinite(found), ~touched)
        assert_allclose(found[~touched], values[~touched], 1e-5, 1e-5)


def test_a_shift_by_whole_pixels_moves_a_dead_one_alone(rng):
    images = rng.uniform(size=(1, 4, 4, 1)).astype("float32")
    images[0, 2, 2] = np.inf
    by_one = np.array([[1, 0, 0.5, 0, 1, 0]], "float32")
    found = float64(SpatialTransformer()([images, by_one]))
    assert_array_equal(found[:, :, :3], images[:, :, 1:])
    assert_array_equal(found[:, :, 3], 0)


@pytest.mark.parametrize("fill_value", [0.0, np.inf])
def test_outside_of_the_image_is_fill_value(fill_value):
    images = np.full((1, 3, 3, 1), np.nan, "float32")
    grid = np.full((1, 2, 2, 2), -5, "float32")
    found = grid_sample(images, grid, fill_value=fill_value)
    assert_array_equal(float64(found), np.full((1, 2, 2, 1), fill_value))
    for gradient in gradients(grid_sample, (images, grid), 1.0):
        assert np.all(float64(gradient) == 0)


HOMOGRAPHIES = [
    HORIZON,
    EDGE,
    [0] * 8,
    [0, 0, 1, 0, 0, 1, 2, 0],
    [3e38] * 8,
    [-3e38, 3e38] * 4,
    [1e-40] * 8,
]
OPTIONS = [
    {"fill_mode": "constant", "fill_value": 0.5},
    {"fill_mode": "nearest", "antialias": 2},
    {"fill_mode": "reflect", "align_corners": True},
    {"fill_mode": "wrap"},
    {"interpolation": "bicubic"},
]


@pytest.mark.parametrize(
    ("theta", "options"),
    [
        pytest.param(theta, options, marks=[] if fast else pytest.mark.slow)
        for i, theta in enumerate(HOMOGRAPHIES)
        for j, options in enumerate(OPTIONS)
        for fast in [i == 0 or j == i % len(OPTIONS)]
    ],
    ids=str,
)
def test_gradients_of_every_finite_homography_are_finite(rng, quick, theta, options):
    layer = SpatialTransformer(transform="projective", **options)
    tensors = rng.uniform(size=(1, 4, 2, 1)).astype("float32"), np.array([theta], "float32")
    assert np.all(np.isfinite(float64(layer(list(tensors)))))
    for gradient in gradients(lambda *x: layer(list(x)), tensors, 1.0):
        assert np.all(np.isfinite(float64(gradient)))


@pytest.mark.slow
@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_gradients_of_huge_parameters_are_finite(rng, quick, name):
    layer = SpatialTransformer(transform=name)
    images = rng.uniform(size=(1, 3, 4, 1)).astype("float32")
    for value in (0, 1e38, -1e38):
        theta = np.full((1, layer.transform.num_parameters), value, "float32")
        for found in gradients(lambda *x: layer(list(x)), (images, theta), 1.0):
            assert np.all(np.isfinite(float64(found)))


def test_control_points_that_fall_together_have_finite_gradients(rng, quick):
    layer = SpatialTransformer(transform=transforms.ThinPlateSpline((2, 3)))
    offsets = -np.array([[x, y] for y in (-1, 1) for x in (-1, 0, 1)], "float32").reshape(1, 12)
    images = rng.uniform(size=(1, 3, 4, 1)).astype("float32")
    for found in gradients(lambda *x: layer(list(x)), (images, offsets), 1.0):
        assert np.all(np.isfinite(float64(found)))


def test_points_on_the_horizon_take_no_part_in_gradients():
    matrix = float64(transforms.Projective().matrix(np.array([HORIZON], "float32")))
    points = np.array([[[-0.5, 0.25], [0.5, 0.25]]])
    upstream = np.array([[[0, 0], [1, 1]]])
    found = gradients(geometry.transform_points, (matrix, points), upstream)
    alone = gradients(geometry.transform_points, (matrix, points[:, 1:]), upstream[:, 1:])
    assert_allclose(float64(found[0]), float64(alone[0]), 1e-6)
    assert_array_equal(float64(found[1])[0, 0], 0)
    assert_array_equal(np.isfinite(float64(geometry.transform_points(matrix, points))[0, 0]), False)


def test_a_matrix_whose_last_element_is_0_has_no_gradient():
    matrix = np.array([np.eye(3), np.eye(3)])
    matrix[0, 2, 2] = 0
    (found,) = gradients(transforms.Projective().from_matrix, (matrix,), np.ones((2, 8)))
    assert_array_equal(float64(found)[0], 0)
    assert float64(found)[1, 0, 0] == 1


def test_training_over_the_horizon_goes_on(rng):
    images = rng.uniform(size=(8, 4, 2, 1)).astype("float32")
    theta = np.tile(np.array(HORIZON, "float32"), (8, 1))
    inputs = keras.Input((4, 2, 1)), keras.Input((8,))
    start = keras.layers.Dense(8, kernel_initializer="identity")(inputs[1])
    warped = SpatialTransformer(transform="projective")([inputs[0], start])
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(warped)))
    model.compile("adam", "mse")
    model.fit([images, theta], np.ones((8, 1)), epochs=2, verbose=0)
    assert all(np.all(np.isfinite(weights)) for weights in model.get_weights())


def test_second_derivatives_pass_over_pixels_of_weight_0(quick):
    images = np.random.default_rng(0).random((1, 5, 5, 3))
    images[0, 0, 0], images[0, 4, 4] = np.inf, np.nan
    points = np.array([[[[2.0, 2.0], [2.5, 2.0]]]])

    def squares(points):
        return ops.sum(pixel_sample(images, points, interpolation="bicubic") ** 2)

    (second,) = derivative(lambda points: ops.sum(derivative(squares)(points)[0]))(points)
    assert np.isfinite(float64(second)).all()
