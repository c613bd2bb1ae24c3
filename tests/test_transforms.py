"""How each family of transforms maps coordinates; all of them are differentiable."""

import math

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, geometry, transforms
from stn_keras.sampler.coordinates import to_pixels

MATRIX_NAMES = ["translation", "attention", "box", "rigid", "similarity", "affine", "projective"]
NAMES = [*MATRIX_NAMES, "thin_plate_spline"]
PARAMETERS = dict(zip(NAMES, [2, 3, 4, 3, 4, 6, 8, 32]))
# On JAX, Keras computes sines and cosines in float32 for every dtype.
FLOAT32_ANGLES = keras.backend.backend() == "jax"


def random_theta(rng, transform, batch=2, spread=0.3):
    return transform.identity + rng.uniform(-spread, spread, (batch, transform.num_parameters))


@pytest.mark.parametrize("name", NAMES)
def test_names_and_instances(name):
    transform = transforms.get(name)
    assert transforms.get(transform) is transform
    assert transform == transforms.get(name)
    assert hash(transform) == hash(transforms.get(name))
    assert transform.num_parameters == PARAMETERS[name]
    assert transform.identity.shape == (PARAMETERS[name],)


@pytest.mark.parametrize("size", [(11, 37), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_identity_returns_the_input_bit_for_bit(rng, quick, name, align_corners, size):
    images = rng.uniform(-1, 1, (2, *size, 3)).astype("float32")
    transform = transforms.get(name)
    layer = SpatialTransformer(transform=transform, align_corners=align_corners)
    warped = layer([images, np.tile(transform.identity, (2, 1))])
    assert_array_equal(float64(warped), images)


@pytest.mark.parametrize(
    "transform",
    [
        transforms.Rigid(max_rotation=0.5),
        transforms.Similarity(max_rotation=0.5, scale=(0.5, 3.0)),
        transforms.ThinPlateSpline(control_points=(2, 5)),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_settings_keep_the_identity_and_survive_saving(rng, quick, tmp_path, transform):
    images = rng.uniform(-1, 1, (2, 11, 37, 3)).astype("float32")
    layer = SpatialTransformer(transform=transform)
    warped = layer([images, np.tile(transform.identity, (2, 1))])
    assert_array_equal(float64(warped), images)

    inputs = keras.Input((11, 37, 3)), keras.Input((transform.num_parameters,))
    model = keras.Model(inputs, layer(list(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].transform == transform


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", MATRIX_NAMES)
def test_the_grid_is_the_matrix_applied_to_positions(rng, name, align_corners):
    transform, size = transforms.get(name), (5, 8)
    theta = random_theta(rng, transform)
    positions = reference.affine_grid([1, 0, 0, 0, 1, 0], size, align_corners).reshape(1, -1, 2)
    units = [n - 1 if align_corners else n for n in size]
    homogeneous = np.concatenate([positions, np.ones((1, 40, 1))], -1)
    mapped = homogeneous @ float64(transform.matrix(theta, units)).transpose(0, 2, 1)
    wanted = (mapped[..., :2] / mapped[..., 2:]).reshape(2, *size, 2)
    assert_allclose(float64(transform.grid(theta, size, align_corners)), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "theta", "matrix"),
    [
        ("translation", [3, 4], [[1, 0, 3], [0, 1, 4], [0, 0, 1]]),
        ("attention", [2, 3, 4], [[2, 0, 3], [0, 2, 4], [0, 0, 1]]),
        ("box", [2, 3, 4, 5], [[2, 0, 4], [0, 3, 5], [0, 0, 1]]),
        ("rigid", [math.pi / 2, 3, 4], [[0, -1, 3], [1, 0, 4], [0, 0, 1]]),
        ("similarity", [math.pi / 2, 2, 3, 4], [[0, -2, 3], [2, 0, 4], [0, 0, 1]]),
        ("affine", [2, 3, 4, 5, 6, 7], [[2, 3, 4], [5, 6, 7], [0, 0, 1]]),
        ("projective", [2, 3, 4, 5, 6, 7, 8, 9], [[2, 3, 4], [5, 6, 7], [8, 9, 1]]),
    ],
)
def test_what_the_parameters_mean(name, theta, matrix):
    theta = np.array([theta], "float32")
    assert_allclose(float64(transforms.get(name).matrix(theta))[0], matrix, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", ["rigid", "similarity"])
def test_an_image_that_is_not_square_rotates_rather_than_shears(rng, name, align_corners):
    transform = transforms.get(name)
    theta = random_theta(rng, transform, spread=0.9)
    scale = theta[:, 1] if name == "similarity" else np.ones(2)
    x, y = map(float64, transform.pixels(theta, (4, 30), (4, 30), align_corners))
    right = np.array([x[:, 0, 1] - x[:, 0, 0], y[:, 0, 1] - y[:, 0, 0]])
    down = np.array([x[:, 1, 0] - x[:, 0, 0], y[:, 1, 0] - y[:, 0, 0]])
    atol = 1e-6 if FLOAT32_ANGLES else 1e-9
    assert_allclose(np.arctan2(right[1], right[0]), theta[:, 0], atol=atol)
    assert_allclose(np.hypot(*right), scale, atol=atol)
    assert_allclose(np.hypot(*down), scale, atol=atol)
    assert_allclose((right * down).sum(0), 0, atol=atol)


def test_bounds_hold_and_leave_small_changes_alone(rng):
    transform = transforms.Similarity(max_rotation=0.5, scale=(0.6, 3.0))
    far = rng.uniform(-50, 50, (100, 4)).astype("float32")
    (a, _, _), (d, _, _), _ = np.moveaxis(float64(transform.matrix(far)), 0, -1)
    assert np.all(np.abs(np.arctan2(d, a)) <= 0.5 + 1e-6)
    assert np.all((np.hypot(a, d) >= 0.6 - 1e-6) & (np.hypot(a, d) <= 3 + 1e-6))
    near = transform.identity + rng.uniform(-1e-3, 1e-3, (5, 4))
    free = transforms.Similarity().matrix(near)
    assert_allclose(float64(transform.matrix(near)), float64(free), atol=1e-5)


@pytest.mark.parametrize("name", MATRIX_NAMES)
def test_matrices_compose_and_invert(rng, name):
    transform = transforms.get(name)
    first, second = (transform.matrix(random_theta(rng, transform), (6, 9)) for _ in range(2))
    points = rng.uniform(-1, 1, (2, 7, 2))
    both = geometry.transform_points(geometry.compose(first, second), points)
    onward = geometry.transform_points(first, geometry.transform_points(second, points))
    assert_allclose(float64(both), float64(onward), atol=1e-9)
    for there, back in ((first, geometry.invert(first)), (geometry.invert(first), first)):
        found = geometry.transform_points(back, geometry.transform_points(there, points))
        assert_allclose(float64(found), points, atol=1e-9)


def test_points_of_an_image_keep_float32_at_least(rng):
    points = rng.uniform(-1, 1, (1, 3, 2)).astype("float16")
    matrix = transforms.Translation().matrix(np.array([[0.25, -0.5]], "float32"))
    found = float64(geometry.transform_points(matrix, points))
    assert_allclose(found, points + np.array([0.25, -0.5], "float32"), atol=1e-7)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", MATRIX_NAMES)
def test_an_object_is_found_where_the_points_say(rng, quick, name, align_corners):
    transform, size, output_size = transforms.get(name), (40, 60), (90, 70)
    theta = random_theta(rng, transform, batch=1, spread=0.1)
    units = [n - 1 if align_corners else n for n in size]
    place = rng.uniform(-0.4, 0.4, (1, 1, 2))  # x, y of the object in the input
    positions = reference.affine_grid([1, 0, 0, 0, 1, 0], size, align_corners)
    pixels = (positions - place) * np.array(units[::-1]) / 2
    images = np.exp(-np.sum(pixels**2, -1) / (2 * 1.5**2))[..., None]  # 1.5 pixels wide
    layer = SpatialTransformer(
        transform=transform, output_size=output_size, align_corners=align_corners, dtype="float64"
    )
    warped = float64(layer([images, theta]))
    seen = reference.affine_grid([1, 0, 0, 0, 1, 0], output_size, align_corners)
    centre = np.sum(seen * warped, (1, 2)) / np.sum(warped)
    to_output = geometry.invert(transform.matrix(theta, units))
    assert_allclose(centre, float64(geometry.transform_points(to_output, place))[0], atol=0.01)


@pytest.mark.parametrize("name", MATRIX_NAMES)
def test_compositions_belong_to_the_closure(rng, name):
    transform = transforms.get(name)
    closure = transforms.get(transform.closure)
    assert closure == transforms.get("projective" if name == "projective" else "affine")
    assert transforms.get(closure.closure) == closure
    product = geometry.compose(
        *(transform.matrix(random_theta(rng, transform), (6, 9)) for _ in range(2))
    )
    theta = closure.from_matrix(product)
    assert theta.shape == (2, closure.num_parameters)
    points = rng.uniform(-1, 1, (2, 7, 2))
    assert_allclose(
        float64(geometry.transform_points(closure.matrix(theta), points)),
        float64(geometry.transform_points(product, points)),
        atol=1e-9,
    )


def test_affine_parameters_come_back_from_their_matrix(rng):
    affine = transforms.Affine()
    theta = random_theta(rng, affine)
    assert_array_equal(float64(affine.from_matrix(affine.matrix(theta))), theta)


@pytest.mark.parametrize("factor", [1.0, 0.125, -3.0])
def test_projective_parameters_come_back_from_any_multiple_of_their_matrix(rng, factor):
    projective = transforms.Projective()
    theta = random_theta(rng, projective)
    found = projective.from_matrix(factor * projective.matrix(theta))
    assert_allclose(float64(found), theta, rtol=1e-12)


def test_warping_twice_is_warping_by_the_composed_matrix(rng, quick):
    rows, columns = np.mgrid[:80, :60]
    images = np.sin(columns / 7 + rng.uniform(0, 6)) + np.cos(rows / 9 + rng.uniform(0, 6))
    images = images[None, ..., None]
    turn = np.array([[0.45, -0.2, 0.05, 0.2, 0.45, 0.1]])  # looks inside the image only,
    shift = np.array([[0.7, 0, 0.2, 0, 0.8, -0.1]])  # and so does this: no edge is in sight
    affine, layer = transforms.Affine(), SpatialTransformer(dtype="float64")
    both = affine.from_matrix(geometry.compose(affine.matrix(turn), affine.matrix(shift)))
    twice = layer([layer([images, turn]), shift])
    assert_allclose(float64(twice), float64(layer([images, both])), atol=0.02)


@pytest.mark.parametrize("control_points", [(2, 2), (4, 4), (3, 5)])
def test_a_spline_moves_its_control_points_by_their_offsets(rng, control_points):
    transform = transforms.ThinPlateSpline(control_points)
    theta = random_theta(rng, transform)
    grid = transform.grid(theta, control_points, align_corners=True)
    still = reference.affine_grid([1, 0, 0, 0, 1, 0], control_points, align_corners=True)
    assert_allclose(float64(grid), still + theta.reshape(2, *control_points, 2), atol=1e-9)


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_spline_of_affine_offsets_is_affine(rng, align_corners):
    transform, size = transforms.ThinPlateSpline((3, 4)), (6, 9)
    affine = [1, 0, 0, 0, 1, 0] + rng.uniform(-0.5, 0.5, (2, 6))
    points = reference.affine_grid([1, 0, 0, 0, 1, 0], (3, 4), align_corners=True)
    theta = (reference.affine_grid(affine, (3, 4), align_corners=True) - points).reshape(2, -1)
    wanted = reference.affine_grid(affine, size, align_corners)
    assert_allclose(float64(transform.grid(theta, size, align_corners)), wanted, atol=1e-9)


def test_a_spline_bends_least_between_its_points(rng):
    """The surface is a sum of r² log r² around the points and a plane, solved here by NumPy."""
    transform = transforms.ThinPlateSpline((2, 3))
    theta = random_theta(rng, transform, 1)
    rows, columns = np.meshgrid([-1, 1], [-1, 0, 1], indexing="ij")
    points = np.stack([columns.ravel(), rows.ravel()], -1).astype(float)

    def design(at):
        r = np.linalg.norm(at[:, None] - points, axis=-1)
        kernel = np.array([[s * s * math.log(s * s) if s else 0 for s in row] for row in r])
        return np.hstack([kernel, np.ones((len(at), 1)), at])

    sides = np.vstack([design(points), np.hstack([design(points)[:, 6:].T, np.zeros((3, 3))])])
    weights = np.linalg.solve(sides, np.vstack([theta.reshape(6, 2), np.zeros((3, 2))]))
    positions = reference.affine_grid([1, 0, 0, 0, 1, 0], (4, 7)).reshape(-1, 2)
    wanted = positions + design(positions) @ weights
    assert_allclose(float64(transform.grid(theta, (4, 7))).reshape(-1, 2), wanted, atol=1e-9)


@pytest.mark.parametrize("output_size", [(3, 4), (1, 6)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_normalised_and_pixel_coordinates_are_the_same(rng, name, align_corners, output_size):
    transform, input_size = transforms.get(name), (7, 5)
    where = input_size, output_size, align_corners
    theta = random_theta(rng, transform)
    upstream = rng.normal(size=(2, *output_size, 2))

    def in_pixels(theta):
        return ops.stack(transform.pixels(theta, *where), axis=-1)

    def from_grid(theta):
        grid = transform.warp(theta, *where).grid()
        return ops.stack(to_pixels(grid, input_size, align_corners), axis=-1)

    tolerance = 1e-6 if FLOAT32_ANGLES else 1e-11
    assert_allclose(float64(from_grid(theta)), float64(in_pixels(theta)), atol=tolerance)
    found, wanted = (gradients(f, [theta], upstream)[0] for f in (from_grid, in_pixels))
    assert_allclose(float64(found), float64(wanted), rtol=tolerance, atol=100 * tolerance)


def test_points_on_the_horizon_have_no_gradient():
    # The depth is 1 − 4x: 0 at the third of four pixels, x = 0.25.
    theta = np.array([[1, 0, 0, 0, 1, 0, -4, 0], [1, 0, 0.1, 0, 1, 0, 0.5, 0.1]])
    transform, upstream = transforms.Projective(), np.ones((2, 2, 4, 2))

    def gradient(theta, upstream):
        return float64(gradients(lambda t: transform.grid(t, (2, 4)), [theta], upstream)[0])

    finite = np.isfinite(float64(transform.grid(theta, (2, 4))))
    assert not finite[0, :, 2].any() and finite[0, :, [0, 1, 3]].all() and finite[1].all()
    found = gradient(theta, upstream)
    away = np.stack([transform.identity, theta[1]])  # no image has a horizon
    assert_allclose(found[1], gradient(away, upstream)[1], rtol=1e-9)
    upstream[0, :, 2] = 0
    assert_allclose(found[0], gradient(theta, upstream)[0], rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(rng, name):
    transform = transforms.get(name)
    theta = random_theta(rng, transform, 1, spread=0.2)
    upstream = rng.normal(size=(1, 3, 4, 2))
    (gradient,) = gradients(lambda theta: transform.grid(theta, (3, 4)), [theta], upstream)
    coarse = FLOAT32_ANGLES and name in ("rigid", "similarity")
    h, rtol, atol = (1e-3, 1e-3, 1e-3) if coarse else (1e-6, 1e-5, 1e-7)
    for k in range(transform.num_parameters):
        step = h * np.eye(transform.num_parameters)[k]
        ahead, behind = (float64(transform.grid(theta + s, (3, 4))) for s in (step, -step))
        wanted = np.sum(upstream * (ahead - behind)) / (2 * h)
        assert_allclose(float64(gradient)[0, k], wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_theta_of_another_length_is_refused(name):
    with pytest.raises(ValueError, match=r"`theta` must have shape.*theta.shape=\(1, 7\)"):
        transforms.get(name).grid(np.zeros((1, 7)), (3, 4))


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: transforms.Rigid(max_rotation=0), "max_rotation=0"),
        (lambda: transforms.Similarity(max_rotation=-1), "max_rotation=-1"),
        (lambda: transforms.Rigid(max_rotation=math.inf), "max_rotation=inf"),
        (lambda: transforms.Similarity(scale=(1.5, 2)), r"scale=\(1.5, 2\)"),
        (lambda: transforms.Similarity(scale=(0.5, 1, 2)), r"scale=\(0.5, 1, 2\)"),
        (lambda: transforms.Similarity(scale=(0.5, math.inf)), r"scale=\(0.5, inf\)"),
        (lambda: transforms.ThinPlateSpline(control_points=(1, 4)), r"control_points=\(1, 4\)"),
        (lambda: transforms.ThinPlateSpline(control_points=4), "control_points=4"),
        (lambda: transforms.get("afine"), "transform='afine'"),
        (lambda: transforms.get(3), "transform=3"),
    ],
)
def test_wrong_settings_are_refused(make, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        make()
