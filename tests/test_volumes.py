"""The layer on volumes: transforms with `axes=3` against PyTorch, SciPy and the definitions."""

import math

import keras
import numpy as np
import pytest
import reference
from autodiff import compiled, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import (
    SpatialTransformer,
    geometry,
    localization,
    metrics,
    regularizers,
    transforms,
)

FAMILIES = ["translation", "attention", "box", "rigid", "similarity", "affine"]
NUMBERS = dict(zip(FAMILIES, [3, 4, 6, 6, 7, 12]))
# On JAX, Keras computes sines, cosines and roots in float32 for every dtype.
FLOAT32_ANGLES = keras.backend.backend() == "jax"
SIZE = (4, 5, 6)

of_every_family = pytest.mark.parametrize("name", FAMILIES)
for_both_alignments = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture
def plain(request):
    """Runs operation by operation, except on JAX, which would compile each of them."""
    if keras.backend.backend() != "jax":
        request.getfixturevalue("uncompiled")


def of_volumes(name, **settings):
    return transforms.TRANSFORMS[name](axes=3, **settings)


def random_theta(rng, transform, batch=2, spread=0.3):
    return transform.identity + rng.uniform(-spread, spread, (batch, transform.num_parameters))


def random_volumes(rng, size=SIZE, batch=2, channels=2, dtype="float64"):
    return rng.uniform(-1, 1, (batch, *size, channels)).astype(dtype)


def exponential(vector):
    """The rotation matrix of a vector, as the exponential series of its cross product."""
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    total, term = np.eye(3), np.eye(3)
    for k in range(1, 60):
        term = term @ cross / k
        total = total + term
    return total


@of_every_family
def test_settings(name):
    transform = of_volumes(name)
    assert transform.num_parameters == NUMBERS[name]
    assert transform == of_volumes(name) != transforms.get(name)
    assert eval(repr(transform), vars(transforms)) == transform
    assert transforms.get(keras.saving.serialize_keras_object(transform)) == transform
    images = transforms.get(name)
    assert images.axes == 2 and "axes" not in repr(images) and "axes" not in images.get_config()
    assert images == transforms.TRANSFORMS[name](axes=2)


def test_what_the_parameters_mean():
    quarter = [0, 0, math.pi / 2]
    turned = [[0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]]  # x goes to y
    for name, theta, matrix in [
        ("translation", [3, 4, 5], [[1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]]),
        ("attention", [2, 3, 4, 5], [[2, 0, 0, 3], [0, 2, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1]]),
        ("box", range(1, 7), [[1, 0, 0, 4], [0, 2, 0, 5], [0, 0, 3, 6], [0, 0, 0, 1]]),
        ("rigid", [*quarter, 3, 4, 5], turned),
        ("similarity", [*quarter, 1, 3, 4, 5], turned),
        ("affine", range(12), [*np.arange(12).reshape(3, 4), [0, 0, 0, 1]]),
    ]:
        found = of_volumes(name).matrix(np.array([theta], "float32"))
        assert_allclose(float64(found)[0], matrix, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("length", [0, 1e-12, 1e-3, 0.0316, 0.0317, 1.0, 3.0, 7.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rotation_is_the_exponential_of_its_vector(rng, dtype, length):
    vector = rng.normal(size=3)
    vector = (length * vector / np.linalg.norm(vector)).astype(dtype)
    theta = np.array([[*vector, 2, 0, 0, 0]], dtype)
    found = float64(of_volumes("similarity").matrix(theta))[0, :3, :3] / 2
    exact = dtype == "float64" and not FLOAT32_ANGLES
    assert_allclose(found, exponential(vector.astype("float64")), atol=1e-13 if exact else 1e-6)


@pytest.mark.parametrize("length", [0, 1e-20, 0.01, 0.05, 2.0])
@pytest.mark.parametrize("max_rotation", [None, 1.0])
def test_the_gradient_of_a_rotation_in_float32(rng, max_rotation, length):
    vector, h = rng.normal(size=3), 1e-5
    vector *= length / np.linalg.norm(vector)
    upstream = rng.normal(size=(1, 3, 3))
    transform = of_volumes("rigid", max_rotation=max_rotation)

    def rotation(theta):
        return transform.matrix(theta)[:, :3, :3]

    def exact(vector):
        long = np.linalg.norm(vector)
        if max_rotation and long:
            vector = vector * max_rotation * np.tanh(long / max_rotation) / long
        return np.sum(upstream * exponential(vector))

    theta = np.array([[*vector, 0, 0, 0]], "float32")
    (found,) = gradients(rotation, [theta], upstream.astype("float32"))
    wanted = [(exact(vector + h * e) - exact(vector - h * e)) / (2 * h) for e in np.eye(3)]
    assert_allclose(float64(found)[0], [*wanted, 0, 0, 0], atol=2e-5)


def test_the_length_of_a_rotation_is_bounded(rng):
    bounded = of_volumes("similarity", max_rotation=0.5, scale=(0.6, 3.0))
    vectors = rng.uniform(-20, 20, (50, 7)).astype("float32")
    linear = float64(bounded.matrix(vectors))[:, :3, :3]
    scale = np.cbrt(np.linalg.det(linear))
    assert np.all((scale > 0.6 - 1e-5) & (scale < 3 + 1e-5))
    trace = np.trace(linear, axis1=1, axis2=2) / scale
    assert np.all(np.arccos((trace - 1) / 2) <= 0.5 + 1e-3)
    near = bounded.identity + rng.uniform(-1e-3, 1e-3, (5, 7))
    free = of_volumes("similarity").matrix(near)
    assert_allclose(float64(bounded.matrix(near)), float64(free), atol=1e-5)


@for_both_alignments
@pytest.mark.parametrize("name", ["rigid", "similarity"])
def test_a_volume_that_is_no_cube_rotates_rather_than_shears(rng, name, align_corners):
    transform, size = of_volumes(name), (3, 8, 20)
    theta = random_theta(rng, transform, spread=0.9)
    points = np.stack(list(map(float64, transform.pixels(theta, size, size, align_corners))), -1)
    start = points[:, 0, 0, 0]
    steps = [points[:, 0, 0, 1] - start, points[:, 0, 1, 0] - start, points[:, 1, 0, 0] - start]
    scale = theta[:, 3] if name == "similarity" else [1, 1]
    wanted = [s * exponential(vector) for s, vector in zip(scale, theta[:, :3])]
    atol = 2e-6 if FLOAT32_ANGLES else 1e-12
    assert_allclose(np.stack(steps, axis=-1), wanted, atol=atol)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect", "wrap"])
@for_both_alignments
def test_the_identity_returns_its_input_bit_for_bit(rng, plain, align_corners, fill_mode, policy):
    for name, size, data_format, interpolation in [
        ("affine", (7, 5, 13), "channels_last", "bilinear"),
        ("rigid", (3, 11, 2), "channels_first", "bilinear"),
        ("similarity", (1, 4, 1), "channels_last", "nearest"),
    ]:
        layer = SpatialTransformer(
            transform=of_volumes(name),
            fill_mode=fill_mode,
            fill_value=(0.5, 1.0),
            align_corners=align_corners,
            data_format=data_format,
            interpolation=interpolation,
            dtype=policy,
        )
        volumes = random_volumes(rng, size, dtype="float32")
        volumes = np.moveaxis(volumes, -1, 1) if data_format == "channels_first" else volumes
        volumes = ops.cast(volumes, layer.compute_dtype)
        warped = layer([volumes, np.tile(layer.transform.identity, (2, 1))])
        assert_array_equal(float64(warped), float64(volumes), err_msg=f"{name} {size}")


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect", "wrap"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@for_both_alignments
def test_a_warp_is_the_definition(rng, plain, align_corners, interpolation, fill_mode):
    options = {
        "fill_mode": fill_mode,
        "fill_value": -2.0,
        "align_corners": align_corners,
        "interpolation": interpolation,
    }
    theta = random_theta(rng, of_volumes("affine"))
    volumes, out = random_volumes(rng), (3, 2, 4)
    layer = SpatialTransformer(
        transform=of_volumes("affine"), output_size=out, dtype="float64", **options
    )
    grid = reference.affine_grid(theta, out, align_corners)
    wanted = reference.grid_sample(volumes, grid, **options)
    assert_allclose(float64(layer([volumes, theta])), wanted, atol=1e-9)


MODES = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}


@pytest.mark.parametrize("fill_mode", MODES)
@for_both_alignments
def test_a_warp_and_its_gradients_are_pytorch_s(rng, plain, align_corners, fill_mode):
    torch = pytest.importorskip("torch")
    theta = random_theta(rng, of_volumes("affine")).reshape(2, 3, 4)
    volumes, upstream = random_volumes(rng), rng.normal(size=(2, 3, 6, 4, 2))
    layer = SpatialTransformer(
        transform=of_volumes("affine"),
        output_size=(3, 6, 4),
        fill_mode=fill_mode,
        align_corners=align_corners,
        dtype="float64",
    )

    def warp(volumes, theta):
        return layer([volumes, theta])

    x, t = (torch.tensor(a, device="cpu").requires_grad_() for a in (volumes, theta))
    grid = torch.nn.functional.affine_grid(t, (2, 2, 3, 6, 4), align_corners)
    theirs = torch.nn.functional.grid_sample(
        x.movedim(-1, 1), grid, "bilinear", MODES[fill_mode], align_corners
    ).movedim(1, -1)
    wanted = torch.autograd.grad(theirs, (x, t), torch.tensor(upstream, device="cpu"))
    assert_allclose(float64(warp(volumes, theta)), theirs.detach().numpy(), atol=1e-12)
    for ours, gradient in zip(gradients(warp, [volumes, theta], upstream), wanted):
        assert_allclose(float64(ours), gradient.numpy(), atol=1e-11)


@pytest.mark.parametrize(
    "align_corners, fill_mode, mode",
    [
        (False, "constant", "grid-constant"),
        (True, "nearest", "nearest"),
        (False, "reflect", "reflect"),
        (True, "reflect", "mirror"),
        (False, "wrap", "grid-wrap"),
    ],
)
@pytest.mark.parametrize("order, interpolation", [(0, "nearest"), (1, "bilinear")])
def test_a_warp_is_scipy_s(rng, plain, order, interpolation, align_corners, fill_mode, mode):
    ndimage = pytest.importorskip("scipy.ndimage")
    volumes, out = random_volumes(rng, batch=1, channels=1), np.array([3, 7, 4])
    theta = random_theta(rng, of_volumes("affine"), batch=1)
    layer = SpatialTransformer(
        transform=of_volumes("affine"),
        output_size=tuple(out),
        interpolation=interpolation,
        fill_mode=fill_mode,
        align_corners=align_corners,
        dtype="float64",
    )
    matrix = theta.reshape(3, 4)[::-1]  # its rows and columns in the order of sizes
    linear, shift = matrix[:, 2::-1], matrix[:, 3]
    one = int(align_corners)
    linear = linear * (np.array(SIZE) - one)[:, None] / (out - one)
    middle, out_middle = (np.array(SIZE) - 1) / 2, (out - 1) / 2
    offset = middle + shift * (np.array(SIZE) - one) / 2 - linear @ out_middle
    wanted = ndimage.affine_transform(
        volumes[0, ..., 0], linear, offset, tuple(out), order=order, mode=mode
    )
    assert_allclose(float64(layer([volumes, theta]))[0, ..., 0], wanted, atol=1e-9)


@of_every_family
def test_gradients_of_theta_are_finite_differences(rng, plain, name):
    transform, size = of_volumes(name), (2, 3, 4)
    start = random_theta(rng, transform, 1, spread=0.2)
    upstream = rng.normal(size=(1, *size, 3))
    coarse = FLOAT32_ANGLES and name in ("rigid", "similarity")
    h, tolerance = (1e-3, 1e-2) if coarse else (1e-6, 1e-6)
    for theta in (start, transform.identity[None].astype("float64")):
        (found,) = gradients(lambda theta: transform.grid(theta, size), [theta], upstream)
        for k, step in enumerate(h * np.eye(transform.num_parameters)):
            ahead, behind = (float64(transform.grid(theta + s, size)) for s in (step, -step))
            wanted = np.sum(upstream * (ahead - behind)) / (2 * h)
            assert_allclose(float64(found)[0, k], wanted, tolerance, tolerance)


class Linear(keras.Layer):
    """Averages regressed to theta; Keras's `mean` and `Dense` round float64 on some backends."""

    def __init__(self, transform):
        super().__init__(dtype="float64")
        self.transform = transform

    def build(self, input_shape):
        shape = input_shape[-1], self.transform.num_parameters
        self.kernel = self.add_weight(shape=shape, initializer="zeros")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.transform.num_parameters)

    def call(self, volumes):
        features = ops.sum(volumes, axis=(1, 2, 3)) / 10
        theta = ops.sum(features[:, :, None] * self.kernel, axis=1)
        return theta + ops.cast(self.transform.identity, "float64")


def test_gradients_through_iterations_and_antialias_are_finite_differences(rng, plain):
    transform, volumes = of_volumes("attention"), random_volumes(rng, batch=1)
    network = Linear(transform)
    layer = SpatialTransformer(
        network,
        transform=transform,
        iterations=2,
        antialias=2,
        output_size=(2, 3, 2),
        dtype="float64",
    )
    layer.build(volumes.shape)
    upstream = rng.normal(size=(1, 2, 3, 2, 2))

    def warp(volumes, kernel):
        with keras.StatelessScope([(network.kernel, kernel)]):
            return layer(volumes)

    at = [volumes, rng.uniform(-0.3, 0.3, (2, 4))]
    found = gradients(warp, at, upstream)
    for _ in range(3):
        along = [rng.normal(size=x.shape) for x in at]
        slope = sum(np.sum(float64(gradient) * a) for gradient, a in zip(found, along))
        ahead, behind = (
            np.sum(
                upstream
                * float64(warp(*(ops.cast(x + h * a, "float64") for x, a in zip(at, along))))
            )
            for h in (1e-7, -1e-7)
        )
        assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-5, atol=1e-5)


@of_every_family
def test_matrices_compose_and_invert(rng, name):
    transform = of_volumes(name)
    first, second = (transform.matrix(random_theta(rng, transform), SIZE) for _ in range(2))
    points = rng.uniform(-1, 1, (2, 7, 3))
    both = geometry.transform_points(geometry.compose(first, second), points)
    onward = geometry.transform_points(first, geometry.transform_points(second, points))
    assert_allclose(float64(both), float64(onward), atol=1e-9)
    back = geometry.transform_points(geometry.invert(first), points)
    assert_allclose(float64(geometry.transform_points(first, back)), points, atol=1e-9)


def localize(transform):
    pooling = keras.layers.GlobalAveragePooling3D()
    return keras.Sequential([pooling, keras.layers.Dense(4), localization.head(transform)])


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_network_s_theta_warps_what_it_sees(rng, plain, tmp_path, iterations):
    transform, volumes = (
        of_volumes("rigid", max_rotation=1.0),
        random_volumes(rng).astype("float32"),
    )
    layer = SpatialTransformer(localize(transform), transform=transform, iterations=iterations)
    assert_array_equal(float64(layer(volumes)), volumes)
    for weight in layer.trainable_weights:
        weight.assign_add(rng.uniform(-0.2, 0.2, weight.shape))
    theta, warped = layer.theta(volumes), float64(layer(volumes))
    assert layer.warped_by == (transform if iterations == 1 else of_volumes("affine"))
    alike = SpatialTransformer(transform=layer.warped_by)
    assert_allclose(warped, float64(alike([volumes, theta])), atol=1e-6)
    grid = float64(layer.grid(theta, SIZE))
    assert_allclose(warped, reference.grid_sample(volumes, grid), atol=1e-5)

    inputs = keras.Input((*SIZE, 2))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].transform == transform
    assert_array_equal(float64(loaded(volumes)), float64(model(volumes)))


def test_antialias_averages_a_finer_warp(rng, plain):
    transform, volumes = of_volumes("similarity"), random_volumes(rng)
    theta, out = random_theta(rng, transform), (2, 3, 2)
    layer = SpatialTransformer(
        transform=transform,
        output_size=out,
        antialias=2,
        data_format="channels_first",
        dtype="float64",
    )
    grid = transform.matrix(theta, SIZE)[:, :3]
    fine = reference.grid_sample(volumes, reference.affine_grid(float64(grid), (4, 6, 4)))
    wanted = fine.reshape(2, 2, 2, 3, 2, 2, 2, 2).mean((2, 4, 6))
    warped = float64(layer([np.moveaxis(volumes, -1, 1), theta]))
    assert_allclose(np.moveaxis(warped, 1, -1), wanted, atol=1e-6 if FLOAT32_ANGLES else 1e-9)
    assert layer.compute_output_shape([(None, 2, *SIZE), (None, 7)]) == (None, 2, *out)


def test_gradient_scale(rng, plain):
    transform, volumes = of_volumes("rigid"), random_volumes(rng)
    theta, upstream = random_theta(rng, transform), rng.normal(size=volumes.shape)
    found = []
    for scale in (1.0, 0.25):
        layer = SpatialTransformer(transform=transform, gradient_scale=scale, dtype="float64")
        found += gradients(lambda theta: layer([volumes, theta]), [theta], upstream)
    assert_allclose(float64(found[1]), 0.25 * float64(found[0]), rtol=1e-6)


@pytest.mark.slow
def test_the_fused_warp_is_the_plain_one(rng, fused):
    """The warp and its gradients compiled by XLA, if the backend has XLA."""
    transform, volumes = of_volumes("rigid"), random_volumes(rng).astype("float32")
    theta = random_theta(rng, transform).astype("float32")
    upstream = rng.normal(size=volumes.shape).astype("float32")
    layer = SpatialTransformer(transform=transform, fill_value=0.5)

    def warp(volumes, theta):
        return layer([volumes, theta])

    def results():
        return [warp(volumes, theta), *gradients(warp, [volumes, theta], upstream)]

    found = compiled(results)()
    for ours, wanted in zip(found, results()):
        assert_allclose(float64(ours), float64(wanted), rtol=1e-4, atol=1e-4)


def test_sizes_that_are_not_known_before(rng):
    transform = of_volumes("rigid")
    inputs = keras.Input((None, None, None, 1)), keras.Input((6,))
    layer = SpatialTransformer(transform=transform, antialias=2)
    model = keras.Model(inputs, layer(list(inputs)))
    for size in [(3, 4, 5), (2, 6, 3)]:
        volumes = random_volumes(rng, size, channels=1).astype("float32")
        theta = random_theta(rng, transform).astype("float32")
        found = model.predict([volumes, theta], verbose=0)
        assert_allclose(found, float64(layer([volumes, theta])), atol=1e-5)


VOLUMES, IMAGES = np.zeros((2, *SIZE, 1), "float32"), np.zeros((2, 5, 6, 1), "float32")


@pytest.mark.parametrize(
    "transform, inputs, message",
    [
        ("affine", [VOLUMES, np.zeros((2, 6))], r"rank 4.*axes=3.*shape=\(2, 4, 5, 6, 1\)"),
        (of_volumes("affine"), [IMAGES, np.zeros((2, 12))], r"rank 5.*axes=3.*\(2, 5, 6, 1\)"),
        (of_volumes("affine"), [VOLUMES, np.zeros((2, 6))], r"`theta` must hold 12 numbers"),
        (
            of_volumes("affine"),
            [VOLUMES, np.zeros((2, 4, 3))],
            r"`theta` must have shape \(batch, 3",
        ),
        (of_volumes("rigid"), [VOLUMES, np.zeros((2, 6, 1))], r"`theta` must have shape"),
    ],
)
def test_wrong_inputs_are_refused_and_shown(transform, inputs, message):
    with pytest.raises(ValueError, match=message):
        SpatialTransformer(transform=transform)(inputs)


@pytest.mark.parametrize("axes", [1, 4, True, 3.0, "3", None, (3,), np.zeros(2)])
@of_every_family
def test_other_axes_are_refused(name, axes):
    with pytest.raises(ValueError, match="`axes` must be 2, for images, or 3"):
        transforms.TRANSFORMS[name](axes=axes)


def test_options_that_volumes_lack_are_refused():
    affine = of_volumes("affine")
    with pytest.raises(ValueError, match=r"`interpolation` of volumes.*Affine\(axes=3\)"):
        SpatialTransformer(transform=affine, interpolation="bicubic")
    for size in [(3, 4), 5, (0, 3, 4)]:
        with pytest.raises(ValueError, match=r"`output_size` must be three.*\(depth"):
            SpatialTransformer(transform=affine, output_size=size)
        with pytest.raises(ValueError, match=r"`output_size` must be three.*\(depth"):
            affine.grid(affine.identity[None], size)
    with pytest.raises(ValueError, match="`output_size` must be two"):
        SpatialTransformer(output_size=(3, 4, 5))
    for kind in (transforms.Projective, transforms.ThinPlateSpline):
        with pytest.raises(TypeError, match="axes"):
            kind(axes=3)


def test_measures_of_theta(rng):
    shift = of_volumes("translation")
    theta = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.4]], "float32")
    assert_allclose(float64(metrics.identity_distance(theta, shift)), [0, 0.5], atol=1e-6)
    half = np.array([[0, 1.0, 0]], "float32")
    assert_allclose(float64(metrics.outside_share(half, shift, (2, 4, 4))), [0.5])
    assert metrics.OutsideShare(shift).size == (16, 16, 16)
    penalty = regularizers.FromIdentity(shift, strength=1.0)
    assert_allclose(float64(penalty(theta)), 0.25, rtol=1e-5)
    with pytest.raises(ValueError, match="`size` must be three"):
        regularizers.Outside(shift, size=(4, 4))


def model_of_volumes(rng, size=(6, 8, 10), **options):
    transform = of_volumes("rigid")
    start = rng.uniform(-0.3, 0.3, 6)
    pooling = keras.layers.GlobalAveragePooling3D()
    network = keras.Sequential([pooling, localization.head(transform, start=start)])
    layer = SpatialTransformer(network, transform=transform, name="st", **options)
    return keras.Sequential([keras.Input((*size, 1)), keras.layers.Rescaling(1 / 255), layer])


@pytest.mark.parametrize("output_size", [None, (4, 5, 7)])
def test_volumes_are_observed_and_drawn_by_their_middle_slices(rng, output_size):
    pytest.importorskip("matplotlib")
    from stn_keras import observe

    model = model_of_volumes(rng, output_size=output_size)
    volumes = rng.integers(0, 256, (3, 6, 8, 10, 1), np.uint8)
    sight = observe.observe(model, volumes)["st"]
    out = output_size or (6, 8, 10)
    assert sight.grid.shape == (3, *out, 3) and sight.matrix.shape == (3, 3, 4)
    figure = observe.draw(model, volumes)["st"]
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert len(shown) == 6 * 3
    for row, (axis, length) in enumerate(zip((1, 2, 3), (6, 8, 10))):
        for k in range(3):
            assert_array_equal(shown[6 * row + k], volumes[k, ..., 0].take(length // 2, axis - 1))
            warped = 255 * sight.warped[k, ..., 0].take(out[axis - 1] // 2, axis - 1)
            assert_allclose(shown[6 * row + 3 + k], warped, atol=0.6)


def test_decompose_undoes_composition(rng):
    pytest.importorskip("matplotlib")
    from stn_keras.observe import decompose

    count = 50
    scales = rng.uniform(0.5, 2, (count, 3)) * [[1, 1, s] for s in rng.choice([-1, 1], count)]
    shears, shifts = rng.uniform(-1, 1, (2, count, 3))
    axes = rng.normal(size=(count, 3))
    angles = rng.uniform(0, math.pi, count)
    angles[:4] = 0, 1e-9, math.pi - 1e-9, math.pi / 2
    vectors = axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles[:, None]
    theta = np.zeros((count, 3, 4))
    for k, (vector, (xy, xz, yz)) in enumerate(zip(vectors, shears)):
        shear = [[1, xy, xz], [0, 1, yz], [0, 0, 1]]
        theta[k, :, :3] = exponential(vector) @ shear @ np.diag(scales[k])
    theta[:, :, 3] = shifts
    found = decompose(theta.reshape(count, 12))
    for k, axis in enumerate("xyz"):
        assert_allclose(found[f"scale_{axis}"], scales[:, k])
        assert_allclose(found[f"translation_{axis}"], shifts[:, k])
        assert_allclose(np.radians(found[f"rotation_{axis}"]), vectors[:, k], atol=1e-7)
    for k, axes in enumerate(["xy", "xz", "yz"]):
        assert_allclose(found[f"shear_{axes}"], shears[:, k], atol=1e-9)
    still = decompose(np.eye(3, 4)[None])
    assert all(still[name] == ("scale" in name) for name in still)
    with np.errstate(all="raise"):
        decompose(np.zeros((1, 12)))
