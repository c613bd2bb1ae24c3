"""`grid_sample` against a NumPy reference and its finite differences, plain and compiled.

Compiling a warp's gradient takes XLA seconds: the full product of options runs uncompiled, and
a few settings, which share their compiled functions, show that both ways give the same.
"""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import affine_grid, grid_sample, sampling

FILL_MODES = ["constant", "nearest", "reflect"]
EPS = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
FILL = (0.3, -0.25, 1.5)
COMPILED = [
    {"fill_mode": "constant", "align_corners": False, "fill_value": FILL},
    {"fill_mode": "nearest", "align_corners": True},
    {"fill_mode": "reflect", "align_corners": False},
]
compiled_settings = pytest.mark.parametrize("options", COMPILED, ids=lambda o: o["fill_mode"])
all_settings = [
    pytest.mark.parametrize("align_corners", [False, True]),
    pytest.mark.parametrize("fill_mode", FILL_MODES),
]


def for_all_settings(test):
    for mark in all_settings:
        test = mark(test)
    return test


def random_images(rng, dtype="float64", size=(5, 7), batch=2):
    return tf.cast(rng.uniform(size=(batch, *size, 3)), dtype)


def random_grid(rng, size=(4, 6), batch=2):
    return rng.uniform(-1.6, 1.6, (batch, *size, 2))


def smooth_grid(rng, size, align_corners):
    """Reaches outside an image of `size`, and stays away from the kinks at whole pixels."""
    pixels = rng.integers(-3, np.array(size[::-1]) + 2, (2, 4, 6, 2))
    pixels = pixels + rng.uniform(0.1, 0.9, pixels.shape)
    length = np.array(size[::-1])
    return pixels / (length - 1) * 2 - 1 if align_corners else (2 * pixels + 1) / length - 1


def gradients(images, grid, upstream, **options):
    images, grid = tf.convert_to_tensor(images), tf.convert_to_tensor(grid)
    with tf.GradientTape() as tape:
        tape.watch([images, grid])
        samples = grid_sample(images, grid, **options)
    return tape.gradient(samples, [images, grid], tf.cast(upstream, samples.dtype))


def float64(tensor):
    return np.array(tf.cast(tensor, "float64"))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("interpolation", sampling.INTERPOLATIONS)
@for_all_settings
def test_values_are_the_reference(
    rng, uncompiled, fill_mode, align_corners, interpolation, dtype, data_format
):
    images, grid = random_images(rng, dtype), random_grid(rng)
    fill_value = FILL if rng.random() < 0.5 else -0.75
    first = data_format == "channels_first"
    samples = grid_sample(
        tf.transpose(images, (0, 3, 1, 2)) if first else images,
        grid,
        interpolation=interpolation,
        fill_mode=fill_mode,
        fill_value=fill_value,
        align_corners=align_corners,
        data_format=data_format,
    )
    assert samples.dtype == dtype
    assert samples.shape == ((2, 3, 4, 6) if first else (2, 4, 6, 3))
    samples = tf.transpose(samples, (0, 2, 3, 1)) if first else samples
    wanted = reference.grid_sample(
        float64(images), grid, fill_mode, fill_value, align_corners, interpolation
    )
    assert_allclose(float64(samples), wanted, rtol=EPS[dtype], atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@compiled_settings
def test_compiled_is_the_reference(rng, options, dtype, tolerance):
    images, grid = random_images(rng, dtype), random_grid(rng).astype(dtype)
    samples = grid_sample(images, grid, **options)
    assert_allclose(samples, reference.grid_sample(images, grid, **options), 0, tolerance)


@compiled_settings
def test_compiled_is_plain_values_and_gradients(rng, monkeypatch, options):
    images, grid = random_images(rng, "float32"), random_grid(rng).astype("float32")
    upstream = rng.normal(size=(2, 4, 6, 3))
    compiled = grid_sample(images, grid, **options), *gradients(images, grid, upstream, **options)
    monkeypatch.setattr(sampling, "_grid_sample", sampling._grid_sample.__wrapped__)
    plain = grid_sample(images, grid, **options), *gradients(images, grid, upstream, **options)
    for ours, theirs in zip(compiled, plain):
        assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@for_all_settings
def test_gradients_are_finite_differences(rng, uncompiled, fill_mode, align_corners, interpolation):
    images = rng.uniform(size=(2, 3, 4, 3))
    grid = smooth_grid(rng, (3, 4), align_corners)
    upstream = rng.normal(size=(2, 4, 6, 3))
    options = {
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": align_corners,
        "fill_value": FILL,
    }

    def difference(d_images, d_grid, axis):
        ahead = reference.grid_sample(images + d_images, grid + d_grid, **options)
        behind = reference.grid_sample(images - d_images, grid - d_grid, **options)
        return np.sum(upstream * (ahead - behind), axis) / 2e-4

    to_images, to_grid = gradients(images, grid, upstream, **options)
    for axis in (0, 1):
        wanted = difference(0, 1e-4 * np.eye(2)[axis], axis=-1)
        assert_allclose(to_grid[..., axis], wanted, atol=1e-6)
    for row, column in np.ndindex(3, 4):
        bump = np.zeros((3, 4, 1))
        bump[row, column] = 1e-4
        assert_allclose(to_images[:, row, column], difference(bump, 0, axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_half_precision_images(rng, uncompiled, dtype):
    images, grid = random_images(rng, dtype), random_grid(rng)
    upstream = tf.cast(rng.normal(size=(2, 4, 6, 3)), dtype)
    to_images, to_grid = gradients(images, grid, upstream)
    wide = gradients(tf.cast(images, "float64"), grid, upstream)
    assert (to_images.dtype, to_grid.dtype) == (dtype, "float64")
    assert_allclose(float64(to_images), wide[0], rtol=4 * EPS[dtype], atol=8 * EPS[dtype])
    assert_allclose(to_grid, wide[1], atol=1e-6)


@pytest.mark.parametrize("mode", ["plain", "compiled"])
def test_second_order_gradients_of_a_bilinear_patch(rng, request, mode):
    if mode == "plain":
        request.getfixturevalue("uncompiled")
    (a, b), (c, d) = pixels = rng.uniform(size=(2, 2))
    images = tf.constant(pixels.reshape(1, 2, 2, 1))
    grid = tf.constant(rng.uniform(-0.4, 0.4, (1, 1, 1, 2)))  # ±0.5 are the pixels' centres
    with tf.GradientTape() as outer:
        outer.watch([images, grid])
        with tf.GradientTape() as inner:
            inner.watch(grid)
            samples = grid_sample(images, grid)
        slope = inner.gradient(samples, grid)[0, 0, 0, 0]
    x, y = np.array(grid)[0, 0, 0]
    to_images, to_grid = outer.gradient(slope, [images, grid])
    assert_allclose(slope, (b - a) * (0.5 - y) + (d - c) * (0.5 + y), atol=1e-12)
    assert_allclose(to_grid[0, 0, 0], [0, (d - c) - (b - a)], atol=1e-12)
    wanted = [[y - 0.5, 0.5 - y], [-0.5 - y, 0.5 + y]]
    assert_allclose(to_images[0, :, :, 0], wanted, atol=1e-12)


def test_constant_has_no_gradient_more_than_a_pixel_outside(rng, uncompiled):
    images = rng.uniform(1, 2, (1, 4, 4, 1))
    x = (np.array([-1.01, 4.01, -50, 50, -0.9, 3.9]) * 2 + 1) / 4 - 1  # pixels 0 … 3
    grid = np.stack([x, np.full(6, 0.1)], -1).reshape(1, 1, 6, 2)
    to_images, to_grid = gradients(images, grid, np.ones((1, 1, 6, 1)))
    assert_array_equal(to_grid[0, 0, :4], np.zeros((4, 2)))
    assert np.all(to_grid[0, 0, 4:, 0] != 0)
    assert np.all(np.array(to_images)[0, :, 1:3] == 0)
    assert_allclose(np.sum(to_images), 0.2)


def test_nearest_has_no_gradient_through_a_clamped_coordinate(rng, uncompiled):
    images = rng.uniform(size=(1, 4, 4, 1))
    grid = [[[[-1.2, 0.1], [3.0, 0.1], [0.1, -1.2], [0.1, 3.0]]]]
    _, to_grid = gradients(images, grid, np.ones((1, 1, 4, 1)), fill_mode="nearest")
    clamped = np.array([[True, False], [True, False], [False, True], [False, True]])
    assert_array_equal(np.array(to_grid)[0, 0] == 0, clamped)


@compiled_settings
@pytest.mark.parametrize("mode", ["plain", "compiled"])
def test_wild_coordinates_never_crash(rng, request, options, mode):
    if mode == "plain":
        request.getfixturevalue("uncompiled")
    images, grid = random_images(rng, "float32"), random_grid(rng).astype("float32")
    wild = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38], "float32")
    grid[0, 0, :, 0] = grid[0, 1, :, 1] = wild
    grid[0, 2] = wild[:, None]
    samples = np.array(grid_sample(images, grid, **options))
    if options["fill_mode"] == "constant":
        assert_allclose(samples[0, :3], np.broadcast_to(FILL, (3, 6, 3)))
    else:
        assert np.all((samples >= 0) & (samples < 1))  # as all of the image's pixels are
    for gradient in gradients(images, grid, np.ones((2, 4, 6, 3)), **options):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@for_all_settings
def test_what_wild_coordinates_give(uncompiled, fill_mode, align_corners, value):
    images = np.arange(1.0, 13).reshape(1, 3, 4, 1)
    options = {"fill_mode": fill_mode, "align_corners": align_corners, "fill_value": 99}
    sample = float(grid_sample(images, [[[[value, value]]]], **options)[0, 0, 0, 0])
    wanted = {"constant": [99.0], "nearest": [12.0 if value > 0 else 1.0]}
    assert sample in wanted.get(fill_mode, images.ravel())
    for gradient in gradients(images, [[[[value, 0.1]]]], np.ones((1, 1, 1, 1)), **options):
        assert np.all(np.isfinite(gradient))


@for_all_settings
@pytest.mark.parametrize("size", [(1, 7), (6, 1), (1, 1), (2, 2)])
def test_images_of_a_single_row_column_or_pixel(rng, uncompiled, size, fill_mode, align_corners):
    images, grid = random_images(rng, size=size), random_grid(rng)
    options = {"fill_mode": fill_mode, "fill_value": FILL, "align_corners": align_corners}
    samples = grid_sample(images, grid, **options)
    assert_allclose(samples, reference.grid_sample(images, grid, **options), 1e-12, 1e-12)
    for gradient in gradients(images, grid, np.ones((2, 4, 6, 3)), **options):
        assert np.all(np.isfinite(gradient))


def test_an_empty_batch_gives_an_empty_batch(rng):
    images, grid = random_images(rng, batch=0), random_grid(rng, batch=0)
    assert grid_sample(images, grid, **COMPILED[0]).shape == (0, 4, 6, 3)
    assert [g.shape for g in gradients(images, grid, np.ones((0, 4, 6, 3)), **COMPILED[0])] == [
        (0, 5, 7, 3),
        (0, 4, 6, 2),
    ]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_unknown_when_traced(rng, jit_compile):
    signature = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None, 2))]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def traced(images, grid):
        return grid_sample(images, grid, **COMPILED[0])

    for size in [(5, 7), (3, 2)]:
        images, grid = random_images(rng, "float32", size), random_grid(rng, size).astype("f4")
        wanted = reference.grid_sample(images, grid, **COMPILED[0])
        assert_allclose(traced(images, grid), wanted, atol=1e-5)


def test_gradients_inside_a_compiled_function(rng):
    images, grid = random_images(rng, "float32"), random_grid(rng).astype("float32")
    upstream = rng.normal(size=(2, 4, 6, 3)).astype("float32")
    fused = tf.function(lambda *tensors: gradients(*tensors, **COMPILED[0]), jit_compile=True)
    for ours, theirs in zip(
        fused(images, grid, upstream), gradients(images, grid, upstream, **COMPILED[0])
    ):
        assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_pixels_are_returned_exactly(rng, uncompiled, dtype):
    images = random_images(rng, dtype, (3, 5))
    grid = affine_grid([[1.0, 0, 0, 0, 1, 0]] * 2, (3, 5), align_corners=True)  # halves, quarters
    samples = grid_sample(images, tf.cast(grid, "float32"), align_corners=True)
    assert_array_equal(samples, images)


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_translation_along_x_shifts_along_the_width(rng, uncompiled, align_corners):
    images = random_images(rng, "float32", (4, 9))
    right_by_one = [[1, 0, 2 / (8 if align_corners else 9), 0, 1, 0]] * 2
    grid = affine_grid(right_by_one, (4, 9), align_corners=align_corners)
    samples = grid_sample(images, grid, align_corners=align_corners)
    assert_allclose(samples[:, :, :-1], images[:, :, 1:], atol=1e-5)


def test_data_format_is_keras_s_by_default(rng, uncompiled):
    images, grid = random_images(rng), random_grid(rng)
    assert_array_equal(
        grid_sample(images, grid), grid_sample(images, grid, data_format="channels_last")
    )
    try:
        keras.config.set_image_data_format("channels_first")
        samples = grid_sample(tf.transpose(images, (0, 3, 1, 2)), grid)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert_array_equal(tf.transpose(samples, (0, 2, 3, 1)), grid_sample(images, grid))


def test_numpy_arrays_lists_and_variables_are_images(rng, uncompiled):
    images, grid = random_images(rng, "float32"), random_grid(rng)
    wanted = grid_sample(images, grid)
    for same in (images.numpy(), images.numpy().tolist(), tf.Variable(images)):
        assert_array_equal(grid_sample(same, grid), wanted)


IMAGES, GRID = np.zeros((2, 5, 7, 3), "float32"), np.zeros((2, 4, 6, 2), "float32")


@pytest.mark.parametrize(
    ("argument", "value", "received"),
    [
        ("interpolation", "cubic", "interpolation='cubic'"),
        ("fill_mode", "zeros", "fill_mode='zeros'"),
        ("data_format", "NHWC", "data_format='NHWC'"),
        ("fill_value", "red", "fill_value='red'"),
        ("fill_value", None, "fill_value=None"),
        ("fill_value", "1", "fill_value='1'"),
        ("fill_value", [[1], [2, 3]], "fill_value=[[1], [2, 3]]"),
        ("fill_value", (), "fill_value=()"),
        ("fill_value", [[1.0, 2.0]], "fill_value=[[1.0, 2.0]]"),
        ("fill_value", (1, 2), "fill_value=(1.0, 2.0) for 3 channels"),
        ("images", IMAGES[0], "shape=(5, 7, 3)"),
        ("images", IMAGES[None], "shape=(1, 2, 5, 7, 3)"),
        ("images", IMAGES.astype("uint8"), "images.dtype=<dtype: 'uint8'>"),
        ("images", IMAGES.astype("complex64"), "images.dtype=<dtype: 'complex64'>"),
        ("images", IMAGES[:1], "images.shape=(1, 5, 7, 3), grid.shape=(2, 4, 6, 2)"),
        ("grid", GRID[0], "grid.shape=(4, 6, 2)"),
        ("grid", GRID[..., :1], "grid.shape=(2, 4, 6, 1)"),
    ],
)
def test_a_wrong_argument_is_refused_and_shown(argument, value, received):
    arguments = {"images": IMAGES, "grid": GRID, argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`") as error:
        grid_sample(**arguments)
    assert str(error.value).endswith(f"Received: {received}")


def test_an_unknown_number_of_channels_is_refused():
    @tf.function(input_signature=[tf.TensorSpec((None, 5, 7, None))])
    def traced(images):
        return grid_sample(images, GRID)

    with pytest.raises(ValueError, match=r"known number of channels.*shape=\(None, 5, 7, None\)"):
        traced(IMAGES)
