"""Localization networks that belong to several layers stay shared in files and in copies."""

import copy
import functools

import keras
import numpy as np
import pytest
from autodiff import float64
from keras import layers
from numpy.testing import assert_array_equal

from stn_keras import SpatialTransformer, localization

SIZE = (6, 9, 3)


def network(*first, name="localize"):
    pooled = [layers.AveragePooling2D(3), layers.Flatten()]
    return keras.Sequential([*first, *pooled, localization.head()], name=name)


def warp(network, name, **options):
    options = {"interpolation": "nearest", "fill_mode": "nearest", **options}
    return SpatialTransformer(network, name=name, **options)


def two_layers(images):
    shared = network()
    return warp(shared, "image")(images), warp(shared, "mask", interpolation="bilinear")(images)


def three_layers(images):
    shared = network()
    first = warp(shared, "first")(images)
    return first, warp(shared, "second")(first), warp(shared, "third", output_size=(4, 5))(images)


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
    return warp(shared, "image")(images), warp(shared, "mask")(images), shared(images)


def layer_and_nested_model(images):
    shared, x = network(), keras.Input(SIZE)
    nested = keras.Model(x, warp(shared, "inside")(x), name="nested")
    return nested(images), warp(shared, "outside")(images)


def two_nested_models(images):
    shared = network()
    outputs = []
    for name in ("first", "second"):
        x = keras.Input(SIZE)
        nested = keras.Model(x, warp(shared, "inside")(x), name=name)
        outputs.append(nested(images))
    return outputs


def layer_of_two_networks(images):
    trunk = layers.Conv2D(2, 3, padding="same", activation="tanh", name="trunk")
    networks = network(trunk, name="one"), network(trunk, name="other")
    return [warp(network, f"by_{network.name}")(images) for network in networks]


def wrapped_layer(images):
    shared = network()
    frames = layers.Reshape((1, *SIZE))(images)
    return (
        layers.TimeDistributed(warp(shared, "inside"), name="frames")(frames),
        warp(shared, "outside")(images),
    )


def transformer_of_a_transformer(images):
    shared = network()
    inner = keras.Sequential([warp(shared, "inner"), network(name="outer_network")])
    return warp(inner, "outer")(images), warp(shared, "plain")(images)


KINDS = [
    two_layers,
    three_layers,
    layer_and_output,
    output_before_layer,
    functional_network,
    layer_and_nested_model,
    two_nested_models,
    layer_of_two_networks,
    wrapped_layer,
    transformer_of_a_transformer,
]
every_kind = pytest.mark.parametrize("kind", KINDS)
some_kinds = pytest.mark.parametrize("kind", [two_layers, layer_and_nested_model])


def trained(kind, rng):
    images = keras.Input(SIZE, name="images")
    model = keras.Model(images, kind(images))
    for weight in model.weights:
        weight.assign_add(rng.uniform(-0.1, 0.1, weight.shape))
    return model


def assert_same(again, model, rng):
    """The same outputs of as many weights, none of which both have."""
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    assert again.count_params() == model.count_params()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert not {id(w) for w in again.weights} & {id(w) for w in model.weights}
    for found, wanted in zip(again(images), model(images)):
        assert_array_equal(float64(found), float64(wanted))


@every_kind
def test_a_saved_model_loads_shared(rng, tmp_path, quick, kind):
    model = trained(kind, rng)
    model.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras", safe_mode=True), model, rng)


@some_kinds
def test_a_deep_copy_is_shared(rng, quick, kind):
    model = trained(kind, rng)
    assert_same(copy.deepcopy(model), model, rng)


@some_kinds
def test_weights_load_into_a_model_of_the_same_code(rng, tmp_path, quick, kind):
    model, again = trained(kind, rng), trained(kind, rng)
    model.save_weights(tmp_path / "model.weights.h5")
    again.load_weights(tmp_path / "model.weights.h5")
    assert_same(again, model, rng)


# `clone_model` unshares the layers of networks as it does those of nested models.
CLONED = [kind for kind in KINDS if kind is not layer_of_two_networks]


def rebuilt(layer):
    return type(layer).from_config({**layer.get_config(), "trainable": False})


@pytest.mark.parametrize("kind", CLONED)
def test_a_clone_is_shared(rng, quick, kind):
    model = trained(kind, rng)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(clone, model, rng)


@some_kinds
def test_a_clone_by_a_function_of_ones_own_is_shared(rng, quick, kind):
    model = trained(kind, rng)
    clone = keras.models.clone_model(model, clone_function=rebuilt)
    clone.set_weights(model.get_weights())
    assert_same(clone, model, rng)
    assert not any(layer.trainable for layer in clone.layers[1:])


@some_kinds
def test_a_recursive_clone_is_shared(rng, quick, kind):
    model = trained(kind, rng)
    clone = keras.models.clone_model(model, recursive=True)
    clone.set_weights(model.get_weights())
    assert_same(clone, model, rng)


def test_clones_of_one_model_share_nothing_with_each_other(rng, quick):
    model = trained(two_layers, rng)
    one, other = (keras.models.clone_model(model) for _ in range(2))
    assert not {id(w) for w in one.weights} & {id(w) for w in other.weights}


def test_a_layer_of_a_configuration_is_of_its_own(rng, quick):
    model = trained(two_layers, rng)
    shared = model.get_layer("image").localization
    copies = [
        SpatialTransformer.from_config(model.get_layer(name).get_config())
        for name in ("image", "mask")
    ]
    assert len({id(shared), *(id(layer.localization) for layer in copies)}) == 3


def shared_with_a_plain_nested_model(images):
    shared, x = network(), keras.Input(SIZE)
    nested = keras.Model(x, shared(x), name="nested")
    return nested(images), warp(shared, "outside")(images)


def trunk_of_a_plain_nested_model(images):
    trunk = layers.Conv2D(3, 3, padding="same", name="localize")
    nested = keras.Sequential([keras.Input(SIZE), trunk], name="nested")
    return warp(network(trunk, name="other"), "outside")(nested(images))


def wrapped_network(images):
    shared = network()
    frames = layers.Reshape((1, *SIZE))(images)
    theta = layers.Reshape((6,))(layers.TimeDistributed(shared)(frames))
    first = SpatialTransformer(name="given")([images, theta])
    return theta, warp(shared, "outside")(first)


@pytest.mark.parametrize(
    "kind",
    [shared_with_a_plain_nested_model, trunk_of_a_plain_nested_model, wrapped_network],
)
def test_what_a_file_would_not_keep_is_refused_when_it_is_saved(rng, tmp_path, kind):
    images = keras.Input(SIZE)
    model = keras.Model(images, kind(images))
    with pytest.raises(ValueError, match="do not keep 'localize' shared: 'outside'.*save_weights"):
        model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")


class Own(keras.Model):
    """A model with a configuration of its own, which holds the network and a layer of it."""

    def __init__(self, network, layer, **options):
        super().__init__(**options)
        self.network, self.layer = network, layer

    def call(self, images):
        return self.network(images), self.layer(images)

    def get_config(self):
        parts = {"network": self.network, "layer": self.layer}
        serialized = map(keras.saving.serialize_keras_object, parts.values())
        return {**super().get_config(), **dict(zip(parts, serialized))}

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "layer")
        }
        return cls(**{**config, **parts})


def test_a_model_with_a_configuration_of_its_own_loads_shared(rng, tmp_path, quick):
    shared = network()
    model = Own(shared, warp(shared, "warp"))
    model(np.zeros((1, *SIZE), "float32"))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Own": Own})
    assert_same(again, model, rng)


def test_a_model_without_sharing_has_no_marks_in_its_configuration():
    layer = warp(network(), "warp")
    layer.build((None, *SIZE))
    configuration = functools.partial(keras.saving.serialize_keras_object, layer)
    assert "shared_object_id" not in str(configuration())
    assert configuration() == configuration()
