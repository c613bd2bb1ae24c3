"""Warps by a displacement per pixel: definition, identity, gradients, formats, files, bad input."""

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import DenseWarp, VelocityIntegration
from stn_keras.geometry import compose_displacements

FLAT, VOLUME = (2, 5, 7, 2), (2, 3, 4, 5, 1)  # of images
both_ranks = pytest.mark.parametrize("shape", [FLAT, VOLUME])
both_conventions = pytest.mark.parametrize("align_corners", [False, True])


def drawn(rng, shape, size=None, scale=1.5):
    """Images, and a displacement of their size or of another, away from kinks at whole pixels."""
    field = rng.integers(-2, 3, (shape[0], *(size or shape[1:-1]), len(shape) - 2)) * scale / 1.5
    return rng.normal(size=shape), field + rng.uniform(0.1, 0.4, field.shape)


def expected(images, displacement, align_corners=False, **options):
    """The definition: the identity's positions plus the displacement, sampled in float64."""
    axes, lengths = images.ndim - 2, np.array(images.shape[-2:0:-1])
    theta = np.repeat(np.eye(axes, axes + 1)[None], len(images), 0)
    grid = reference.affine_grid(theta, displacement.shape[1:-1], align_corners)
    grid = grid + displacement * 2 / (lengths - align_corners)
    return reference.grid_sample(images, grid, align_corners=align_corners, **options)


def smooth(rng, size, peak):
    """A smooth random field, 0 at the edges, float64."""
    place = np.meshgrid(*(np.linspace(0, np.pi, n) for n in size), indexing="ij")
    window = np.prod([np.sin(p) for p in place], axis=0)
    waves = [
        sum(np.sin(rng.uniform(0.5, 1.5) * p + rng.uniform(0, 6)) for p in place) for _ in size
    ]
    field = np.stack([wave * window for wave in waves], axis=-1)[None]
    return peak * field / np.abs(field).max()


@both_ranks
def test_a_field_of_zeros_returns_the_images_bit_for_bit(rng, shape):
    images = rng.normal(size=shape).astype("float32")
    zeros = np.zeros((*shape[:-1], len(shape) - 2), "float32")
    for options in ({}, {"align_corners": True, "fill_value": 3.0}, {"units": "normalized"}):
        for interpolation in ("nearest", "bilinear"):
            layer = DenseWarp(interpolation=interpolation, **options)
            assert_array_equal(float64(layer([images, zeros])), images)


@both_ranks
@both_conventions
@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect", "wrap"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_warp_is_the_definition(rng, shape, align_corners, fill_mode, interpolation):
    if interpolation == "bicubic" and shape == VOLUME:
        pytest.skip("not for volumes")
    options = {"fill_mode": fill_mode, "interpolation": interpolation, "fill_value": 0.5}
    options |= {"align_corners": align_corners}
    size = tuple(n + 1 for n in shape[1:-1]) if interpolation == "bilinear" else None
    images, field = drawn(rng, shape, size)
    if interpolation == "bilinear":  # of another size, and so away from kinks only by chance
        field = field + 0.003
    warped = DenseWarp(**options, dtype="float64")([images, field])
    assert_allclose(float64(warped), expected(images, field, **options), atol=1e-8)


@both_ranks
@both_conventions
def test_normalized_units_are_those_of_grids(rng, shape, align_corners):
    images, field = drawn(rng, shape)
    lengths = np.array(shape[-2:0:-1])
    layer = DenseWarp("normalized", align_corners=align_corners, dtype="float64")
    warped = layer([images, field * 2 / (lengths - align_corners)])
    assert_allclose(float64(warped), expected(images, field, align_corners), atol=1e-8)


@pytest.mark.parametrize("shape, compiled", [(FLAT, False), (VOLUME, False), (VOLUME, True)])
def test_gradients_are_finite_differences(rng, shape, compiled, request):
    if compiled:
        request.getfixturevalue("fused")
    images, field = drawn(rng, (1, *shape[1:]))
    weights, step = rng.normal(size=images.shape), 1e-5

    def call(images, field):
        warp = DenseWarp(fill_mode="nearest", dtype="float64")
        if compiled and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.function(lambda *inputs: warp(list(inputs)))(images, field)
        return warp([images, field])

    found = gradients(call, [images, field], weights)
    for which, gradient in enumerate(map(float64, found)):
        for index in [tuple(rng.integers(0, gradient.shape)) for _ in range(8)]:
            ends = []
            for sign in (1, -1):
                inputs = [images.copy(), field.copy()]
                inputs[which][index] += sign * step
                ends.append(np.sum(expected(*inputs, fill_mode="nearest") * weights))
            assert_allclose(gradient[index], (ends[0] - ends[1]) / (2 * step), atol=1e-4)


@both_ranks
def test_values_and_gradients_are_those_of_pytorch(rng, shape):
    torch = pytest.importorskip("torch")
    images, field = drawn(rng, shape)
    upstream = rng.normal(size=shape)
    inputs = [torch.tensor(x, requires_grad=True) for x in (images, field)]
    identity = torch.eye(len(shape) - 2, len(shape) - 1).double().repeat(shape[0], 1, 1)
    size = (shape[0], shape[-1], *shape[1:-1])
    grid = torch.nn.functional.affine_grid(identity, size, align_corners=False)
    grid = grid + inputs[1] * 2 / torch.tensor(shape[-2:0:-1])
    sample = torch.nn.functional.grid_sample
    warped = sample(inputs[0].movedim(-1, 1), grid, align_corners=False).movedim(1, -1)
    warped.backward(torch.tensor(upstream))

    def call(images, field):
        return DenseWarp(dtype="float64")([images, field])

    assert_allclose(float64(call(images, field)), warped.detach(), atol=1e-9)
    for found, tensor in zip(gradients(call, [images, field], upstream), inputs):
        assert_allclose(float64(found), tensor.grad, atol=1e-9)


@pytest.mark.parametrize("order, interpolation", [(0, "nearest"), (1, "bilinear")])
@both_ranks
def test_values_are_those_of_scipy(rng, shape, order, interpolation):
    ndimage = pytest.importorskip("scipy.ndimage")
    images, field = drawn(rng, shape)
    warped = float64(
        DenseWarp(interpolation=interpolation, fill_mode="nearest", dtype="float64")(
            [images, field]
        )
    )
    places = np.indices(shape[1:-1]) + np.moveaxis(field, -1, 1)[:, ::-1]
    for image, coordinates, found in zip(images, places, warped):
        for channel in range(shape[-1]):
            values = ndimage.map_coordinates(
                image[..., channel], coordinates, order=order, mode="nearest"
            )
            assert_allclose(found[..., channel], values, atol=1e-9)


IMAGE = np.arange(12.0, dtype="float32").reshape(1, 3, 4, 1)  # a pixel's value is x + 4y


@pytest.mark.parametrize("rank", [2, 3])
def test_a_field_of_voxelmorph_is_turned_round(rank):
    """VoxelMorph: `(z, y, x)` in voxels, `input(p + displacement(p))`."""
    shape = (2, 3, 4)[-rank:]
    image = np.arange(np.prod(shape), dtype="float32").reshape(1, *shape, 1)
    theirs = np.zeros((1, *shape, rank), "float32")
    theirs[..., -2] = 1  # y
    warped = float64(DenseWarp()([image, theirs[..., ::-1]]))
    assert_array_equal(warped[..., :-1, :, :], image[..., 1:, :, :])


def test_a_flow_of_dense_image_warp_is_negated_and_turned_round():
    """TensorFlow Addons: `(y, x)` in pixels, `input(p - flow(p))`."""
    flow = np.full((1, 3, 4, 2), [0.0, 1.0], "float32")
    warped = float64(DenseWarp(fill_mode="nearest")([IMAGE, -flow[..., ::-1]]))
    assert_array_equal(warped[0, 0, :, 0], [0, 0, 1, 2])


def test_optical_flow_brings_the_second_frame_back_to_the_first():
    """OpenCV: `(x, y)` in pixels, `first(p) = second(p + flow(p))`."""
    first, second = IMAGE[:, :, 1:], IMAGE[:, :, :3]  # what is at x comes to x + 1
    flow = np.full((1, 3, 3, 2), [1.0, 0.0], "float32")
    assert_array_equal(float64(DenseWarp()([second, flow]))[:, :, :2], first[:, :, :2])


@both_ranks
def test_channels_first_is_of_images_and_displacement(rng, shape):
    images, field = drawn(rng, shape)
    wanted = float64(DenseWarp(dtype="float64")([images, field]))
    first = [np.moveaxis(x, -1, 1) for x in (images, field)]
    for units in ("pixels", "normalized"):
        layer = DenseWarp(units, data_format="channels_first", dtype="float64")
        lengths = np.array(shape[-2:0:-1]).reshape(1, -1, *[1] * (len(shape) - 2))
        given = first[1] if units == "pixels" else first[1] * 2 / lengths
        found = layer([first[0], given])
        assert_allclose(np.moveaxis(float64(found), 1, -1), wanted, atol=1e-8)
        shapes = [first[0].shape, first[1].shape]
        assert layer.compute_output_shape(shapes) == tuple(found.shape)
    velocity = VelocityIntegration(3, data_format="channels_first")(first[1])
    wanted = float64(VelocityIntegration(3)(field))
    assert_allclose(np.moveaxis(float64(velocity), 1, -1), wanted, atol=1e-8)


def test_one_image_or_one_field_is_for_the_whole_batch(rng):
    images, field = drawn(rng, FLAT)
    layer = DenseWarp(dtype="float64")
    wanted = float64(layer([images, field[:1].repeat(2, 0)]))
    assert_array_equal(float64(layer([images, field[:1]])), wanted)
    wanted = float64(layer([images[:1].repeat(2, 0), field]))
    assert_array_equal(float64(layer([images[:1], field])), wanted)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_displacement_keeps_float32_under_mixed_precision(rng, set_policy, policy):
    set_policy(policy)
    columns = np.tile(np.arange(64, dtype="float32") / 64, (1, 2, 1))[..., None]
    field = np.full((1, 2, 64, 2), [0.3, 0], "float32")
    warped = DenseWarp(fill_mode="nearest")([columns, field])
    assert keras.backend.standardize_dtype(warped.dtype) == policy.removeprefix("mixed_")
    inner = float64(warped)[0, 0, :-1, 0]
    assert_allclose(inner, (np.arange(63) + 0.3) / 64, rtol=0.005, atol=1e-3)
    moved = VelocityIntegration()(field)
    assert keras.backend.standardize_dtype(moved.dtype) == "float32"
    assert_allclose(float64(moved), field, atol=1e-6)


@both_ranks
def test_a_model_predicts_and_learns_and_loads_the_same(rng, shape, tmp_path):
    images, field = (x.astype("float32") for x in drawn(rng, shape))
    inputs = [keras.Input(x.shape[1:]) for x in (images, field)]
    conv = {4: keras.layers.Conv2D, 5: keras.layers.Conv3D}[len(shape)]
    network = conv(len(shape) - 2, 1, kernel_initializer="ones")
    displacement = VelocityIntegration(1)(network(inputs[1]))
    model = keras.Model(inputs, DenseWarp(fill_mode="reflect")([inputs[0], displacement]))
    assert model.output_shape == (None, *shape[1:])
    model.compile("sgd", "mse")
    before = network.get_weights()[0]
    if shape == FLAT:
        model.fit([images, field], images, verbose=0)
        assert np.any(before != network.get_weights()[0])
    wanted = model.predict([images, field], verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert_array_equal(again.predict([images, field], verbose=0), wanted)
    for layer in model.layers[-2:]:
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("size", [(24, 30), (14, 16, 18)])
def test_the_negated_velocity_gives_the_inverse(rng, size):
    velocity = smooth(rng, size, peak=1.5)
    there, back = (VelocityIntegration()(sign * velocity) for sign in (1, -1))
    assert np.abs(float64(there)).max() > 0.8
    for first, second in ((there, back), (back, there)):
        left = float64(compose_displacements(first, second))
        assert np.abs(left).max() < 0.1 and np.sqrt(np.mean(left**2)) < 0.015


def test_integration_is_many_small_steps(rng):
    velocity = smooth(rng, (20, 20), peak=2.0)
    steps, moved = 50, np.zeros_like(velocity)
    for _ in range(steps):
        moved = (
            moved
            + float64(DenseWarp(fill_mode="nearest", dtype="float64")([velocity, moved])) / steps
        )
    assert_allclose(float64(VelocityIntegration(8)(velocity)), moved, atol=0.05)
    assert_array_equal(float64(VelocityIntegration(0)(velocity)), velocity)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@both_ranks
def test_displacements_that_are_not_finite_are_outside(rng, shape, value):
    images, field = drawn(rng, shape)
    field[0, 1, 1] = value
    warped = float64(DenseWarp(fill_value=7.0, dtype="float64")([images, field]))
    assert np.all(warped[0, 1, 1] == 7) and np.all(np.isfinite(warped))
    warped = float64(DenseWarp(fill_mode="nearest", dtype="float64")([images, field]))
    assert np.all(np.isfinite(warped))
    float64(VelocityIntegration(2)(field))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, 5, 7, 3), "`displacement` must have shape"),
        ((2, 5, 7), "`displacement` must have shape"),
        ((2, 3, 5, 7, 3), "`displacement` must have shape"),
        ((3, 5, 7, 2), "`images` and `displacement` must have the same batch size"),
    ],
)
@pytest.mark.parametrize("units", ["pixels", "normalized"])
def test_fields_of_wrong_shapes_are_refused(shape, message, units):
    with pytest.raises(ValueError, match=message):
        DenseWarp(units)([np.zeros(FLAT), np.zeros(shape)])
    if "batch" not in message:  # a model's batch size is open
        with pytest.raises(ValueError, match=message):
            DenseWarp(units)([keras.Input(FLAT[1:]), keras.Input(shape[1:])])
    built = DenseWarp(units)
    built([np.zeros(FLAT), np.zeros((*FLAT[:-1], 2))])
    with pytest.raises(ValueError, match=message):
        built([np.zeros(FLAT), np.zeros(shape)])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`units` must be one of.*Received: units='voxels'"):
        DenseWarp("voxels")
    with pytest.raises(ValueError, match="`inputs` of a `DenseWarp` must be"):
        DenseWarp()(np.zeros(FLAT))
    built = DenseWarp()
    built([np.zeros(FLAT), np.zeros((*FLAT[:-1], 2))])
    for inputs in (np.zeros(FLAT), [np.zeros(FLAT)]):
        with pytest.raises(ValueError, match="`inputs` of a `DenseWarp` must be"):
            built(inputs)
    with pytest.raises(ValueError, match="`interpolation` of volumes"):
        DenseWarp(interpolation="bicubic")([np.zeros(VOLUME), np.zeros((2, 3, 4, 5, 3))])
    for steps in (-1, 1.5, True, "7"):
        with pytest.raises(ValueError, match="`steps` must be an integer, 0 or greater"):
            VelocityIntegration(steps)
    with pytest.raises(ValueError, match="`velocity` must have shape"):
        VelocityIntegration()(np.zeros((2, 5, 7, 3)))
    with pytest.raises(ValueError, match="`displacement` must be of a floating-point dtype"):
        DenseWarp()([np.zeros(FLAT), ops.zeros((2, 5, 7, 2), "bool")])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="they differ where one is open")
def test_sizes_may_be_open(rng):
    images, field = (x.astype("float32") for x in drawn(rng, FLAT))
    inputs = keras.Input((None, None, 2)), keras.Input((None, None, 2))
    moved = VelocityIntegration(2)(inputs[1])
    model = keras.Model(list(inputs), DenseWarp()([inputs[0], moved]))
    wanted = DenseWarp()([images, VelocityIntegration(2)(field)])
    assert_allclose(model.predict([images, field], verbose=0), float64(wanted), atol=1e-5)
