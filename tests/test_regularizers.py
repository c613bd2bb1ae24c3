"""Penalties and metrics of theta: their numbers by hand, in the loss, in the history, on disk."""

import keras
import numpy as np
import pytest
import reference
from autodiff import derivative, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, localization, transforms
from stn_keras.metrics import (
    IdentityDistance,
    OutsideShare,
    identity_distance,
    nonfinite_share,
    outside_share,
)
from stn_keras.regularizers import FromIdentity, Outside

SIZE = (4, 6)  # of output points: x at ±1/6, ±3/6 and ±5/6


def moved(rng, name, batch=3):
    """Parameters of warps that move some points out of the image."""
    identity = transforms.get(name).identity
    return (identity + rng.uniform(0.2, 0.4, (batch, len(identity)))).astype("float32")


@pytest.mark.parametrize(
    "theta, squared_distance, share, beyond",
    [
        # x + 0.4 reaches 37/30 in the last of six columns.
        ([1, 0, 0.4, 0, 1, 0], 0.16, 1 / 6, 7 / 30 / 6),
        # 1.5 x is ±5/4 in two of six columns; 0.5 x is ±1/12, ±3/12, ±5/12.
        ([1.5, 0, 0, 0, 1, 0], (1 + 9 + 25) / 144 / 3, 1 / 3, 1 / 4 / 3),
        # The whole region is below the image: y + 4 is 2.25, 2.75, 3.25, 3.75 beyond the edge.
        ([1, 0, 0, 0, 1, 4], 16, 1, 3),
    ],
)
def test_numbers_by_hand(theta, squared_distance, share, beyond):
    theta = np.array([theta, theta, [1, 0, 0, 0, 1, 0]], "float32")
    assert_allclose(
        float64(identity_distance(theta, size=SIZE)), np.sqrt([squared_distance] * 2 + [0]), 1e-6
    )
    assert_allclose(float64(outside_share(theta, size=SIZE)), [share, share, 0], 1e-6)
    for regularizer, penalty in ((FromIdentity, squared_distance), (Outside, beyond)):
        total = regularizer(strength=3, size=SIZE)(theta)
        assert_allclose(float64(total), 3 * 2 * penalty, 1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_numbers_of_random_affine_transforms(rng, align_corners):
    theta = transforms.Affine().identity + rng.normal(0, 0.5, (5, 6))
    grid = reference.affine_grid(theta, SIZE, align_corners)
    identity = reference.affine_grid([[1, 0, 0, 0, 1, 0]], SIZE, align_corners)
    distance = np.sqrt(((grid - identity) ** 2).sum(-1).mean((1, 2)))
    share = (abs(grid).max(-1) > 1).mean((1, 2))
    for measure, expected in ((identity_distance, distance), (outside_share, share)):
        wide = ops.convert_to_tensor(theta.reshape(-1, 2, 3), "float64")
        found = measure(wide, size=SIZE, align_corners=align_corners)
        assert keras.backend.standardize_dtype(found.dtype) == "float64"
        assert_allclose(float64(found), expected, rtol=1e-12)


@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_the_identity_costs_exactly_nothing_and_is_not_pushed_away(name):
    theta = np.stack([transforms.get(name).identity] * 2)
    for measure in (identity_distance, outside_share):
        for size in ((32, 32), (7, 30)):
            assert_array_equal(float64(measure(theta, name, size)), [0, 0])
        wide = ops.convert_to_tensor(theta, "float64")
        assert_array_equal(float64(measure(wide, name, (7, 30))), [0, 0])
    for regularizer in (FromIdentity(name), Outside(name)):
        assert float64(regularizer(theta)) == 0
        (gradient,) = derivative(regularizer)(theta)
        assert_array_equal(float64(gradient), np.zeros_like(theta))


@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_gradients_are_those_of_the_grid_times_what_each_point_costs(rng, name):
    transform, theta = transforms.get(name), moved(rng, name)

    def grid(theta):
        return transform.grid(theta, SIZE)

    found, identity = float64(grid(theta)), float64(grid(transform.identity[None]))
    for regularizer, per_point in (
        (FromIdentity, 2 * (found - identity)),
        (Outside, np.where(abs(found) > 1, np.sign(found), 0)),
    ):
        penalty = regularizer(transform, strength=3, size=SIZE)
        (gradient,) = derivative(penalty)(theta)
        (expected,) = gradients(grid, [theta], 3 * per_point / 24)
        assert_allclose(float64(gradient), float64(expected), rtol=1e-4, atol=1e-5)
        assert np.all(abs(float64(gradient)).max(axis=1) > 0.01)


@pytest.mark.parametrize(
    "measure",
    [FromIdentity(), Outside(), identity_distance, outside_share, nonfinite_share],
)
def test_images_without_glimpses_cost_nothing(measure):
    assert_array_equal(ops.convert_to_numpy(measure(np.zeros((2, 0, 6), "float32"))), 0)


def test_samples_that_are_not_finite_are_outside():
    assert_array_equal(float64(outside_share([[np.nan, 0.0], [0.0, np.inf]], "translation")), 1)


def test_size_is_the_shape_of_the_image_that_is_turned():
    """A turn by 90° of an image twice as wide as high: its ends are at y = ±2."""
    theta = [[np.pi / 2, 0.0, 0.0]]
    assert_allclose(float64(outside_share(theta, "rigid", (32, 32))), 0)
    assert_allclose(float64(outside_share(theta, "rigid", (32, 64))), 0.5)
    assert float64(Outside("rigid", 1.0, size=(32, 64))(theta)) > 0.2


@pytest.mark.parametrize("strength", [-0.1, np.nan, np.inf, "0.1", None, 1j])
@pytest.mark.parametrize("regularizer", [FromIdentity, Outside])
def test_a_strength_is_a_number_from_0(regularizer, strength):
    with pytest.raises(ValueError, match="`strength` must be.*Received: strength="):
        regularizer(strength=strength)
    assert regularizer(strength=np.float32(0)).strength == 0


@pytest.mark.parametrize("make", [FromIdentity, Outside, IdentityDistance, OutsideShare])
def test_wrong_transforms_sizes_and_thetas_are_refused(make):
    with pytest.raises(ValueError, match="`transform` must be.*Received: transform='afine'"):
        make("afine")
    with pytest.raises(ValueError, match="`size` must be.*Received: size=32"):
        make(size=32)
    made = make("attention")
    call = made if isinstance(made, keras.Regularizer) else lambda t: made.update_state(None, t)
    with pytest.raises(ValueError, match=r"\(batch, 3\).*Received: theta.shape=\(1, 2\)"):
        call([[1.0, 0.0]])


def test_a_metric_is_the_weighted_mean_over_all_batches(rng):
    theta = moved(rng, "similarity", batch=5)
    weights = rng.uniform(size=3)
    for metric, measure in ((IdentityDistance, identity_distance), (OutsideShare, outside_share)):
        metric, values = metric("similarity"), float64(measure(theta, "similarity"))
        metric.update_state(None, theta[:3])
        metric.update_state(None, theta[3:])
        assert_allclose(float64(metric.result()), values.mean(), 1e-5)
        metric.reset_state()
        metric.update_state(None, theta[:3], sample_weight=weights)
        assert_allclose(float64(metric.result()), np.average(values[:3], weights=weights), 1e-5)


STRENGTH = 10.0


def regressor(rng, transform, start, regularizer):
    """A network whose theta differs a little from image to image."""
    head = localization.head(transform, start, regularizer)
    network = keras.Sequential(
        [keras.Input((6, 5, 1)), keras.layers.Flatten(), head], name="localization"
    )
    head.kernel.assign(rng.normal(0, 0.02, head.kernel.shape))
    return network


def theta_model(rng, regularizer):
    """A model from images to their means, the targets, and theta; its learning rate is 0."""
    images = keras.Input((6, 5, 1))
    outputs = {
        "mean": keras.layers.GlobalAveragePooling2D()(images),
        "theta": regressor(rng, "attention", (1, 0.6, -0.4), regularizer)(images),
    }
    model = keras.Model(images, outputs)
    measures = [IdentityDistance("attention"), OutsideShare("attention", name="outside")]
    model.compile(keras.optimizers.SGD(0.0), loss={"mean": "mse"}, metrics={"theta": measures})
    return model


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", [FromIdentity, Outside])
def test_fit_adds_the_penalty_to_the_loss_and_the_metrics_to_the_history(
    rng, tmp_path, regularizer
):
    model = theta_model(rng, regularizer("attention", STRENGTH))
    images = rng.uniform(size=(5, 6, 5, 1)).astype("float32")
    targets = {"mean": np.zeros((5, 1), "float32"), "theta": np.zeros(5, "float32")}
    theta = model(images)["theta"]
    penalty = float64(regularizer("attention", STRENGTH)(theta)) / len(theta)
    expected = {
        "loss": (images.mean((1, 2, 3)) ** 2).mean() + penalty,
        "theta_identity_distance": float64(identity_distance(theta, "attention")).mean(),
        "theta_outside": float64(outside_share(theta, "attention")).mean(),
    }
    assert penalty > 0.1
    # The last batch is a smaller one.
    history = model.fit(images, targets, batch_size=2, verbose=0).history
    assert history.keys() == expected.keys()
    for name, value in expected.items():
        assert_allclose(history[name], value, rtol=1e-4, err_msg=name)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    scores = again.evaluate(images, targets, batch_size=2, verbose=0, return_dict=True)
    for name, value in expected.items():
        assert_allclose(scores[name], value, rtol=1e-4, err_msg=name)


def test_training_brings_a_warp_back_into_the_image():
    head = localization.head(
        "attention", start=(0.5, 1.2, 0.0), activity_regularizer=Outside("attention", 1.0)
    )
    model = keras.Sequential([keras.Input((2,)), head])
    model.compile(keras.optimizers.SGD(0.1))
    nothing = np.zeros((64, 2), "float32")
    assert float64(outside_share(model(nothing), "attention"))[0] > 0.5
    model.fit(nothing, batch_size=1, verbose=0)
    theta = model(nothing)
    assert float64(outside_share(theta, "attention"))[0] < 0.1
    assert float64(theta)[0, 1] > 0.4  # no further than it has to


def test_the_penalty_is_found_within_a_transformer_once_per_look(rng):
    images = rng.uniform(size=(3, 6, 5, 1)).astype("float32")
    localize = regressor(rng, "affine", (1, 0, 0.5, 0, 1, 0), FromIdentity(strength=2))
    layer = SpatialTransformer(localize, iterations=2)
    layer(images)
    penalties = [float64(loss) for loss in layer.losses]
    first = (float64(identity_distance(localize(images))) ** 2).mean()
    assert len(penalties) == 2
    assert_allclose(penalties[0], 2 * first, rtol=1e-5)


def test_a_small_penalty_is_not_rounded_away_under_mixed_precision(set_policy):
    set_policy("mixed_bfloat16")
    start = (1.0, 0.001, 0.0)
    network = localization.cnn("attention", start, FromIdentity("attention", 1))
    network(np.zeros((2, 32, 32, 1), "float32"))
    (penalty,) = network.losses
    assert keras.backend.standardize_dtype(penalty.dtype) == "float32"
    assert_allclose(float64(penalty), 1e-6, rtol=1e-3)


@pytest.mark.parametrize("make", [FromIdentity, Outside, IdentityDistance, OutsideShare])
def test_everything_survives_its_config(make):
    transform = transforms.Similarity(max_rotation=0.5, scale=(0.5, 2.0))
    options = {"strength": 0.5} if issubclass(make, keras.Regularizer) else {"name": "mine"}
    made = make(transform, size=(16, 8), **options)
    config = keras.saving.serialize_keras_object(made)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert config["registered_name"] == f"stn_keras>{make.__name__}"
    assert type(again) is make and again.get_config() == made.get_config()
    assert again.transform == transform and again.size == (16, 8)
    assert all(getattr(again, name) == value for name, value in options.items())
