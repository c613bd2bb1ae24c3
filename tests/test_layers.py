"""`SpatialTransformer`: its values, gradients and options, and its behaviour as a Keras layer."""

import copy
import functools
import inspect
import pathlib
import pydoc

import keras
import numpy as np
import pytest
import reference
from autodiff import compiled, derivative, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import stn_keras
from stn_keras import (
    DenseWarp,
    Orientation,
    SpatialTransformer,
    VelocityIntegration,
    localization,
    transforms,
)
from stn_keras.sampler.coordinates import to_grid

FILL_MODES = ["constant", "nearest", "reflect"]
IDENTITY = np.array([1, 0, 0, 0, 1, 0], "float32")
THETA = [0.8, -0.3, 0.1, 0.25, 1.1, -0.2]


def first_fast(*cases):
    """The first case runs on every backend; the others are slow tests."""
    return [cases[0], *(pytest.param(case, marks=pytest.mark.slow) for case in cases[1:])]


def localize(theta=None, data_format="channels_last", features=5, transform="affine"):
    """A network for images of any size: a fresh one, or one that starts at `theta`."""
    return keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(data_format=data_format),
            keras.layers.Dense(features, activation="tanh"),
            localization.head(transform, start=theta),
        ],
        name="localize",
    )


def trained(layer, rng):
    """The same layer, its localization network no longer at its initial weights."""
    for weight in layer.trainable_weights:
        weight.assign_add(rng.uniform(-0.2, 0.2, weight.shape))
    return layer


def random_images(rng, size=(6, 9), batch=2, channels=3):
    return rng.uniform(-1, 1, (batch, *size, channels)).astype("float32")


def random_theta(rng, batch=2):
    return (IDENTITY + rng.uniform(-0.5, 0.5, (batch, 6))).astype("float32")


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def check_identity(rng, policy, size, network=None, **options):
    network = localize() if network is None else network
    layer = SpatialTransformer(network, dtype=policy, fill_value=(0.5, 1, 2), **options)
    images = ops.cast(random_images(rng, size), layer.compute_dtype)
    warped = layer(images)
    assert dtype_of(warped) == layer.compute_dtype
    assert_array_equal(float64(warped), float64(images))


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_a_fresh_layer_returns_its_input_under_every_interpolation(rng, quick, interpolation):
    check_identity(rng, "float32", (11, 17), interpolation=interpolation)


@pytest.mark.parametrize(
    "policy", first_fast("mixed_bfloat16", "float32", "float64", "mixed_float16")
)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_fresh_layer_returns_its_input(rng, quick, fill_mode, align_corners, policy):
    for size in [(37, 53), (1, 5), (100, 3)]:
        check_identity(rng, policy, size, fill_mode=fill_mode, align_corners=align_corners)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "fill_mode", "align_corners", "size"),
    [
        ("float32", "constant", False, (37, 53)),
        ("float32", "constant", True, (28, 41)),
        ("float32", "nearest", False, (19, 7)),
        ("float32", "reflect", True, (11, 97)),
        ("float64", "nearest", True, (1, 300)),
        ("mixed_bfloat16", "reflect", False, (37, 53)),
    ],
)
def test_a_fresh_compiled_layer_returns_its_input(rng, policy, fill_mode, align_corners, size):
    check_identity(rng, policy, size, fill_mode=fill_mode, align_corners=align_corners)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("output_size", first_fast((4, 12), None, (1, 1)))
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_warp_is_the_reference(rng, quick, fill_mode, output_size, align_corners):
    images, theta = random_images(rng), random_theta(rng)
    options = {"fill_mode": fill_mode, "fill_value": -2.0, "align_corners": align_corners}
    warped = SpatialTransformer(output_size=output_size, **options)([images, theta])
    grid = reference.affine_grid(theta, output_size or (6, 9), align_corners)
    assert_allclose(float64(warped), reference.grid_sample(images, grid, **options), atol=1e-5)


@pytest.mark.parametrize("mode", ["plain", "compiled"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_warp_is_grid_sample_of_affine_grid(rng, request, data_format, mode):
    if mode == "plain":
        request.getfixturevalue("uncompiled")
    theta = random_theta(rng)
    layer = SpatialTransformer(output_size=(7, 4), data_format=data_format, fill_value=(1, 2, 3))
    images = random_images(rng)
    images = images.transpose(0, 3, 1, 2) if data_format == "channels_first" else images
    warped = layer([images, theta])
    wanted = stn_keras.grid_sample(
        images, layer.grid(theta, (7, 4)), fill_value=(1, 2, 3), data_format=data_format
    )
    assert warped.shape == wanted.shape
    assert warped.shape == layer.compute_output_shape([images.shape, theta.shape])
    assert_allclose(float64(warped), float64(wanted), atol=1e-5)


def test_a_network_sees_the_images_and_its_theta_warps_them(rng, quick):
    layer = SpatialTransformer(localize(), data_format="channels_last")
    images = random_images(rng)
    layer(images)
    trained(layer, rng)
    theta = layer.theta(images)
    assert_array_equal(float64(theta), float64(layer.localization(images)))
    assert np.ptp(float64(theta), axis=0).max() > 0
    assert_array_equal(float64(layer(images)), float64(SpatialTransformer()([images, theta])))


def test_channels_first_with_a_network(rng, quick):
    images = random_images(rng)
    first = SpatialTransformer(
        localize(THETA, data_format="channels_first"), data_format="channels_first"
    )(images.transpose(0, 3, 1, 2))
    last = SpatialTransformer(localize(THETA))(images)
    assert_array_equal(float64(first).transpose(0, 2, 3, 1), float64(last))


def other_formats():
    """Networks that read images in channels_last, each of another kind."""
    pooling = keras.layers.GlobalAveragePooling2D(data_format="channels_last")
    x = keras.Input((3, 6, 9))
    yield pooling
    yield localization.cnn(data_format="channels_last")
    yield keras.Sequential([keras.layers.ReLU(), pooling, localization.head()])
    yield keras.Sequential([keras.Sequential([pooling]), localization.head()])
    yield keras.Model(x, localization.head()(pooling(keras.layers.Rescaling(2)(x))))


def test_a_network_of_another_format_is_refused():
    for network in other_formats():
        with pytest.raises(ValueError, match="`localization` must read.*of 'channels_last'$"):
            SpatialTransformer(network, data_format="channels_first")


class Pooled(keras.layers.GlobalAveragePooling2D):
    """A user's layer that takes images of both formats."""


@pytest.mark.parametrize(
    "first",
    [
        keras.layers.Permute((2, 3, 1)),
        keras.layers.Lambda(lambda images: ops.moveaxis(images, 1, -1), output_shape=(6, 9, 3)),
        keras.layers.Flatten(data_format="channels_last"),
        Pooled(data_format="channels_last"),
    ],
)
def test_a_network_that_may_move_the_channels_is_taken(rng, quick, first):
    rest = []
    if isinstance(first, (keras.layers.Permute, keras.layers.Lambda)):
        rest = [keras.layers.AveragePooling2D(3, data_format="channels_last")]
    network = [first, *rest, keras.layers.Flatten(), localization.head()]
    layer = SpatialTransformer(keras.Sequential(network), data_format="channels_first")
    images = random_images(rng).transpose(0, 3, 1, 2)
    assert_array_equal(float64(layer(images)), images)


def test_a_functional_network_that_moves_the_channels_is_taken(rng, quick):
    x = keras.Input((3, 6, 9))
    maps = keras.layers.AveragePooling2D(3, data_format="channels_last")(ops.moveaxis(x, 1, -1))
    network = keras.Model(x, localization.head()(keras.layers.Flatten()(maps)))
    images = random_images(rng).transpose(0, 3, 1, 2)
    layer = SpatialTransformer(network, data_format="channels_first")
    assert_array_equal(float64(layer(images)), images)


@pytest.mark.parametrize("policy", first_fast("mixed_bfloat16", "mixed_float16"))
def test_theta_keeps_float32_under_mixed_precision(rng, quick, set_policy, policy):
    set_policy(policy)
    # A ramp that rises by 1 per pixel, so the warped values are coordinates, rounded to the dtype.
    columns = np.arange(16, dtype="float32")
    images = np.broadcast_to(columns[None, None, :, None], (1, 1, 16, 1)).copy()
    theta = [0.001, 0, 0.0003 - 0.9375, 0, 1, 0]  # around pixel 0, at up to 0.01 pixels
    warp = {"fill_mode": "nearest", "output_size": (1, 16)}
    wanted = reference.grid_sample(images, reference.affine_grid(theta, (1, 16)), "nearest")
    x = keras.Input((1, 16, 1)), keras.Input((6,))
    functional = keras.Model(x, SpatialTransformer(**warp)(list(x)))
    given = [ops.convert_to_tensor(images), ops.convert_to_tensor([theta], "float32")]
    for warped in (
        SpatialTransformer(localize(theta), **warp)(images),
        SpatialTransformer(**warp)(given),
        functional(given),
    ):
        assert dtype_of(warped) == policy.removeprefix("mixed_")
        assert_allclose(float64(warped), wanted, rtol=0.01, atol=1e-4)


def weighted_sum(layer, upstream):
    """A scalar function of images and the layer's weights, and the values of these weights."""

    def loss(images, *weights):
        warped, _ = layer.stateless_call(weights, layer.non_trainable_variables, images)
        return ops.sum(warped * ops.cast(upstream, warped.dtype))

    return loss, [ops.convert_to_numpy(weight) for weight in layer.trainable_variables]


def test_gradients_reach_the_network_and_the_images(rng, quick):
    layer = SpatialTransformer(localize())
    images = random_images(rng)
    layer(images)
    trained(layer, rng)
    loss, weights = weighted_sum(layer, rng.normal(size=images.shape))
    found = derivative(loss)(images, *weights)
    assert len(found) == 5
    for gradient in found:
        assert np.abs(float64(gradient)).max() > 0


def test_gradient_with_respect_to_theta_is_finite_differences(rng, quick):
    layer = SpatialTransformer(dtype="float64", fill_mode="nearest")
    images = random_images(rng, (4, 5)).astype("float64")
    theta = random_theta(rng).astype("float64")
    upstream = rng.normal(size=images.shape)
    (gradient,) = gradients(lambda theta: layer([images, theta]), [theta], upstream)

    def value(theta):
        grid = reference.affine_grid(theta, (4, 5))
        return np.sum(upstream * reference.grid_sample(images, grid, "nearest"), (1, 2, 3))

    for n, step in enumerate(1e-7 * np.eye(6)):
        wanted = (value(theta + step) - value(theta - step)) / 2e-7
        assert_allclose(float64(gradient)[:, n], wanted, rtol=1e-5, atol=1e-5)


def test_gradient_scale_scales_theta_s_gradient_alone(rng, quick):
    inputs = random_images(rng), random_theta(rng)
    results = []
    for layer in (SpatialTransformer(), SpatialTransformer(gradient_scale=0.3)):
        found = gradients(lambda *inputs, layer=layer: layer(list(inputs)), inputs, 1)
        results.append([float64(x) for x in (layer(list(inputs)), *found)])
    (values, to_images, to_theta), (same, same_to_images, scaled) = results
    assert_array_equal(values, same)
    assert_array_equal(to_images, same_to_images)
    assert_allclose(0.3 * to_theta, scaled, rtol=1e-6)


def mean_of_blocks(images, side):
    """`(batch, height, width, channels)`, each square block averaged."""
    batch, height, width, channels = images.shape
    blocks = images.reshape(batch, height // side, side, width // side, side, channels)
    return blocks.mean((2, 4))


@pytest.mark.parametrize("antialias", first_fast(2, 1, 3))
@pytest.mark.parametrize("output_size", first_fast((2, 5), None))
def test_antialias_averages_a_finer_warp(rng, quick, output_size, antialias):
    images, theta = random_images(rng), random_theta(rng).astype("float64")
    height, width = output_size or (6, 9)
    fine_size = (antialias * height, antialias * width)
    for dtype, atol in (("float32", 1e-5), ("float64", 1e-12)):
        layer = SpatialTransformer(output_size=output_size, antialias=antialias, dtype=dtype)
        warped = layer([images, theta])
        assert warped.shape == layer.compute_output_shape([images.shape, theta.shape])
        fine = SpatialTransformer(output_size=fine_size, dtype=dtype)([images, theta])
        assert_allclose(float64(warped), mean_of_blocks(float64(fine), antialias), atol=atol)


@pytest.mark.slow
def test_antialias_of_channels_first_and_of_every_transform(rng, quick):
    images = random_images(rng)
    for transform in (transforms.Similarity(), transforms.ThinPlateSpline((2, 3))):
        theta = rng.uniform(-0.3, 0.3, (2, transform.num_parameters)) + transform.identity
        options = {"transform": transform, "output_size": (3, 4), "antialias": 2}
        last = SpatialTransformer(**options)([images, theta])
        first = SpatialTransformer(data_format="channels_first", **options)(
            [images.transpose(0, 3, 1, 2), theta]
        )
        assert_array_equal(float64(first).transpose(0, 2, 3, 1), float64(last))
        # Angles are those of the input, not of a grid with another aspect ratio.
        coordinates = transform.pixels(theta, (6, 9), (6, 8), align_corners=False)
        grid = to_grid(coordinates, (6, 9), align_corners=False)
        wanted = mean_of_blocks(reference.grid_sample(images, float64(grid)), 2)
        assert_allclose(float64(last), wanted, atol=1e-5)


@pytest.mark.slow
def test_the_mean_of_antialias_is_taken_wide(quick):
    columns = np.array([256.0, 258.0, 258.0] * 4, "float32")
    images = np.broadcast_to(columns[:, None], (1, 12, 12, 1)).copy()
    half_a_pixel = np.array([[1, 0, 1 / 12, 0, 1, 0]], "float32")
    layer = SpatialTransformer(
        output_size=(2, 2), antialias=6, fill_mode="reflect", dtype="mixed_bfloat16"
    )
    warped = layer([images, half_a_pixel])
    assert dtype_of(warped) == "bfloat16"
    # The mean of 257, 258 and 257, in a dtype that rounds 257 to 256.
    assert_array_equal(float64(warped), np.full((1, 2, 2, 1), 258))


def shrunk(image, shift, antialias, zoom=1.0):
    """A square image at an eighth of its size, `shift` of its pixels along."""
    length = image.shape[0]
    theta = np.array([[zoom, 0, 2 * shift / length, 0, zoom, 0]], "float32")
    size = (length // 8, length // 8)
    layer = SpatialTransformer(output_size=size, antialias=antialias, fill_mode="reflect")
    return float64(layer([image[None, :, :, None], theta]))


@pytest.mark.slow
def test_antialias_keeps_fine_stripes_from_flickering_as_they_move(quick):
    stripes = np.tile([0, 1], (64, 32)).astype("float32")
    shifts = np.arange(0, 2, 0.25)
    plain, averaged = (
        np.array([shrunk(stripes, shift, antialias).mean() for shift in shifts])
        for antialias in (1, 8)
    )
    assert np.ptp(plain) > 0.9  # a uniform image that turns from black to white and back
    assert_allclose(averaged, 0.5, atol=0.02)  # the mirrored edge is a stripe of twice the width


@pytest.mark.slow
def test_antialias_keeps_moire_from_a_fine_pattern(quick):
    rows, columns = np.mgrid[:96, :96]
    checkers = ((rows + columns) % 2).astype("float32")
    fringes = shrunk(checkers, 0.3, antialias=1, zoom=0.93)
    assert fringes.std() > 0.15  # a coarse pattern that nobody drew
    assert shrunk(checkers, 0.3, antialias=8, zoom=0.93).std() < 0.15 / 8
    assert_allclose(shrunk(checkers, 0.3, antialias=8, zoom=0.93), 0.5, atol=0.05)


def test_gradients_through_antialias_are_finite_differences(rng, quick):
    layer = SpatialTransformer(dtype="float64", output_size=(2, 3), antialias=2)
    images = random_images(rng, (4, 5)).astype("float64")
    theta = random_theta(rng).astype("float64")
    upstream = rng.normal(size=(2, 2, 3, 3))
    found = gradients(lambda *inputs: layer(list(inputs)), [images, theta], upstream)

    def value(images, theta):
        fine = reference.grid_sample(images, reference.affine_grid(theta, (4, 6)))
        return np.sum(upstream * mean_of_blocks(fine, 2))

    for _ in range(4):
        along = [rng.normal(size=x.shape) for x in (images, theta)]
        ahead, behind = (
            value(*(x + step * a for x, a in zip((images, theta), along))) for step in (1e-7, -1e-7)
        )
        slope = sum(np.sum(float64(gradient) * a) for gradient, a in zip(found, along))
        assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-5, atol=1e-5)


MATRIX_TRANSFORMS = ["attention", "box", "rigid", "similarity", "affine", "projective"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", MATRIX_TRANSFORMS)
def test_a_fresh_layer_of_several_iterations_returns_its_input(
    rng, quick, name, align_corners, policy
):
    options = {"transform": name, "iterations": 3, "align_corners": align_corners}
    for size in [(11, 37), (1, 5), (4, 1)]:
        check_identity(rng, policy, size, localize(transform=name), **options)


def matrix_grid(matrix, size, align_corners):
    """The reference's grid of 3×3 matrices."""
    positions = reference.affine_grid(IDENTITY, size, align_corners).reshape(1, -1, 2)
    homogeneous = np.concatenate([positions, np.ones_like(positions[..., :1])], -1)
    mapped = homogeneous @ matrix.transpose(0, 2, 1)
    return (mapped[..., :2] / mapped[..., 2:]).reshape(-1, *size, 2)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", first_fast("projective", *MATRIX_TRANSFORMS[:-1]))
def test_iterations_apply_the_network_to_the_warped_images(rng, quick, name, align_corners):
    images, size = random_images(rng), (6, 9)
    options = {"transform": name, "align_corners": align_corners, "fill_mode": "nearest"}
    layer = SpatialTransformer(
        localize(transform=name), iterations=3, output_size=(7, 4), **options
    )
    layer(images)
    trained(layer, rng)

    def by_hand(matrix, size):
        grid = matrix_grid(matrix, size, align_corners)
        return reference.grid_sample(images, grid, "nearest", align_corners=align_corners)

    matrix, seen = np.eye(3), images
    steps = [length - 1 if align_corners else length for length in size]
    for _ in range(3):
        theta = layer.localization(seen.astype("float32"))
        matrix = matrix @ float64(layer.transform.matrix(theta, steps))
        seen = by_hand(matrix, size)
    warped = layer(images)
    assert warped.shape == (2, 7, 4, 3)
    assert_allclose(float64(warped), by_hand(matrix, (7, 4)), atol=1e-4)
    # A single application of the network gives something else.
    once = by_hand(float64(layer.transform.matrix(layer.localization(images), steps)), (7, 4))
    assert np.abs(float64(warped) - once).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX_TRANSFORMS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_theta_and_grid_of_several_iterations_say_what_the_warp_does(rng, quick, data_format, name):
    images = random_images(rng)
    images = images.transpose(0, 3, 1, 2) if data_format == "channels_first" else images
    options = {"data_format": data_format, "output_size": (7, 4)}
    network = localize(data_format=data_format, transform=name)
    layer = SpatialTransformer(network, transform=name, iterations=2, **options)
    layer(images)
    trained(layer, rng)
    theta = layer.theta(images)
    wanted = transforms.Projective() if name == "projective" else transforms.Affine()
    assert layer.warped_by == wanted
    assert layer.transform == transforms.get(name)
    assert theta.shape == (2, wanted.num_parameters)
    warped = float64(layer(images))
    sampled = stn_keras.grid_sample(images, layer.grid(theta, (7, 4)), data_format=data_format)
    assert_allclose(warped, float64(sampled), atol=1e-5)
    given = SpatialTransformer(transform=wanted, **options)([images, theta])
    assert_allclose(warped, float64(given), atol=1e-5)


def test_one_iteration_keeps_the_transform_s_own_parameters(rng, quick):
    layer = SpatialTransformer(localize(transform="similarity"), transform="similarity")
    assert layer.warped_by == transforms.Similarity()
    assert layer.theta(random_images(rng)).shape == (2, 4)


def test_antialias_and_iterations_go_together(rng, quick):
    images = random_images(rng)
    layer = SpatialTransformer(localize(), output_size=(3, 4), antialias=2, iterations=2)
    layer(images)
    trained(layer, rng)
    fine = SpatialTransformer(output_size=(6, 8))([images, layer.theta(images)])
    assert_allclose(float64(layer(images)), mean_of_blocks(float64(fine), 2), atol=1e-5)
    # The network sees plain warps, without the options of the last one.
    plain = SpatialTransformer(copy.deepcopy(layer.localization), iterations=2)
    assert_array_equal(float64(layer.theta(images)), float64(plain.theta(images)))


def functional_pair(theta=None):
    moving, fixed = keras.Input((6, 9, 3)), keras.Input((4, 5, 1))
    pooled = [keras.layers.GlobalAveragePooling2D()(x) for x in (moving, fixed)]
    features = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()(pooled))
    return keras.Model([moving, fixed], localization.head(start=theta)(features), name="pair")


def sequential_pair(theta=None):
    return keras.Sequential(
        [
            keras.layers.Concatenate(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="tanh"),
            localization.head(start=theta),
        ],
        name="pair",
    )


@keras.saving.register_keras_serializable("tests")
class OwnPair(keras.Layer):
    def __init__(self, theta=None, **options):
        super().__init__(**options)
        self.head = localization.head(start=theta)

    def build(self, input_shape):
        self.head.build((None, sum(shape[-1] for shape in input_shape)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], 6)

    def call(self, inputs):
        return self.head(ops.concatenate([ops.mean(x, (1, 2)) for x in inputs], -1))


PAIRS = [functional_pair, sequential_pair, OwnPair]
every_pair = pytest.mark.parametrize("network", first_fast(*PAIRS))


def pair_of(rng, network):
    """A moving and a fixed image, of different sizes if the network allows it."""
    if network is sequential_pair:
        return [random_images(rng), random_images(rng)]
    return [random_images(rng), random_images(rng, (4, 5), channels=1)]


@every_pair
@pytest.mark.parametrize("iterations", [1, 3])
def test_a_network_of_several_inputs_sees_them_all(rng, quick, network, iterations):
    moving, fixed = pair_of(rng, network)
    layer = SpatialTransformer(
        network(), iterations=iterations, output_size=(7, 4), fill_mode="nearest"
    )
    layer.build([moving.shape, fixed.shape])
    trained(layer, rng)

    def by_hand(matrix, size):
        return reference.grid_sample(moving, matrix_grid(matrix, size, False), "nearest")

    matrix, seen = np.eye(3), moving
    for _ in range(iterations):
        theta = layer.localization([seen.astype("float32"), fixed])
        matrix = matrix @ float64(layer.transform.matrix(theta))
        seen = by_hand(matrix, (6, 9))
    found = layer.theta([moving, fixed])
    assert_allclose(float64(found).reshape(-1, 2, 3), matrix[:, :2], atol=1e-5)
    for inputs in ([moving, fixed], (moving, fixed)):
        warped = layer(inputs)
        assert warped.shape == (2, 7, 4, 3)
        assert_allclose(float64(warped), by_hand(matrix, (7, 4)), atol=1e-4)
    assert np.abs(float64(layer([moving, fixed + 1])) - float64(warped)).max() > 1e-3


@every_pair
def test_models_with_a_network_of_several_inputs_load_and_clone(rng, tmp_path, quick, network):
    inputs = pair_of(rng, network)
    x = [keras.Input(array.shape[1:]) for array in inputs]
    layer = SpatialTransformer(network(), iterations=2, output_size=(4, 5), name="warp")
    model = trained(keras.Model(x, layer(x)), rng)
    assert model.output_shape == (None, 4, 5, 3)
    model.save(tmp_path / "pair.keras")
    again = keras.saving.load_model(tmp_path / "pair.keras", safe_mode=True)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (again, clone):
        assert other.count_params() == model.count_params() > 0
        assert_array_equal(float64(other(inputs)), float64(model(inputs)))


def test_gradients_reach_every_input_of_the_network(rng, quick):
    inputs = pair_of(rng, functional_pair)
    layer = SpatialTransformer(functional_pair(THETA), iterations=2)
    layer(inputs)
    trained(layer, rng)
    upstream = rng.normal(size=inputs[0].shape)
    for gradient in gradients(lambda *inputs: layer(list(inputs)), inputs, upstream):
        assert np.abs(float64(gradient)).max() > 0


def test_several_inputs_of_channels_first(rng, quick):
    inputs = pair_of(rng, OwnPair)
    last = SpatialTransformer(OwnPair(THETA))(inputs)
    turned = [np.moveaxis(array, -1, 1).copy() for array in inputs]
    x = [keras.Input(array.shape[1:]) for array in turned]
    pooling = keras.layers.GlobalAveragePooling2D(data_format="channels_first")
    features = keras.layers.Concatenate()([pooling(tensor) for tensor in x])
    network = keras.Model(x, localization.head(start=THETA)(features))
    first = SpatialTransformer(network, data_format="channels_first")(turned)
    assert_array_equal(float64(first).transpose(0, 2, 3, 1), float64(last))


class Linear(keras.Layer):
    """Averages regressed to theta; Keras's `mean` and `Dense` round float64 on some backends."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 6), initializer="zeros")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 6)

    def call(self, images):
        features = ops.sum(images, axis=(1, 2)) / (images.shape[1] * images.shape[2])
        return ops.sum(features[:, :, None] * self.kernel, axis=1) + ops.cast(IDENTITY, self.dtype)


def test_gradients_through_iterations_are_finite_differences(rng, quick):
    layer = SpatialTransformer(
        Linear(dtype="float64"), iterations=2, dtype="float64", fill_mode="nearest"
    )
    images = random_images(rng, (4, 5)).astype("float64")
    layer(images)
    loss, weights = weighted_sum(layer, rng.normal(size=images.shape))
    at = [images, *(w + rng.uniform(-0.5, 0.5, w.shape) for w in weights)]
    found = derivative(loss)(*at)
    for _ in range(4):
        along = [rng.normal(size=x.shape) for x in at]
        ahead, behind = (
            float64(loss(*(ops.convert_to_tensor(x + step * a) for x, a in zip(at, along))))
            for step in (1e-7, -1e-7)
        )
        slope = sum(np.sum(float64(gradient) * a) for gradient, a in zip(found, along))
        assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-5, atol=1e-5)


def functional_model():
    images = keras.Input((None, None, 3))
    return keras.Model(images, SpatialTransformer(localize(THETA), name="warp")(images))


def sequential_model():
    return keras.Sequential([SpatialTransformer(localize(THETA), name="warp")])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.warp = SpatialTransformer(localize(THETA))

    def call(self, images):
        return self.warp(images)


MODELS = [functional_model, sequential_model, Subclassed]


@pytest.mark.parametrize("model", MODELS)
def test_models_of_every_kind_predict_and_list_the_network_s_weights(rng, quick, model):
    images = random_images(rng)
    model = model()
    warped = model(images)
    grid = reference.affine_grid([THETA] * 2, (6, 9))
    assert_allclose(float64(warped), reference.grid_sample(images, grid), atol=1e-5)
    assert len(model.trainable_weights) == 4
    assert model.count_params() == 3 * 5 + 5 + 5 * 6 + 6


def test_a_sequence_of_images_is_warped_frame_by_frame(rng, quick):
    frames = random_images(rng, (3, 6, 9))
    layer = SpatialTransformer(localize(), output_size=(4, 5))
    over_time = keras.layers.TimeDistributed(layer)
    assert over_time(keras.Input((3, 6, 9, 3))).shape == (None, 3, 4, 5, 3)
    trained(layer, rng)
    warped = over_time(frames)
    for k in range(3):
        assert_array_equal(float64(warped)[:, k], float64(layer(frames[:, k])))


def test_predict_on_sizes_unknown_to_the_model(rng):
    model = functional_model()
    assert model.output_shape == (None, None, None, 3)
    for size in [(6, 9), (8, 5)]:
        images = random_images(rng, size)
        wanted = reference.grid_sample(images, reference.affine_grid([THETA] * 2, size))
        assert_allclose(model.predict(images, verbose=0), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX and PyTorch see sizes")
@pytest.mark.parametrize("transform", ["similarity", "projective"])
def test_antialias_and_iterations_on_sizes_unknown_to_tensorflow(rng, transform):
    import tensorflow as tf

    layer = SpatialTransformer(
        localize(transform=transform), transform=transform, antialias=2, iterations=2
    )
    layer.build((None, None, None, 3))
    trained(layer, rng)
    unknown = tf.TensorSpec((None, None, None, 3))
    graph = tf.function(layer, input_signature=[unknown], autograph=False)
    for size in [(6, 9), (8, 5)]:
        images = random_images(rng, size)
        assert_allclose(graph(images), layer(images), atol=1e-5)


def test_a_layer_takes_its_size_from_each_input(rng, quick):
    layer = SpatialTransformer(localize())
    for size in [(6, 9), (4, 4)]:
        images = random_images(rng, size)
        assert_array_equal(float64(layer(images)), images)


@pytest.fixture
def captured(monkeypatch):
    """`torch.compile` without the generation of C++, which takes minutes."""
    if keras.backend.backend() == "torch":
        import torch

        capture = functools.partial(torch.compile, backend="aot_eager")
        monkeypatch.setattr(torch, "compile", capture)


WAYS_TO_RUN = pytest.mark.parametrize(
    "way",
    [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}],
    ids=["eager", "uncompiled", "compiled"],
)


@WAYS_TO_RUN
def test_eager_graph_and_compiled_models_agree(rng, captured, way):
    images = random_images(rng)
    model = functional_model()
    model.compile(**way)
    wanted = reference.grid_sample(images, reference.affine_grid([THETA] * 2, (6, 9)))
    assert_allclose(model.predict(images, verbose=0), wanted, atol=1e-5)


def check_training(model, images, targets):
    """Two steps of `fit` have a finite loss and move every weight."""
    model(images)
    before = [float64(weight) for weight in model.trainable_weights]
    history = model.fit(images, targets, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    for weight, initial in zip(model.trainable_weights, before):
        assert dtype_of(weight) == "float32"
        assert np.all(np.isfinite(float64(weight)))
        assert np.any(float64(weight) != initial)


def sequence_model():
    frames = keras.Input((2, 6, 9, 3))
    layer = SpatialTransformer(localize(THETA))
    return keras.Model(frames, keras.layers.TimeDistributed(layer)(frames))


@pytest.mark.slow
@WAYS_TO_RUN
def test_iterations_and_antialias_train_in_every_way(rng, way):
    if keras.backend.backend() == "torch" and way == {"jit_compile": True}:
        pytest.skip("It passes, after the minutes that torch.compile needs to trace a step")
    model = keras.Sequential(
        [SpatialTransformer(localize(), output_size=(3, 4), iterations=2, antialias=2)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", **way)
    images = random_images(rng)
    check_training(model, images, images[:, 2:5, 3:7])


@pytest.mark.parametrize("model", first_fast(*MODELS, sequence_model))
def test_models_of_every_kind_train(rng, quick, model):
    images = random_images(rng, (2, 6, 9) if model is sequence_model else (6, 9))
    model = model()
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    check_training(model, images, np.roll(images, 1, -2))


@pytest.mark.parametrize("policy", first_fast("mixed_bfloat16", "mixed_float16"))
def test_training_under_mixed_precision(rng, request, set_policy, policy):
    set_policy(policy)
    if policy == "mixed_float16":
        request.getfixturevalue("uncompiled")
    model = sequential_model()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    images = random_images(rng)
    check_training(model, images, np.roll(images, 1, 1))
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")


OPTIONS = {
    "transform": transforms.Affine(),
    "output_size": (4, 12),
    "interpolation": "bilinear",
    "fill_mode": "reflect",
    "fill_value": (0.5, 1.0, 2.0),
    "align_corners": True,
    "data_format": "channels_last",
    "antialias": 1,
    "iterations": 3,
    "gradient_scale": 0.5,
}


def test_config_round_trip_keeps_every_option():
    parameters = set(inspect.signature(SpatialTransformer).parameters)
    assert parameters == {"localization", *OPTIONS, "kwargs"}
    for options in (OPTIONS, {**OPTIONS, "align_corners": False, "antialias": 2}):
        layer = SpatialTransformer(localize(), name="warp", dtype="mixed_bfloat16", **options)
        again = SpatialTransformer.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert {name: getattr(again, name) for name in options} == options
        assert again.name == "warp"
        assert again.compute_dtype == "bfloat16"
        assert [type(a) for a in again.localization.layers] == [
            type(a) for a in layer.localization.layers
        ]


def test_help_and_signature_show_every_default():
    shown = pydoc.plain(pydoc.render_doc(SpatialTransformer))
    assert "interpolation: str = 'bilinear'" in shown.partition("Warps each image")[0]
    defaults = {
        name: p.default for name, p in inspect.signature(SpatialTransformer).parameters.items()
    }
    wanted = {"localization": None, "transform": "affine", "iterations": 1, "gradient_scale": 1.0}
    assert wanted.items() <= defaults.items()


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        SpatialTransformer(localize(), "affine")


def saved_models(rng, folder):
    """Models that contain a network, and an equal one that is given images and theta."""
    images, frames, theta = random_images(rng), random_images(rng, (2, 6, 9)), random_theta(rng)
    fine = {"antialias": 2, "iterations": 2, "transform": transforms.Similarity(max_rotation=1)}
    sequence = sequence_model()
    x = keras.Input((6, 9, 3))
    nested, finer = (
        keras.Model(x, SpatialTransformer(network, name="warp", **options)(x))
        for network, options in ((localize(), OPTIONS), (localize(transform="similarity"), fine))
    )
    for model in (nested, finer, sequence):
        trained(model, rng)
    inputs = [keras.Input((6, 9, 3)), keras.Input((2, 3))]
    given = keras.Model(inputs, SpatialTransformer(fill_value=0.5)(inputs))
    for name, model, data in (
        ("nested", nested, images),
        ("finer", finer, images),
        ("sequence", sequence, frames),
        ("given", given, [images, theta.reshape(2, 2, 3)]),
    ):
        model.save(folder / f"{name}.keras")
        yield name, model, data


def test_saved_models_load_and_predict_the_same(rng, tmp_path, quick):
    for name, model, data in saved_models(rng, tmp_path):
        again = keras.saving.load_model(tmp_path / f"{name}.keras", safe_mode=True)
        assert_array_equal(float64(again(data)), float64(model(data)))
        assert again.count_params() == model.count_params()


GOLDEN = pathlib.Path(__file__).parent / "golden"


def test_a_file_of_before_networks_could_be_shared_loads(quick):
    """`golden/layers.keras`, saved at revision 73d1b59, and its outputs in `layers.npz`."""
    model = keras.saving.load_model(GOLDEN / "layers.keras", safe_mode=True)
    arrays = np.load(GOLDEN / "layers.npz")
    outputs = model([arrays["images"], arrays["theta"]])
    for output, name in zip(outputs, ("seen", "given", "maps"), strict=True):
        assert_allclose(float64(output), arrays[name], atol=1e-5)


def test_cloned_models_predict_the_same(rng, tmp_path, quick):
    for _, model, data in saved_models(rng, tmp_path):
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        assert_array_equal(float64(clone(data)), float64(model(data)))
        assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}


@pytest.mark.parametrize(
    ("output_size", "wanted"), [(None, (None, 6, 9, 3)), ((4, 12), (None, 4, 12, 3))]
)
def test_compute_output_shape(output_size, wanted):
    with_network = SpatialTransformer(localize(), output_size=output_size)
    assert with_network.compute_output_shape((None, 6, 9, 3)) == wanted
    assert with_network(keras.Input((6, 9, 3))).shape == wanted
    given = SpatialTransformer(output_size=output_size)
    assert given.compute_output_shape([(None, 6, 9, 3), (None, 6)]) == wanted
    first = SpatialTransformer(output_size=output_size, data_format="channels_first")
    shape = first.compute_output_shape([(None, 3, 6, 9), (None, 6)])
    assert shape == (None, 3, *wanted[1:3])


@pytest.mark.slow
def test_the_compiled_warp_is_the_plain_one(rng, fused):
    layer = SpatialTransformer(output_size=(4, 12), fill_value=0.5, antialias=2)
    inputs = [random_images(rng), random_theta(rng)]

    def results(images, theta):
        warped = layer([images, theta])
        return [warped, *gradients(lambda *x: layer(list(x)), [images, theta], 1)]

    tensors = [ops.convert_to_tensor(x) for x in inputs]
    for found, wanted in zip(compiled(results)(*tensors), results(*tensors)):
        assert_allclose(float64(found), float64(wanted), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "value", "received"),
    [
        ("localization", "cnn", "localization='cnn'"),
        ("localization", 6, "localization=6"),
        ("transform", "afine", "transform='afine'"),
        ("transform", None, "transform=None"),
        ("output_size", 7, "output_size=7"),
        ("output_size", (0, 7), "output_size=(0, 7)"),
        ("interpolation", "cubic", "interpolation='cubic'"),
        ("fill_mode", "zeros", "fill_mode='zeros'"),
        ("fill_value", "red", "fill_value='red'"),
        ("data_format", "NHWC", "data_format='NHWC'"),
        *((name, 0, f"{name}=0") for name in ("antialias", "iterations")),
        *((name, -2, f"{name}=-2") for name in ("antialias", "iterations")),
        *((name, 1.5, f"{name}=1.5") for name in ("antialias", "iterations")),
        *((name, True, f"{name}=True") for name in ("antialias", "iterations")),
        *((name, "2", f"{name}='2'") for name in ("antialias", "iterations")),
        *((name, None, f"{name}=None") for name in ("antialias", "iterations")),
        *((name, (2, 2), f"{name}=(2, 2)") for name in ("antialias", "iterations")),
    ],
)
def test_a_wrong_option_is_refused_and_shown(option, value, received):
    with pytest.raises(ValueError, match=f"`{option}`") as error:
        SpatialTransformer(**{option: value})
    assert str(error.value).endswith(f"Received: {received}")


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="Received: antialias=2, align_corners=True$"):
        SpatialTransformer(antialias=2, align_corners=True)
    with pytest.raises(ValueError, match="Received: iterations=2, localization=None, transform=A"):
        SpatialTransformer(iterations=2)
    network = localize(transform="thin_plate_spline")
    with pytest.raises(ValueError, match="Received: iterations=2, .* transform=ThinPlateSpline"):
        SpatialTransformer(network, transform="thin_plate_spline", iterations=2)
    SpatialTransformer(network, transform="thin_plate_spline", iterations=1)
    SpatialTransformer(antialias=1, align_corners=True)


def test_an_unknown_option_is_refused():
    with pytest.raises((TypeError, ValueError), match="fillmode"):
        SpatialTransformer(fillmode="nearest")


IMAGES = np.zeros((2, 6, 9, 3), "float32")


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({}, IMAGES, r"must be called on \[images, theta\].*input_shape=\(2, 6, 9, 3\)"),
        ({"localization": True}, [IMAGES, np.zeros((2, 6))], "must be called on images alone"),
        ({"localization": True}, IMAGES[0], r"rank 4.*shape=\(6, 9, 3\)"),
        ({}, [IMAGES[0], np.zeros((2, 6))], r"rank 4.*shape=\(6, 9, 3\)"),
        ({}, [IMAGES, np.zeros((2, 7))], r"must hold 6 numbers.*theta\.shape=\(2, 7\)"),
        ({}, [IMAGES, np.zeros((2, 2, 2))], r"must hold 6 numbers.*theta\.shape=\(2, 2, 2\)"),
        ({}, [IMAGES, np.zeros((2, 3, 2))], r"`theta` must have shape.*theta\.shape=\(2, 3, 2\)"),
        ({}, [IMAGES, np.zeros((3, 6))], r"same batch size.*\(2, 6, 9, 3\).*\(3, 6\)"),
        ({"fill_value": (1, 2)}, [IMAGES, np.zeros((2, 6))], r"fill_value=\(1.0, 2.0\) for 3"),
    ],
)
def test_a_wrong_input_is_refused_and_shown(options, inputs, message):
    if "localization" in options:
        options = {"localization": localize()}
    with pytest.raises(ValueError, match=message):
        SpatialTransformer(**options)(inputs)


@pytest.mark.parametrize(
    ("network", "inputs", "message"),
    [
        (functional_pair, IMAGES, r"on a list of 2 inputs.*input_shape=\(2, 6, 9, 3\)"),
        (functional_pair, [IMAGES] * 3, r"on a list of 2 inputs.*input_shape=\["),
        (functional_pair, {"a": IMAGES, "b": IMAGES}, r"on a list of 2 inputs.*input_shape=\{"),
        (
            functional_pair,
            [IMAGES, IMAGES],
            r"not take such inputs: .*input_shape=\[.*6, 9, 3\)\]$",
        ),
        (functional_pair, [IMAGES, IMAGES[:1, :4, :5, :1]], r"same batch size.*inputs\[1\]\.shape"),
        (functional_pair, [IMAGES[0], IMAGES[:, :4, :5, :1]], r"rank 4.*shape=\(6, 9, 3\)"),
        (sequential_pair, [IMAGES, IMAGES[:, :4]], r"not take such inputs: .*input_shape=\["),
        (localize, [IMAGES], r"on images alone.*input_shape=\["),
    ],
)
def test_wrong_inputs_of_a_network_are_refused_and_shown(network, inputs, message):
    with pytest.raises(ValueError, match=message):
        SpatialTransformer(network())(inputs)


def test_a_theta_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match=r"must hold 6 numbers.*theta\.shape=\(None, None\)"):
        SpatialTransformer()([keras.Input((6, 9, 3)), keras.Input((None,))])


def test_a_network_of_another_number_of_parameters_is_refused():
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match=r"must hold 6 numbers.*theta\.shape=\(2, 4\)"):
        SpatialTransformer(network)(IMAGES)


def test_a_layer_without_a_network_has_no_theta_of_its_own():
    with pytest.raises(ValueError, match="is given its theta"):
        SpatialTransformer().theta(IMAGES)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (SpatialTransformer, r"\[images, theta\]"),
        (lambda: SpatialTransformer(functional_pair()), "a list of 2 inputs"),
        (DenseWarp, r"\[images, displacement\]"),
        (VelocityIntegration, "a velocity"),
        (lambda: Orientation(keras.layers.Flatten(), 1), "images alone"),
    ],
)
def test_a_call_on_nothing_or_on_two_arguments_says_what_is_right(layer, wanted):
    for inputs in ((None,), ([IMAGES, None],), (IMAGES, IMAGES)):
        with pytest.raises(ValueError, match=f"must be called on {wanted}.*Received: "):
            layer()(*inputs)


@pytest.mark.parametrize("value", ["False", None, 2])
def test_align_corners_is_a_flag(value):
    options = {"align_corners": value}
    identity = [[1.0, 0, 0, 0, 1.0, 0]]
    for call in (
        lambda: SpatialTransformer(**options),
        lambda: stn_keras.affine_grid(identity, (4, 5), **options),
        lambda: transforms.Affine().grid(identity, (4, 5), **options),
        lambda: stn_keras.geometry.to_pixel_matrix(identity, (4, 5), **options),
        lambda: stn_keras.geometry.resize_displacement(np.ones((1, 3, 4, 2)), (4, 5), **options),
        lambda: stn_keras.metrics.warp_spread(identity, **options),
    ):
        with pytest.raises(ValueError, match="`align_corners` must be True or False. Received: "):
            call()


@pytest.mark.parametrize("value", ["False", None, 2])
def test_other_flags_are_flags_too(value):
    identity = [[1.0, 0, 0, 0, 1.0, 0]]
    for name, call in (
        (
            "inverse",
            lambda: stn_keras.geometry.from_pixel_matrix(np.eye(3)[None], (4, 5), inverse=value),
        ),
        ("inverse", lambda: stn_keras.geometry.to_pixel_matrix(identity, (4, 5), inverse=value)),
        ("disc", lambda: Orientation(keras.layers.Flatten(), 1, disc=value)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be True or False. Received: "):
            call()


def test_a_saved_bound_of_many_turns_still_loads():
    transform = transforms.Rigid(max_rotation=1.0)
    loaded = transforms.Rigid.from_config({**transform.get_config(), "max_rotation": 45})
    assert loaded.max_rotation == 45


def test_one_image_of_many_thetas_has_as_many_outputs():
    inputs = keras.Input(batch_shape=(1, 8, 8, 1)), keras.Input(batch_shape=(5, 6))
    assert SpatialTransformer()(inputs).shape == (5, 8, 8, 1)


def test_integers_that_are_only_picked_stay_as_they_are():
    labels = np.array([576073699, 312782574]).reshape(1, 1, 2, 1).astype("int32")
    theta = np.array([[-1.0, 0, 0, 0, 1, 0]], "float32")
    layer = SpatialTransformer(interpolation="nearest")
    mirrored = ops.convert_to_numpy(layer([labels, theta]))
    assert mirrored.dtype == "int32"
    assert_array_equal(mirrored.ravel(), labels.ravel()[::-1])
    spec = layer([keras.Input((1, 2, 1), dtype="int32"), keras.Input((6,))])
    assert spec.dtype == "int32"
    warp = stn_keras.DenseWarp(interpolation="nearest")
    moved = ops.convert_to_numpy(warp([labels, np.float32([[[[1, 0], [-1, 0]]]])]))
    assert moved.dtype == "int32"
    assert_array_equal(moved, mirrored)
    assert warp([keras.Input((1, 2, 1), dtype="int32"), keras.Input((1, 2, 2))]).dtype == "int32"
