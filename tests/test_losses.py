"""Losses of displacements and images: plain NumPy in float64, numbers by hand, and in `compile`."""

import itertools

import keras
import numpy as np
import pytest
from autodiff import float64, gradients
from numpy.testing import assert_allclose

from stn_keras import losses

FLAT, VOLUME = (2, 6, 7, 2), (2, 4, 5, 6, 3)
both_ranks = pytest.mark.parametrize("shape", [FLAT, VOLUME])
LOSSES = {
    "l1": lambda **options: losses.DisplacementGradient("l1", **options),
    "l2": losses.DisplacementGradient,
    "bending": losses.BendingEnergy,
    "correlation": lambda **options: losses.LocalCrossCorrelation(3, **options),
}
all_losses = pytest.mark.parametrize("name", LOSSES)


def gradient_loss(field, power):
    steps = [np.abs(np.diff(field, axis=axis)) ** power for axis in range(1, field.ndim - 1)]
    return np.mean([step.mean(axis=tuple(range(1, field.ndim))) for step in steps], axis=0)


def bending(field):
    """Point by point: all second derivatives, in both orders."""
    axes, found = field.shape[-1], np.zeros(len(field))
    unit = np.eye(axes, dtype=int)
    inner = list(itertools.product(*(range(1, n - 1) for n in field.shape[1:-1])))
    for b, place in itertools.product(range(len(field)), inner):

        def at(step):
            return field[b][tuple(np.array(place) + step)]

        for i, j in itertools.product(range(axes), repeat=2):
            if i == j:
                second = at(unit[i]) - 2 * at(0) + at(-unit[i])
            else:
                plus, minus = unit[i] + unit[j], unit[i] - unit[j]
                second = (at(plus) - at(minus) - at(-minus) + at(-plus)) / 4
            found[b] += np.mean(second**2) / len(inner)
    return found


def correlation(first, second, window):
    """Window by window, cut off at the edges."""
    reach, found = window // 2, np.empty(first.shape)
    for b, *place, channel in np.ndindex(first.shape):
        cut = tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)
        x, y = (images[b][cut][..., channel].ravel() for images in (first, second))
        found[b, *place, channel] = np.corrcoef(x, y)[0, 1] ** 2
    return -found.mean(axis=tuple(range(1, first.ndim)))


@both_ranks
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_losses_are_their_definitions(rng, shape, data_format):
    field, first, second = rng.normal(size=(3, *shape))
    options = {"data_format": data_format, "reduction": None, "dtype": "float64"}

    def value(loss, *tensors):
        if data_format == "channels_first":
            tensors = [np.moveaxis(tensor, -1, 1) for tensor in tensors]
        y_true, y_pred = tensors if len(tensors) == 2 else (np.zeros(2), *tensors)
        return float64(loss(y_true, y_pred))

    l1, l2 = (losses.DisplacementGradient(norm, **options) for norm in ("l1", "l2"))
    assert_allclose(value(l1, field), gradient_loss(field, 1), rtol=1e-9)
    assert_allclose(value(l2, field), gradient_loss(field, 2), rtol=1e-9)
    assert_allclose(value(losses.BendingEnergy(**options), field), bending(field), rtol=1e-9)
    for window in (3, 5):
        loss = losses.LocalCrossCorrelation(window, **options)
        found = value(loss, 4 + first, second)
        assert_allclose(found, correlation(first, second, window), rtol=1e-5)


@both_ranks
@all_losses
def test_gradients_are_finite_differences(rng, shape, name):
    # Keras's reductions round float64 on PyTorch.
    loss, step = LOSSES[name](dtype="float64", reduction=None), 1e-6
    y_true, y_pred = rng.normal(size=(2, *shape))
    (found,) = gradients(lambda y_pred: loss(y_true, y_pred), [y_pred], 1.0)
    for index in [tuple(rng.integers(0, shape)) for _ in range(5)]:
        ends = [y_pred.copy(), y_pred.copy()]
        ends[0][index] += step
        ends[1][index] -= step
        high, low = (float64(loss(y_true, end)).sum() for end in ends)
        expected = (high - low) / (2 * step)
        # The images' mean and scale count as constants, which alters the last digits.
        assert_allclose(float64(found)[index], expected, rtol=1e-3, atol=1e-6)


def test_affine_displacements_do_not_bend(rng):
    for size in ((4, 5), (3, 4, 5)):
        places = np.stack(np.indices(size)[::-1], axis=-1).astype("float64")
        field = (places @ rng.normal(size=(len(size), len(size))))[None]
        assert abs(float64(losses.BendingEnergy(dtype="float64")(np.zeros(1), field))) < 1e-20


@pytest.mark.parametrize("scale", [1e-6, 1.0, 255.0, 1e6])
def test_correlation_ignores_brightness_and_contrast(rng, scale):
    images, loss = scale * rng.uniform(size=(2, 24, 20, 1)), losses.LocalCrossCorrelation()
    assert_allclose(float64(loss(images, 3 * scale - images / 2)), -1, atol=1e-3)
    unlike = float64(loss(images, scale * rng.uniform(size=images.shape)))
    assert -0.1 < unlike < 0
    shifted = losses.LocalCrossCorrelation(window=1)
    assert float64(shifted(images, images)) > -1e-3  # a pixel alone is flat


@pytest.mark.parametrize("shape", [(1, 64, 72, 1), (1, 24, 26, 28, 1)])
@pytest.mark.parametrize("value", [1.0, -4095.0])
def test_flat_bright_patches_have_the_correlation_and_gradient_of_float64(rng, shape, value):
    """In a mask or a saturated spot, a difference of squares has no digits left in float32."""
    sparse, patches = np.zeros((2, *shape), "float32")
    sparse[:, 5:18, 5:18, 5:18] = patches[:, 7:20, 4:17, 5:18] = value
    textured = sparse + value * rng.uniform(0.99, 1, shape).astype("float32") * (sparse != 0)
    for fixed, moving in ((sparse, patches), (patches, 1.3 * sparse + value), (sparse, textured)):
        values, slopes = [], []
        for dtype in ("float32", "float64"):
            loss = losses.LocalCrossCorrelation(5, dtype=dtype)
            values.append(float64(loss(fixed, moving)))
            (slope,) = gradients(lambda y_pred: loss(fixed, y_pred), [moving.astype(dtype)], 1.0)
            slopes.append(float64(slope))
        assert -1 <= values[0] <= 0
        assert_allclose(*values, rtol=1e-3)
        assert_allclose(*slopes, atol=1e-2 * np.abs(slopes[1]).max())


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 255.0, 1e4])
@both_ranks
@all_losses
def test_constant_images_and_fields_cost_nothing_and_have_finite_gradients(shape, name, value):
    constant, loss = np.full(shape, value, "float32"), LOSSES[name]()
    varied = np.random.default_rng(0).normal(size=shape).astype("float32")
    assert abs(float64(loss(constant, constant))) < 1e-3
    for y_true in (constant, varied):
        (found,) = gradients(lambda y_pred: loss(y_true, y_pred), [constant], 1.0)
        assert np.all(np.isfinite(float64(found)))


@all_losses
def test_half_precision_is_computed_in_float32(rng, name):
    y_true, y_pred = rng.normal(size=(2, *FLAT)).astype("float16")
    loss = LOSSES[name]()
    found, wanted = loss(y_true, y_pred), loss(y_true.astype("float32"), y_pred.astype("float32"))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert_allclose(float64(found), float64(wanted), rtol=1e-6)


def test_a_model_is_compiled_with_them_and_loads(rng, tmp_path):
    images = rng.uniform(size=(2, 6, 7, 1)).astype("float32")
    inputs = keras.Input((6, 7, 1))
    field = keras.layers.Conv2D(2, 3, padding="same", name="field")(inputs)
    model = keras.Model(inputs, {"image": keras.layers.Conv2D(1, 1)(inputs), "field": field})
    by_name = {"image": losses.LocalCrossCorrelation(3), "field": losses.BendingEnergy()}
    model.compile("sgd", loss=by_name, loss_weights={"image": 1.0, "field": 0.1})
    targets = {"image": images, "field": np.zeros(2)}
    model.fit(images, targets, verbose=0)
    wanted = model.evaluate(images, targets, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_allclose(again.evaluate(images, targets, verbose=0), wanted, rtol=1e-5)


@all_losses
def test_losses_survive_their_config(name):
    loss = LOSSES[name](reduction="sum", name="mine", data_format="channels_first")
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert config["registered_name"] == f"stn_keras>{type(loss).__name__}"
    assert again.get_config() == loss.get_config()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`norm` must be one of.*Received: norm='l3'"):
        losses.DisplacementGradient("l3")
    for window in (0, 2, -1, 1.5):
        with pytest.raises(ValueError, match="`window` must be"):
            losses.LocalCrossCorrelation(window)
    for loss in (losses.DisplacementGradient(), losses.BendingEnergy()):
        with pytest.raises(ValueError, match="`y_pred` must have shape"):
            loss(np.zeros(2), np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="`y_pred` must have sides of at least three"):
        losses.BendingEnergy()(np.zeros(2), np.zeros((2, 2, 4, 2)))
    with pytest.raises(ValueError, match="`y_true` and `y_pred` must have the same shape"):
        losses.LocalCrossCorrelation()(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 5, 1)))
    with pytest.raises(ValueError, match="`y_true` and `y_pred` must have at least one channel"):
        losses.LocalCrossCorrelation()(np.zeros((2, 4, 4, 0)), np.zeros((2, 4, 4, 0)))
