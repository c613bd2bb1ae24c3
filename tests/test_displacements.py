"""Fields composed, resized and differentiated, by their definitions in plain NumPy."""

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import DenseWarp, geometry, metrics
from stn_keras.geometry import compose_displacements, jacobian_determinant, resize_displacement

FLAT, VOLUME = (2, 5, 7, 2), (2, 4, 5, 6, 3)
both_ranks = pytest.mark.parametrize("shape", [FLAT, VOLUME])
formats = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def turned(function, data_format, *fields, vectors=True):
    """The result of `function(*fields)`, of fields in that format, with vectors last."""
    if data_format == "channels_last":
        return float64(function(*fields))
    found = float64(function(*(np.moveaxis(field, -1, 1) for field in fields)))
    return np.moveaxis(found, 1, -1) if vectors else found


@both_ranks
@formats
def test_composed_displacements_are_the_definition_and_two_warps(rng, shape, data_format):
    first, second = rng.normal(size=(2, *shape))
    found = turned(
        lambda *fields: compose_displacements(*fields, data_format=data_format),
        data_format,
        first,
        second,
    )
    axes, lengths = shape[-1], np.array(shape[-2:0:-1])
    grid = reference.affine_grid(np.eye(axes, axes + 1)[None].repeat(2, 0), shape[1:-1])
    moved = reference.grid_sample(first, grid + second * 2 / lengths, "nearest")
    assert_allclose(found, second + moved, atol=1e-9)

    # Inside an image that is an affine function of its coordinates, both warps are exact.
    image = np.indices(shape[1:-1], "float64").sum(0)[None, ..., None].repeat(2, 0)
    first, second = first * 0.2, np.broadcast_to(rng.uniform(-0.5, 0.5, axes), shape)
    warp = DenseWarp(fill_mode="nearest", dtype="float64")
    twice = float64(warp([warp([image, first]), second]))
    once = float64(warp([image, compose_displacements(first, second)]))
    inner = (
        (slice(None), *[slice(2, -2)] * 2, slice(None)) if axes == 2 else np.s_[:, 2:-2, 2:-2, 2:-2]
    )
    assert_allclose(once[inner], twice[inner], atol=1e-9)


@both_ranks
@pytest.mark.parametrize("align_corners", [False, True])
@formats
def test_a_resized_displacement_warps_the_enlarged_image(rng, shape, align_corners, data_format):
    """An affine field stays affine: it samples the same normalised positions as before."""
    axes, size = shape[-1], tuple(2 * n - 1 for n in shape[1:-1])

    def field(size):
        grid = np.stack(
            np.meshgrid(
                *([reference.position(i, n, align_corners) for i in range(n)] for n in size),
                indexing="ij",
            )[::-1],
            axis=-1,
        )
        lengths = np.array(size[::-1]) - align_corners
        return (grid @ matrix.T * lengths / 2)[None].repeat(shape[0], 0)

    matrix = rng.normal(0, 0.2, (axes, axes))
    found = turned(
        lambda given: resize_displacement(
            given, size, align_corners=align_corners, data_format=data_format
        ),
        data_format,
        field(shape[1:-1]),
    )
    inner = (slice(None), *[slice(1, -1)] * axes)  # beyond the outermost centres it is constant
    assert_allclose(found[inner], field(size)[inner], atol=1e-9)
    same = resize_displacement(rng.normal(size=shape), shape[1:-1])
    assert same.shape == shape


def test_a_half_size_network_s_field_in_numbers():
    half = np.zeros((1, 2, 3, 2), "float32") + np.float32([1.0, -0.5])
    whole = float64(resize_displacement(half, (4, 9)))
    assert_array_equal(whole, np.broadcast_to([3.0, -1.0], (1, 4, 9, 2)))


@both_ranks
@formats
def test_jacobian_determinants_are_those_of_numpy(rng, shape, data_format):
    field = rng.normal(0, 0.5, shape)
    found = turned(
        lambda given: jacobian_determinant(given, data_format=data_format),
        data_format,
        field,
        vectors=False,
    )
    axes = shape[-1]
    jacobian = np.empty((*shape[:-1], axes, axes))
    for row in range(axes):
        for column in range(axes):
            slope = np.gradient(field[..., row], axis=axes - column)
            jacobian[..., row, column] = slope + (row == column)
    assert_allclose(found, np.linalg.det(jacobian), atol=1e-9)

    metric = metrics.FoldedShare(data_format)
    given = field if data_format == "channels_last" else np.moveaxis(field, -1, 1)
    metric.update_state(None, given[:1])
    metric.update_state(None, given[1:])
    share = (np.linalg.det(jacobian) <= 0).mean()
    assert share > 0
    assert_allclose(float64(metric.result()), share, atol=1e-6)


def test_what_folds_in_numbers():
    x = np.zeros((1, 3, 4, 2))
    assert_array_equal(float64(jacobian_determinant(x)), 1)
    x[..., 0] = -np.arange(4)  # every pixel of a row looks at its first
    assert_array_equal(float64(jacobian_determinant(x)), 0)
    assert_array_equal(float64(jacobian_determinant(x[:, :1])), 0)  # a row alone
    metric = metrics.FoldedShare()
    metric.update_state(None, np.concatenate([x, np.zeros_like(x)]))
    assert float64(metric.result()) == 0.5
    metric.reset_state()
    metric.update_state(None, x * np.nan)
    assert float64(metric.result()) == 1
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert again.get_config() == metric.get_config()


@both_ranks
def test_gradients_are_finite_differences(rng, shape):
    field, step = rng.normal(0, 0.3, (1, *shape[1:])), 1e-6
    other = rng.integers(-1, 2, field.shape) + rng.uniform(0.2, 0.8, field.shape)
    size = tuple(n + 2 for n in shape[1:-1])
    for call in (
        lambda field: compose_displacements(field, other),
        lambda field: resize_displacement(field, size),
        jacobian_determinant,
    ):
        weights = rng.normal(size=tuple(call(field).shape))
        (found,) = gradients(call, [field], weights)
        for index in [tuple(rng.integers(0, field.shape)) for _ in range(5)]:
            ends = [field.copy(), field.copy()]
            ends[0][index] += step
            ends[1][index] -= step
            high, low = (np.sum(float64(call(end)) * weights) for end in ends)
            assert_allclose(float64(found)[index], (high - low) / (2 * step), atol=1e-5)


@both_ranks
@formats
def test_functional_models_have_all_of_them_and_load(rng, shape, data_format, tmp_path):
    """The half-resolution pattern: a field of half the size, brought to the images'."""
    size = tuple(2 * n for n in shape[1:-1])
    images, field = rng.normal(size=(2, *size, 1)), rng.normal(size=shape)
    if data_format == "channels_first":
        images, field = (np.moveaxis(x, -1, 1) for x in (images, field))
    images, field = images.astype("float32"), field.astype("float32")

    def outputs(images, field):
        twice = compose_displacements(field, field, data_format=data_format)
        whole = resize_displacement(twice, size, data_format=data_format)
        warped = DenseWarp(data_format=data_format)([images, whole])
        return [warped, jacobian_determinant(whole, data_format=data_format)]

    inputs = [keras.Input(x.shape[1:]) for x in (images, field)]
    model = keras.Model(inputs, outputs(*inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for found, wanted, shape in zip(
        again.predict([images, field], verbose=0), outputs(images, field), model.output_shape
    ):
        assert_allclose(found, float64(wanted), atol=1e-5)
        assert found.shape[1:] == shape[1:]


def test_wrong_fields_and_sizes_are_refused():
    good = np.zeros(FLAT)
    with pytest.raises(ValueError, match="`first` and `second` must have the same size"):
        compose_displacements(good, good[:, :4])
    with pytest.raises(ValueError, match="`first` and `second` must have the same size"):
        compose_displacements(good, np.zeros(VOLUME))
    with pytest.raises(ValueError, match="`second` must have shape"):
        compose_displacements(good, good[..., :1])
    for function in (jacobian_determinant, lambda field: resize_displacement(field, (3, 3))):
        with pytest.raises(ValueError, match="`displacement` must have shape"):
            function(good[0])
    for size in ((3,), (3, 3, 3), (0, 3), 3):
        with pytest.raises(ValueError, match="`size` must be.*Received: size="):
            resize_displacement(good, size)
    with pytest.raises(ValueError, match="`data_format` must be one of"):
        jacobian_determinant(good, data_format="last")
    with pytest.raises(AttributeError, match="has no attribute 'resize'"):
        geometry.resize
