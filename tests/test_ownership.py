"""A localization network belongs to one layer; shared networks of old files stay shared."""

import copy

import keras
import pytest
from autodiff import float64
from keras import layers
from numpy.testing import assert_array_equal

from stn_keras import SpatialTransformer, localization

SIZE = (6, 9, 3)


def network(name="localize"):
    return keras.Sequential(
        [layers.AveragePooling2D(3), layers.Flatten(), localization.head()], name=name
    )


def warp(network, name, **options):
    return SpatialTransformer(network, name=name, fill_mode="nearest", **options)


def theta_in_two_layers(images):
    theta = network()(images)
    return [
        SpatialTransformer(name=name, interpolation=name)([images, theta])
        for name in ("bilinear", "nearest")
    ]


def layer_and_output(images):
    shared = network()
    return warp(shared, "image")(images), shared(images)


def output_before_layer(images):
    shared = network()
    theta = shared(images)
    return theta, warp(shared, "image")(SpatialTransformer(name="given")([images, theta]))


def functional_network(images):
    x = keras.Input(SIZE)
    shared = keras.Model(x, network()(x), name="shared")
    return shared(images), warp(shared, "image")(images)


KINDS = [theta_in_two_layers, layer_and_output, output_before_layer, functional_network]


def two_layers(images):
    shared = network()
    return warp(shared, "image")(images), warp(shared, "mask", interpolation="nearest")(images)


def trained(kind, rng):
    images = keras.Input(SIZE, name="images")
    model = keras.Model(images, kind(images))
    for weight in model.weights:
        weight.assign_add(rng.uniform(-0.1, 0.1, weight.shape))
    return model


def assert_same(again, model, rng):
    """Both models have equal outputs and equally many weights, but no weights in common."""
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    assert again.count_params() == model.count_params()
    assert not {id(w) for w in again.weights} & {id(w) for w in model.weights}
    for found, wanted in zip(again(images), model(images)):
        assert_array_equal(float64(found), float64(wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_and_a_deep_copy_keep_what_is_shared(rng, tmp_path, quick, kind):
    model = trained(kind, rng)
    model.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras", safe_mode=True), model, rng)
    assert_same(copy.deepcopy(model), model, rng)


def test_a_second_layer_refuses_the_network_of_a_first():
    shared = network()
    first = warp(shared, "first")
    with pytest.raises(ValueError, match=r"one layer.*\[images, theta\].*localize.*'first' has"):
        warp(shared, "second")
    assert first.localization is shared


def test_a_network_is_free_if_its_layer_was_refused_or_is_gone(quick):
    shared = network()
    with pytest.raises(ValueError, match="gradient_scale"):
        warp(shared, "refused", gradient_scale="much")
    model = keras.Sequential([keras.Input(SIZE), warp(shared, "gone")])
    del model
    assert warp(shared, "next").localization is shared


def test_files_of_earlier_versions_with_a_network_in_two_layers_load(rng, tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("stn_keras.layers.ownership.claim", lambda network, layer: None)
        model = trained(two_layers, rng)
        model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_same(again, model, rng)
    assert again.get_layer("image").localization is again.get_layer("mask").localization


def test_a_layer_of_a_configuration_has_a_network_of_its_own(rng, quick):
    layer = warp(network(), "warp")
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    layer(images)
    again = SpatialTransformer.from_config(layer.get_config())
    assert_array_equal(float64(again(images)), images)
    assert again.localization is not layer.localization
    clone = keras.models.clone_model(keras.Sequential([keras.Input(SIZE), layer]))
    assert clone.layers[0].localization is not layer.localization
