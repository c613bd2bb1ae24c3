"""Localization networks start at the identity for every image."""

import keras
import numpy as np
import pytest
from autodiff import float64
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, localization, transforms
from stn_keras.metrics import share_outside

IDENTITY = [1, 0, 0, 0, 1, 0]


def test_a_fresh_head_answers_the_identity_in_float32(rng, set_policy):
    set_policy("mixed_bfloat16")
    head = localization.head()
    theta = head(rng.normal(size=(4, 10)).astype("float32"))
    assert keras.backend.standardize_dtype(theta.dtype) == "float32"
    assert_array_equal(float64(theta), [IDENTITY] * 4)
    assert_array_equal(float64(head.kernel), np.zeros((10, 6)))


def test_a_fresh_cnn_answers_the_identity(rng):
    network = localization.cnn()
    theta = network(rng.uniform(size=(2, 32, 32, 3)).astype("float32"))
    assert_array_equal(float64(theta), [IDENTITY] * 2)
    assert network.count_params() == 48_422


@pytest.mark.parametrize("given", [True, False], ids=["argument", "setting"])
def test_a_cnn_has_the_same_weights_and_numbers_in_both_formats(rng, set_format, given):
    last = localization.cnn()
    set_format("channels_last" if given else "channels_first")
    first = localization.cnn(data_format="channels_first" if given else None)
    images = rng.uniform(size=(2, 20, 30, 3)).astype("float32")
    last.build(images.shape)
    first.build(images.transpose(0, 3, 1, 2).shape)
    assert [weight.shape for weight in first.weights] == [weight.shape for weight in last.weights]
    for weight in last.weights:
        weight.assign_add(rng.normal(0, 0.05, weight.shape))
    first.set_weights(last.get_weights())
    theta = float64(last(images))
    assert np.ptp(theta, axis=0).max() > 0
    assert_allclose(float64(first(images.transpose(0, 3, 1, 2))), theta, rtol=1e-5, atol=1e-5)


def test_an_unknown_format_of_a_cnn_is_refused():
    with pytest.raises(ValueError, match="data_format.*nhwc"):
        localization.cnn(data_format="NHWC")


@pytest.mark.parametrize("make", [localization.head, localization.cnn, localization.Identity])
def test_an_unknown_transform_is_refused(make):
    with pytest.raises(ValueError, match="`transform` must be.*Received: transform='afine'"):
        make("afine")


@pytest.mark.parametrize("transform", ["affine", transforms.Affine()])
def test_the_initializer_survives_its_config(transform):
    initializer = localization.Identity(transform)
    config = keras.saving.serialize_keras_object(initializer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.transform == transforms.Affine()
    assert_array_equal(float64(again((6,))), IDENTITY)
    assert_array_equal(float64(again((2, 3), dtype="float64")), np.reshape(IDENTITY, (2, 3)))
    assert keras.backend.standardize_dtype(again((6,), dtype="bfloat16").dtype) == "bfloat16"


@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_every_transform_has_a_head_that_starts_at_its_identity(rng, name):
    theta = localization.head(name)(rng.normal(size=(4, 10)).astype("float32"))
    assert_array_equal(float64(theta), [transforms.get(name).identity] * 4)


@pytest.mark.parametrize("start", [(0.5, -0.25, 0.75), np.array([0.5, -0.25, 0.75])])
def test_networks_start_where_they_are_told(rng, start):
    images = rng.uniform(size=(2, 32, 32, 3)).astype("float32")
    network = localization.cnn("attention", start=start)
    assert_array_equal(float64(network(images)), [[0.5, -0.25, 0.75]] * 2)
    again = keras.Sequential.from_config(network.get_config())
    assert_array_equal(float64(again(images)), [[0.5, -0.25, 0.75]] * 2)


@pytest.mark.parametrize("make", [localization.head, localization.cnn])
@pytest.mark.parametrize("start", [(0.5, 0), [0.5, 0, 0, 1], [[0.5, 0, 0]], 0.5])
def test_a_start_of_another_length_is_refused(make, start):
    with pytest.raises(ValueError, match="`start` must be 3 numbers for transform=Att") as error:
        make("attention", start=start)
    assert str(error.value).endswith(f"Received: start={start}")


QUARTERS = [(0.5, x, y) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]


def parallel_transformers():
    """Four transformers that share a feature network and start at the quarters of the images."""
    images = keras.Input((8, 12, 3))
    features = layers.Dense(7, activation="tanh")(layers.GlobalAveragePooling2D()(images))
    crops = []
    for start in QUARTERS:
        # In a model of its own, so that its name is no other's.
        theta = keras.Sequential([localization.head("attention", start=start)])(features)
        warp = SpatialTransformer(transform="attention", output_size=(4, 6))
        crops.append(warp([images, theta]))
    classes = layers.Dense(5)(layers.Flatten()(layers.Concatenate()(crops)))
    return keras.Model(images, classes), keras.Model(images, crops)


@pytest.mark.slow
def test_parallel_transformers_start_at_different_places_and_learn(rng, tmp_path, quick):
    images = rng.uniform(-1, 1, (4, 8, 12, 3)).astype("float32")
    model, cropping = parallel_transformers()
    upper_left, upper_right, lower_left, lower_right = map(float64, cropping(images))
    # Exact except on PyTorch, whose own sampler takes a rounded grid.
    digits = 1e-6 if keras.backend.backend() == "torch" else 0
    assert_allclose(upper_left, images[:, :4, :6], 0, digits)
    assert_allclose(upper_right, images[:, :4, 6:], 0, digits)
    assert_allclose(lower_left, images[:, 4:, :6], 0, digits)
    assert_allclose(lower_right, images[:, 4:, 6:], 0, digits)

    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    before = [float64(weight) for weight in model.trainable_weights]
    losses = model.fit(images, np.arange(4), epochs=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    for weight, initial in zip(model.trainable_weights, before):
        assert np.any(float64(weight) != initial)

    model.save(tmp_path / "parallel.keras")
    again = keras.saving.load_model(tmp_path / "parallel.keras", safe_mode=True)
    assert_array_equal(float64(again(images)), float64(model(images)))


def test_a_head_scales_large_features_down_and_changes_no_others(rng):
    head, plain = localization.Head(3), keras.layers.Dense(3)
    features = rng.uniform(-6, 6, (2, 10)).astype("float32")  # the sums are below 64
    plain.build(features.shape)
    head.build(features.shape)
    head.set_weights(plain.get_weights())
    assert_allclose(float64(head(features)), float64(plain(features)), atol=1e-5)
    scaled = 64 * features / np.sum(np.abs(features), axis=1, keepdims=True)
    assert_allclose(float64(head(1e6 * features)), float64(plain(scaled)), atol=1e-4)


@pytest.mark.parametrize("depth", [0, 1])
def test_training_on_raw_pixels_does_not_leave_the_images(depth):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 256)
    images = rng.uniform(0, 180, (256, 16, 16, 1)).astype("float32")
    images += 75 * (np.arange(16) // 6 == labels[:, None])[:, None, :, None]
    hidden = [layers.Conv2D(8, 5, activation="relu"), layers.MaxPooling2D(2)][: 2 * depth]
    network = keras.Sequential([*hidden, layers.Flatten(), localization.head()])
    layer = SpatialTransformer(network)
    model = keras.Sequential([layer, layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=16, epochs=2, verbose=0)
    outside = share_outside(layer.grid(layer.theta(images), (16, 16)))
    assert np.mean(float64(outside)) < 0.5


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_keras_does_not_quantize_a_head(rng):
    features = rng.uniform(size=(4, 16)).astype("float32")
    model = keras.Sequential([localization.head(start=rng.normal(size=6))])
    theta = float64(model(features))
    model.quantize("int8")
    assert_array_equal(float64(model(features)), theta)


def test_a_head_of_another_transform_is_refused(rng):
    images = rng.uniform(size=(2, 20, 20, 3)).astype("float32")
    for network in (
        localization.cnn("attention"),
        [layers.Flatten(), localization.head("attention")],
    ):
        network = keras.Sequential(network) if isinstance(network, list) else network
        with pytest.raises(ValueError, match="`localization` must start at the identity of.*Rigid"):
            SpatialTransformer(network, transform="rigid")(images)
    start = localization.cnn("attention", start=(0, 0, 0))
    assert_allclose(
        float64(SpatialTransformer(start, transform="rigid")(images)), images, atol=1e-5
    )


def test_a_saved_head_of_another_transform_still_loads(rng, tmp_path):
    images = rng.uniform(size=(2, 20, 20, 3)).astype("float32")
    config = SpatialTransformer(localization.cnn("attention"), transform="rigid").get_config()
    old = keras.Sequential([keras.Input((20, 20, 3)), SpatialTransformer.from_config(config)])
    old.layers[0].localization.layers[-1].bias.assign(rng.normal(0, 0.1, 3))  # trained
    old.save(tmp_path / "old.keras")
    again = keras.saving.load_model(tmp_path / "old.keras", safe_mode=True)
    assert_array_equal(float64(again(images)), float64(old(images)))

    config["transform"] = "affine"
    with pytest.raises(ValueError, match=r"`theta` must hold 6 numbers.*shape=\(None, 3\)"):
        SpatialTransformer.from_config(config)(keras.Input((20, 20, 3)))


@pytest.mark.parametrize("shape", [(17, 17, 3), (None, None, 3), (3, 32, 32)])
@pytest.mark.parametrize("layer", [lambda network: network, SpatialTransformer])
def test_images_that_a_cnn_can_not_take_are_refused(shape, layer):
    with pytest.raises(ValueError, match="`localization.cnn` needs.*18×18.*Received") as error:
        layer(localization.cnn())(keras.Input(shape))
    assert "Exception encountered" not in str(error.value)


def test_theta_is_float64_under_that_policy(set_policy):
    set_policy("float64")
    theta = localization.cnn()(np.zeros((1, 20, 20, 1)))
    assert keras.backend.standardize_dtype(theta.dtype) == "float64"


@pytest.mark.parametrize("transform", [transforms.Rigid, transforms.Similarity])
def test_a_bound_of_rotations_in_degrees_is_refused(transform):
    with pytest.raises(ValueError, match="radians.*Received: max_rotation=45"):
        transform(max_rotation=45)
