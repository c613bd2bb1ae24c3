"""Orientation: its loss against the definition, what it learns without labels, and its edges."""

import keras
import numpy as np
import pytest
from keras import layers

from stn_keras import SpatialTransformer, transforms
from stn_keras.layers import Orientation
from stn_keras.sampling import grid_sample

SIDE = 16


def orientation(max_rotation=np.pi / 2, **settings):
    network = keras.Sequential(
        [layers.Conv2D(8, 5, 2, activation="relu", name="edges"), layers.Flatten()]
    )
    return Orientation(network, max_rotation, **settings)


def turned(images, angles):
    theta = np.stack([angles, 0 * angles, 0 * angles], axis=1).astype("float32")
    grid = transforms.Rigid().grid(theta, images.shape[1:3])
    return np.asarray(keras.ops.convert_to_numpy(grid_sample(images, grid)))


def landscapes(rng, count):
    """Images that are bright above and dark below, with noise."""
    bright = np.linspace(1, -1, SIDE)[:, None, None] * rng.uniform(0.5, 1, (count, 1, 1, 1))
    return (bright + 0.1 * rng.normal(size=(count, SIDE, SIDE, 1))).astype("float32")


def call(layer, images, **settings):
    return keras.ops.convert_to_numpy(layer(images, **settings))


def loss_of(layer):
    return keras.ops.convert_to_numpy(layer.losses[0]).item()


def set_logits(layer, logits):
    """Lets the layer give every image the same logits."""
    kernel, _ = layer.head.get_weights()
    layer.head.set_weights([0 * kernel, np.asarray(logits, "float32")])


def test_it_learns_the_angle_from_turned_images_alone(rng):
    keras.utils.set_random_seed(int(rng.integers(2**31)))
    angles = rng.uniform(-np.pi / 2, np.pi / 2, 1024)
    images = turned(landscapes(rng, 1024), angles)
    layer = orientation()
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layer])
    model.compile(keras.optimizers.Adam(0.01), loss=lambda _, theta: 0 * theta[:, 0])
    model.fit(images, angles, batch_size=64, epochs=12, verbose=0)
    unseen = rng.uniform(-1.5, 1.5, 64)
    found = call(layer, turned(landscapes(rng, 64), unseen))[:, 0]
    assert np.corrcoef(found, -unseen)[0, 1] > 0.97
    upright = SpatialTransformer(layer, transform="rigid")
    straightened = call(upright, turned(landscapes(rng, 64), unseen))
    above = straightened[:, :8].mean((1, 2, 3)) - straightened[:, 8:].mean((1, 2, 3))
    assert (above > 0.25).all()


@pytest.mark.parametrize("gradient_scale", [0.0, 0.5])
def test_it_can_learn_from_its_own_loss_alone(rng, gradient_scale):
    layer = orientation(weight=0.0)
    upright = SpatialTransformer(layer, transform="rigid", gradient_scale=gradient_scale)
    inputs = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(upright(inputs))))
    before = layer.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)  # one step
    model.fit(landscapes(rng, 16), np.ones(16), epochs=1, verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, layer.get_weights())]
    assert all(same) == (gradient_scale == 0)


def test_the_loss_is_the_definition(rng):
    layer = orientation(max_rotation=1.0, weight=0.5, bins=20, seed=3)
    images = rng.normal(size=(6, SIDE, SIDE, 1)).astype("float32")
    call(layer, images)
    logits = rng.normal(size=20)
    set_logits(layer, logits)
    layer.random.state.assign([3, 0])
    call(layer, images, training=True)
    layer.random.state.assign([3, 0])
    turns = keras.random.uniform((6,), -np.pi, np.pi, "float32", layer.random)
    turns = keras.ops.convert_to_numpy(turns).astype("float64")
    shares = np.exp(logits) / np.exp(logits).sum()
    angles = np.radians(18.0) * (np.arange(20) - 9.5)
    lost = [
        -np.log(shares[np.abs(np.angle(np.exp(1j * (angles + turn)))) <= 1.0].sum())
        for turn in turns
    ]
    assert loss_of(layer) == pytest.approx(0.5 * np.mean(lost), abs=1e-5)


def test_equal_probabilities_of_a_half_circle_lose_one_bit(rng):
    layer = orientation(bins=36)
    images = rng.normal(size=(2, SIDE, SIDE, 1)).astype("float32")
    call(layer, images)
    assert not layer.losses
    set_logits(layer, np.zeros(36))
    call(layer, images, training=True)
    assert loss_of(layer) == pytest.approx(np.log(2), abs=1e-5)


def test_angles_beyond_the_greatest_do_not_count(rng):
    layer = orientation(max_rotation=0.8, bins=8)  # 22.5° and 67.5° to either side, and beyond
    images = rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    call(layer, images)
    set_logits(layer, np.log([9, 9, 9, 1, 3, 9, 9, 9]))
    expected = np.tile([np.pi / 8 / 2, 0, 0], (3, 1))
    np.testing.assert_allclose(call(layer, images), expected, atol=1e-6)


@pytest.mark.parametrize("disc", [True, False])
def test_corners_do_not_count_outside_the_disc(rng, disc):
    layer = orientation(disc=disc)
    images = rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    found = call(layer, images)
    for row in (0, 1, -1, -2):
        images[:, row, [0, 1, -1, -2]] = 100
    assert np.array_equal(call(layer, images), found) == disc


def test_channels_first_and_oblong_images(rng):
    images = rng.normal(size=(3, 12, 20, 2)).astype("float32")
    last = orientation(data_format="channels_last", seed=0)
    network = keras.Sequential([layers.Permute((2, 3, 1)), last.network])
    first = Orientation(network, np.pi / 2, data_format="channels_first", seed=0)
    found = call(last, images)
    call(first, np.moveaxis(images, -1, 1))
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(call(first, np.moveaxis(images, -1, 1)), found, atol=1e-6)
    for layer, pixels in ((last, images), (first, np.moveaxis(images, -1, 1))):
        layer.random.state.assign([0, 0])
        call(layer, pixels, training=True)
    assert loss_of(first) == pytest.approx(loss_of(last), abs=1e-5)


def test_a_saved_model_gives_the_same_angles(rng, tmp_path):
    images = rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    inputs = keras.Input((SIDE, SIDE, 1))
    layer = SpatialTransformer(orientation(0.7, weight=2.0, bins=12, seed=5), transform="rigid")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    config = loaded.layers[1].localization.get_config()
    assert (config["max_rotation"], config["weight"], config["bins"], config["seed"]) == (
        0.7,
        2.0,
        12,
        5,
    )


def test_theta_is_float32_under_mixed_precision(rng):
    layer = orientation(dtype="mixed_bfloat16")
    theta = layer(rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32"), training=True)
    assert keras.backend.standardize_dtype(theta.dtype) == "float32" and theta.shape == (3, 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_rotation": 0}, "`max_rotation` must be an angle in radians above 0 and below π"),
        ({"max_rotation": np.pi}, "Received: max_rotation=3.14"),
        ({"max_rotation": "much"}, "`max_rotation` must be a finite number"),
        ({"bins": 0}, "`bins`"),
        ({"max_rotation": 0.5, "bins": 6}, "`bins` must be at least 7 for this `max_rotation`"),
        ({"weight": np.nan}, "`weight` must be a finite number"),
        ({"data_format": "first"}, "data_format"),
    ],
)
def test_arguments_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        orientation(**settings)


def test_networks_that_do_not_fit(rng):
    with pytest.raises(ValueError, match="`network` must be a Keras layer"):
        Orientation(len, 1.0)
    images = np.zeros((1, SIDE, SIDE, 1), "float32")
    with pytest.raises(ValueError, match=r"`network` must give features of shape \(batch, f"):
        Orientation(layers.Conv2D(2, 3), 1.0)(images)
    with pytest.raises(ValueError, match="`images` must have"):
        orientation()(images[0])
