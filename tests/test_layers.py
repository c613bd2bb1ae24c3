"""`SpatialTransformer`: a fresh one returns its input, and it is a Keras layer in every respect."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

import stn_keras
from stn_keras import SpatialTransformer, layers, localization

FILL_MODES = ["constant", "nearest", "reflect"]
IDENTITY = np.array([1, 0, 0, 0, 1, 0], "float32")
THETA = [0.8, -0.3, 0.1, 0.25, 1.1, -0.2]


def localize(theta=None, data_format="channels_last", features=5):
    """A network for images of any size: a fresh one, or one that starts at `theta`."""
    head = localization.head()
    if theta is not None:
        head.bias_initializer = keras.initializers.Constant(theta)
    return keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(data_format=data_format),
            keras.layers.Dense(features, activation="tanh"),
            head,
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


def float64(tensor):
    return np.array(tf.cast(tensor, "float64"))


def check_identity(rng, policy, size, **options):
    layer = SpatialTransformer(localize(), dtype=policy, fill_value=(0.5, 1, 2), **options)
    images = tf.cast(random_images(rng, size), layer.compute_dtype)
    warped = layer(images)
    assert warped.dtype == layer.compute_dtype
    assert_array_equal(float64(warped), float64(images))


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_a_fresh_layer_returns_its_input_under_every_interpolation(rng, uncompiled, interpolation):
    check_identity(rng, "float32", (11, 17), interpolation=interpolation)


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_fresh_layer_returns_its_input(rng, uncompiled, fill_mode, align_corners, policy):
    for size in [(37, 53), (1, 5), (100, 3)]:
        check_identity(rng, policy, size, fill_mode=fill_mode, align_corners=align_corners)


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
@pytest.mark.parametrize("output_size", [None, (4, 12), (1, 1)])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_warp_is_the_reference(rng, uncompiled, fill_mode, output_size, align_corners):
    images, theta = random_images(rng), random_theta(rng)
    options = {"fill_mode": fill_mode, "fill_value": -2.0, "align_corners": align_corners}
    warped = SpatialTransformer(output_size=output_size, **options)([images, theta])
    grid = reference.affine_grid(theta, output_size or (6, 9), align_corners)
    assert_allclose(warped, reference.grid_sample(images, grid, **options), atol=1e-5)


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
    assert_allclose(warped, wanted, atol=1e-5)


def test_a_network_sees_the_images_and_its_theta_warps_them(rng, uncompiled):
    layer = SpatialTransformer(localize(), data_format="channels_last")
    images = random_images(rng)
    layer(images)
    trained(layer, rng)
    theta = layer.theta(images)
    assert_array_equal(theta, layer.localization(images))
    assert np.ptp(theta, axis=0).max() > 0
    assert_array_equal(layer(images), SpatialTransformer()([images, theta]))


def test_channels_first_with_a_network(rng, uncompiled):
    images = random_images(rng)
    first = SpatialTransformer(
        localize(THETA, data_format="channels_first"), data_format="channels_first"
    )(images.transpose(0, 3, 1, 2))
    last = SpatialTransformer(localize(THETA))(images)
    assert_array_equal(tf.transpose(first, (0, 2, 3, 1)), last)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_theta_keeps_float32_under_mixed_precision(rng, uncompiled, set_policy, policy):
    set_policy(policy)
    # A ramp of one per pixel: the warped values are coordinates, as far as the dtype shows them.
    columns = np.arange(16, dtype="float32")
    images = np.broadcast_to(columns[None, None, :, None], (1, 1, 16, 1))
    theta = [0.001, 0, 0.0003 - 0.9375, 0, 1, 0]  # around pixel 0, at up to 0.01 pixels
    warp = {"fill_mode": "nearest", "output_size": (1, 16)}
    wanted = reference.grid_sample(images, reference.affine_grid(theta, (1, 16)), "nearest")
    x = keras.Input((1, 16, 1)), keras.Input((6,))
    functional = keras.Model(x, SpatialTransformer(**warp)(list(x)))
    given = [tf.constant(images), tf.constant([theta])]
    for warped in (
        SpatialTransformer(localize(theta), **warp)(images),
        SpatialTransformer(**warp)(given),
        functional(given),
    ):
        assert warped.dtype == policy.removeprefix("mixed_")
        assert_allclose(float64(warped), wanted, rtol=0.01, atol=1e-4)


def test_gradients_reach_the_network_and_the_images(rng, uncompiled):
    layer = SpatialTransformer(localize())
    images = tf.constant(random_images(rng))
    layer(images)
    trained(layer, rng)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(layer(images) * rng.normal(size=images.shape).astype("float32"))
    gradients = tape.gradient(loss, [images, *layer.trainable_weights])
    assert len(gradients) == 5
    for gradient in gradients:
        assert np.abs(gradient).max() > 0


def test_gradient_with_respect_to_theta_is_finite_differences(rng, uncompiled):
    layer = SpatialTransformer(dtype="float64", fill_mode="nearest")
    images = random_images(rng, (4, 5)).astype("float64")
    theta = tf.constant(random_theta(rng).astype("float64"))
    upstream = tf.constant(rng.normal(size=images.shape))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        warped = layer([images, theta])
    gradient = tape.gradient(warped, theta, upstream)

    def value(theta):
        grid = reference.affine_grid(theta, (4, 5))
        return np.sum(upstream * reference.grid_sample(images, grid, "nearest"), (1, 2, 3))

    for n, step in enumerate(1e-7 * np.eye(6)):
        wanted = (value(theta + step) - value(theta - step)) / 2e-7
        assert_allclose(gradient[:, n], wanted, rtol=1e-5, atol=1e-5)


def test_gradient_scale_scales_theta_s_gradient_alone(rng, uncompiled):
    images, theta = tf.constant(random_images(rng)), tf.constant(random_theta(rng))
    results = []
    for layer in (SpatialTransformer(), SpatialTransformer(gradient_scale=0.3)):
        with tf.GradientTape() as tape:
            tape.watch([images, theta])
            warped = layer([images, theta])
        results.append((warped, *tape.gradient(warped, [images, theta])))
    (values, to_images, to_theta), (same, same_to_images, scaled) = results
    assert_array_equal(values, same)
    assert_array_equal(to_images, same_to_images)
    assert_allclose(0.3 * to_theta, scaled, rtol=1e-6)


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


@pytest.mark.parametrize("model", [functional_model, sequential_model, Subclassed])
def test_models_of_every_kind_predict_and_list_the_network_s_weights(rng, uncompiled, model):
    images = random_images(rng)
    model = model()
    warped = model(images)
    grid = stn_keras.affine_grid([THETA] * 2, (6, 9))
    assert_allclose(warped, stn_keras.grid_sample(images, grid), atol=1e-5)
    assert len(model.trainable_weights) == 4
    assert model.count_params() == 3 * 5 + 5 + 5 * 6 + 6


def test_predict_on_sizes_unknown_to_the_model(rng):
    model = functional_model()
    assert model.output_shape == (None, None, None, 3)
    for size in [(6, 9), (8, 5)]:
        images = random_images(rng, size)
        wanted = reference.grid_sample(images, reference.affine_grid([THETA] * 2, size))
        assert_allclose(model.predict(images, verbose=0), wanted, atol=1e-5)


def test_a_layer_takes_its_size_from_each_input(rng, uncompiled):
    layer = SpatialTransformer(localize())
    for size in [(6, 9), (4, 4)]:
        images = random_images(rng, size)
        assert_array_equal(layer(images), images)


def test_eager_graph_and_compiled_models_agree(rng):
    images = random_images(rng)
    model = functional_model()
    predictions = []
    for options in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        model.compile(**options)
        predictions.append(model.predict(images, verbose=0))
    assert_allclose(predictions[0], predictions[1], atol=1e-6)
    assert_allclose(predictions[0], predictions[2], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_one_training_step_under_mixed_precision(rng, request, set_policy, policy):
    set_policy(policy)
    if policy == "mixed_float16":
        request.getfixturevalue("uncompiled")
    model = keras.Sequential([SpatialTransformer(localize(THETA), name="warp")])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    images = random_images(rng)
    model.fit(images, np.roll(images, 1, 1), verbose=0)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    bias = model.trainable_weights[-1]
    assert bias.dtype == "float32"
    bias = keras.ops.convert_to_numpy(bias)
    assert np.all(np.isfinite(bias))
    assert np.all(bias != np.array(THETA, "float32"))


OPTIONS = {
    "transform": stn_keras.transforms.Affine(),
    "output_size": (4, 12),
    "fill_mode": "reflect",
    "fill_value": (0.5, 1.0, 2.0),
    "align_corners": True,
    "data_format": "channels_last",
    "gradient_scale": 0.5,
    "interpolation": "bilinear",
}


def test_config_round_trip_keeps_every_option():
    layer = SpatialTransformer(localize(), name="warp", dtype="mixed_bfloat16", **OPTIONS)
    again = SpatialTransformer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert {name: getattr(again, name) for name in OPTIONS} == OPTIONS
    assert again.name == "warp"
    assert again.compute_dtype == "bfloat16"
    assert [type(a) for a in again.localization.layers] == [
        type(a) for a in layer.localization.layers
    ]


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        SpatialTransformer(localize(), "affine")


def saved_models(rng, folder):
    """A model with a network in it, and one that is given images, the same, and theta."""
    images, theta = random_images(rng), random_theta(rng)
    x = keras.Input((6, 9, 3))
    nested = keras.Model(x, SpatialTransformer(localize(), name="warp", **OPTIONS)(x))
    trained(nested.get_layer("warp"), rng)
    inputs = [keras.Input((6, 9, 3)), keras.Input((2, 3))]
    given = keras.Model(inputs, SpatialTransformer(fill_value=0.5)(inputs))
    for name, model, data in (
        ("nested", nested, images),
        ("given", given, [images, theta.reshape(2, 2, 3)]),
    ):
        model.save(folder / f"{name}.keras")
        yield name, model, data


def test_saved_models_load_and_predict_the_same(rng, tmp_path, uncompiled):
    for name, model, data in saved_models(rng, tmp_path):
        again = keras.saving.load_model(tmp_path / f"{name}.keras", safe_mode=True)
        assert_array_equal(again(data), model(data))
        assert again.count_params() == model.count_params()


def test_cloned_models_predict_the_same(rng, tmp_path, uncompiled):
    for _, model, data in saved_models(rng, tmp_path):
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        assert_array_equal(clone(data), model(data))
        assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}


ELSEWHERE = """
import sys
import keras
import numpy as np
import tensorflow as tf
tf.config.run_functions_eagerly(True)
before = set(sys.modules)
import stn_keras
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
assert loaded == {"stn_keras"}, loaded
folder = sys.argv[1]
data = np.load(f"{folder}/data.npz")
for name, inputs in ("nested", data["images"]), ("given", [data["images"], data["theta"]]):
    model = keras.saving.load_model(f"{folder}/{name}.keras", safe_mode=True)
    assert np.array_equal(model(inputs), data[name]), name
"""


def test_saved_models_load_elsewhere_with_import_stn_keras_alone(rng, tmp_path, uncompiled):
    arrays = {}
    for name, model, data in saved_models(rng, tmp_path):
        arrays[name] = model(data)
    arrays["images"], arrays["theta"] = data
    np.savez(tmp_path / "data.npz", **arrays)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True)


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


def test_the_fused_warp_compiles_to_the_plain_one(rng):
    images, theta = random_images(rng), random_theta(rng)
    settings = {
        "transform": stn_keras.transforms.Affine(),
        "output_size": (4, 12),
        "interpolation": "bilinear",
        "fill_mode": "constant",
        "fill_value": (0.5,),
        "align_corners": False,
        "data_format": "channels_last",
    }
    results = []
    for warp in (layers.warp, layers.warp.__wrapped__):
        inputs = tf.constant(images), tf.constant(theta)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            warped = warp(*inputs, **settings)
        results.append((warped, *tape.gradient(warped, inputs)))
    for compiled, plain in zip(*results):
        assert_allclose(compiled, plain, rtol=1e-5, atol=1e-4)


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
    ],
)
def test_a_wrong_option_is_refused_and_shown(option, value, received):
    with pytest.raises(ValueError, match=f"`{option}`") as error:
        SpatialTransformer(**{option: value})
    assert str(error.value).endswith(f"Received: {received}")


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
