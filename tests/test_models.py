"""The published CIFAR-10 model, layer by layer."""

import keras
import numpy as np
import pytest
from autodiff import float64
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer
from stn_keras.models import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    WarpedConv2D,
    cifar10_stn,
    mnist_stn,
)

LOCALIZATION = [
    ("Conv2D", (26, 26, 16)),
    ("MaxPooling2D", (13, 13, 16)),
    ("ReLU", (13, 13, 16)),
    ("Conv2D", (9, 9, 32)),
    ("MaxPooling2D", (4, 4, 32)),
    ("ReLU", (4, 4, 32)),
    ("Flatten", (512,)),
    ("Dense", (64,)),
    ("Head", (6,)),
]
CLASSIFIER = [
    ("Conv2D", (28, 28, 8)),
    ("MaxPooling2D", (14, 14, 8)),
    ("ReLU", (14, 14, 8)),
    ("Conv2D", (10, 10, 16)),
    ("SpatialDropout2D", (10, 10, 16)),
    ("MaxPooling2D", (5, 5, 16)),
    ("ReLU", (5, 5, 16)),
    ("Flatten", (400,)),
    ("Dense", (1024,)),
    ("Dropout", (1024,)),
    ("Dense", (10,)),
]


def shapes(layers):
    return [(type(layer).__name__, layer.output.shape[1:]) for layer in layers]


def random_pixels(rng, batch=2):
    return rng.integers(0, 256, (batch, 32, 32, 3), "uint8")


def test_the_published_numbers_of_parameters():
    assert cifar10_stn().count_params() == 473_120
    assert cifar10_stn(transformer=False).count_params() == 424_698


def test_the_published_layers():
    model = cifar10_stn()
    assert model.input_shape == (None, 32, 32, 3)
    assert shapes(model.layers[3:]) == CLASSIFIER
    assert isinstance(model.layers[2], SpatialTransformer)
    network = model.layers[2].localization
    assert shapes(network.layers) == LOCALIZATION
    kernels = [layer.kernel_size for layer in network.layers if hasattr(layer, "kernel_size")]
    assert kernels == [(7, 7), (5, 5)]
    kernels = [layer.kernel_size for layer in model.layers if hasattr(layer, "kernel_size")]
    assert kernels == [(5, 5), (5, 5)]
    for layers, name in ((network.layers, "relu linear"), (model.layers, "relu linear")):
        dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
        assert " ".join(layer.activation.__name__ for layer in dense) == name


def test_without_a_transformer_the_rest_is_the_same():
    assert shapes(cifar10_stn(transformer=False).layers[2:]) == CLASSIFIER


@pytest.mark.parametrize("size", [18, 33, 64, 100, 224])
def test_other_sizes_and_classes_keep_it_small(size):
    model = cifar10_stn(image_size=size, classes=3)
    assert model.input_shape == (None, size, size, 3) and model.output_shape == (None, 3)
    assert model.count_params() < 3 * 473_120


def test_dropout_rates_and_gradient_scale_are_settings():
    def settings(model):
        spatial, dense = (layer for layer in model.layers if hasattr(layer, "rate"))
        return spatial.rate, dense.rate, model.get_layer("transformer").gradient_scale

    assert settings(cifar10_stn()) == (0.5, 0.5, 1)
    given = cifar10_stn(spatial_dropout=0.1, dropout=0.2, gradient_scale=0.3)
    assert settings(given) == (0.1, 0.2, 0.3)


def test_pixels_are_normalized_whatever_their_dtype(rng, quick):
    model = cifar10_stn()
    pixels = random_pixels(rng)
    normalized = model.get_layer("normalization")(pixels)
    wanted = (pixels / 255 - CIFAR10_MEAN) / CIFAR10_STD
    assert_allclose(float64(normalized), wanted, atol=1e-5)
    assert_array_equal(float64(model(pixels)), float64(model(pixels.astype("float32"))))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_fresh_transformer_leaves_the_images_alone(rng, set_policy, policy):
    set_policy(policy)
    model = cifar10_stn()
    transformer = model.get_layer("transformer")
    both = keras.Model(model.input, [transformer.input, transformer.output, model.output])
    images, warped, logits = both(random_pixels(rng))
    dtypes = [keras.backend.standardize_dtype(x.dtype) for x in (images, warped, logits)]
    assert dtypes == ["float32", transformer.compute_dtype, "float32"]
    assert np.std(float64(logits)) > 0
    assert_array_equal(float64(warped), float64(ops.cast(images, transformer.compute_dtype)))


@pytest.mark.parametrize("transformer", [True, False])
def test_a_saved_model_predicts_the_same(rng, tmp_path, quick, transformer):
    model = cifar10_stn(transformer, gradient_scale=0.25)
    for weight in model.trainable_weights:
        weight.assign_add(rng.uniform(-0.05, 0.05, weight.shape))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    pixels = random_pixels(rng)
    assert_array_equal(float64(again(pixels)), float64(model(pixels)))
    assert again.name == ("cifar10_stn" if transformer else "cifar10_cnn")


@pytest.mark.parametrize("classifier", ["fcn", "cnn"])
@pytest.mark.parametrize("size", [28, 42, 60])
def test_networks_for_mnist_have_as_many_parameters_with_a_transformer(classifier, size):
    counts = [
        mnist_stn(classifier, transform, size=size).count_params()
        for transform in (None, "affine", "projective", "thin_plate_spline")
    ]
    assert max(abs(count - 400_000) for count in counts) < 4_000


@pytest.mark.parametrize("size", [28, 42])
def test_the_mnist_classifier_sees_28_by_28_pixels(rng, quick, size):
    model = mnist_stn("cnn", size=size, parameters=150_000)
    transformer = model.get_layer("transformer")
    assert tuple(transformer.output.shape[1:]) == (28, 28, 1)
    kernels = [(layer.filters, *layer.kernel_size) for layer in model.layers if is_conv(layer)]
    assert kernels == [(32, 9, 9), (64, 7, 7)]
    looks = [
        (layer.filters, *layer.kernel_size)
        for layer in transformer.localization.layers
        if is_conv(layer)
    ]
    assert looks == [(20, 5, 5), (20, 5, 5)]
    pixels = np.full((2, size, size, 1), 255, "uint8")
    warped = keras.Model(model.input, transformer.output)(pixels)
    assert_allclose(float64(warped)[:, 2:-2, 2:-2], 1, atol=1e-6)


@pytest.mark.parametrize("size, seen", [(28, 8), (42, 4), (60, 9)])
def test_the_localization_network_sees_large_mnist_canvases_at_half_their_size(size, seen):
    localization = mnist_stn("cnn", size=size).get_layer("transformer").localization
    assert localization.layers[-3].input.shape[1:] == (seen, seen, 20)


@pytest.mark.parametrize("options", [{"strides": 2}, {"padding": "same"}, {"groups": 3}])
def test_the_convolution_of_earlier_files_is_a_plain_one(rng, tmp_path, options):
    layer, images = WarpedConv2D(6, 3, **options), rng.normal(size=(2, 8, 12, 3))
    model = keras.Sequential([layer, keras.layers.Conv2D(2, 1)])
    maps = model(images)
    model.save(tmp_path / "earlier.keras")
    again = keras.saving.load_model(tmp_path / "earlier.keras", safe_mode=True)
    assert_array_equal(float64(again(images)), float64(maps))
    plain = keras.layers.Conv2D.from_config(layer.get_config())
    plain.build(images.shape)
    plain.set_weights(layer.get_weights())
    assert_array_equal(float64(layer(images)), float64(plain(images)))


def is_conv(layer):
    return isinstance(layer, keras.layers.Conv2D)


def test_too_few_parameters_or_an_unknown_classifier_are_refused():
    with pytest.raises(ValueError, match="No units are left"):
        mnist_stn("cnn", parameters=100_000)
    with pytest.raises(ValueError, match="Received: classifier='rnn'"):
        mnist_stn("rnn")


def test_feature_maps_are_warped_by_what_is_seen_in_the_images(rng, quick):
    model = cifar10_stn(warped="features", units=32)
    assert cifar10_stn(warped="features").count_params() == 473_120
    transformer = model.get_layer("transformer")
    features, theta = transformer.input
    seen = keras.Model(model.input, [features, theta, transformer.output])(random_pixels(rng))
    assert seen[0].shape == seen[2].shape == (2, 14, 14, 8) and seen[1].shape == (2, 6)
    assert_array_equal(float64(seen[0]), float64(seen[2]))  # a fresh one is the identity
    with pytest.raises(ValueError, match="Received: warped='pixels'"):
        cifar10_stn(warped="pixels")


MAKERS = {
    "cifar10": lambda: cifar10_stn(units=32),
    "cifar10, features": lambda: cifar10_stn(warped="features", units=32),
    "cifar10, plain": lambda: cifar10_stn(False, units=32),
    "mnist fcn": lambda: mnist_stn("fcn", parameters=60_000),
    "mnist cnn": lambda: mnist_stn("cnn", size=42, parameters=150_000),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_models_have_the_same_weights_and_numbers_in_both_formats(rng, quick, set_format, make):
    last = make()
    set_format("channels_first")
    first = make()
    batch, *size, channels = last.input_shape
    assert first.input_shape == (batch, channels, *size)
    assert [weight.shape for weight in first.weights] == [weight.shape for weight in last.weights]
    for weight in last.trainable_weights:
        weight.assign_add(rng.normal(0, 0.02, weight.shape))
    first.set_weights(last.get_weights())
    pixels = rng.integers(0, 256, (2, *size, channels), "uint8")
    logits = float64(last(pixels))
    assert np.ptp(logits) > 0
    assert_allclose(float64(first(pixels.transpose(0, 3, 1, 2))), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("saved, setting", [("last", "first"), ("first", "last")])
def test_a_saved_model_keeps_its_format_under_any_setting(
    rng, tmp_path, quick, set_format, saved, setting
):
    set_format(f"channels_{saved}")
    model = mnist_stn("cnn", parameters=150_000)
    model.save(tmp_path / "model.keras")
    set_format(f"channels_{setting}")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    pixels = rng.integers(0, 256, (2, *model.input_shape[1:]), "uint8")
    assert_array_equal(float64(again(pixels)), float64(model(pixels)))
