"""`grid_sample` against a NumPy reference and its finite differences, plain and compiled.

Compiling a warp's gradient takes XLA seconds: the full product of options runs uncompiled, and
a few settings, which share their compiled functions, show that both ways give the same.
"""

import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import reference
from autodiff import derivative, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import affine_grid, grid_sample
from stn_keras.checks.images import INTERPOLATIONS
from stn_keras.sampler import sampling_by

BACKEND = keras.backend.backend()
FILL_MODES = ["constant", "nearest", "reflect"]
EPS = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
FILL = (0.375, -0.25, 1.5)  # which float16 and bfloat16 hold exactly
SMALLEST = {"float16": 2**-24, "bfloat16": 1e-12, "float32": 1e-12, "float64": 1e-12}
IMAGE, VOLUME = (5, 7), (3, 4, 5)
OUT = {2: (4, 6), 3: (2, 3, 4)}  # sizes of grids
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
in_two_and_three_dimensions = pytest.mark.parametrize(
    "size", [IMAGE, VOLUME], ids=["image", "volume"]
)
about_tf_function = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="only TensorFlow traces functions of unknown sizes"
)
where_compiled = pytest.mark.skipif(
    BACKEND == "torch", reason="the library compiles nothing on PyTorch"
)


def for_all_settings(test):
    for mark in all_settings:
        test = mark(test)
    return test


def for_all_interpolations(image, volume):
    """Parameters `interpolation` and `size`, of all that exist."""
    cases = [(name, image) for name in INTERPOLATIONS]
    cases += [("nearest", volume), ("bilinear", volume)]
    names = [f"{name}-{len(size)}d" for name, size in cases]
    return pytest.mark.parametrize(("interpolation", "size"), cases, ids=names)


@pytest.fixture(params=["plain", pytest.param("compiled", marks=where_compiled)])
def plain_and_compiled(request):
    request.getfixturevalue("uncompiled" if request.param == "plain" else "fused")


def random_images(rng, dtype="float64", size=IMAGE, batch=2):
    return ops.cast(rng.uniform(size=(batch, *size, 3)), dtype)


def random_grid(rng, size=IMAGE, batch=2, dtype="float64"):
    """For images of `size`; reaches outside them."""
    return rng.uniform(-1.6, 1.6, (batch, *OUT[len(size)], len(size))).astype(dtype)


def random_upstream(rng, size=IMAGE, batch=2):
    return rng.normal(size=(batch, *OUT[len(size)], 3))


def to_images_and_grid(images, grid, upstream, **options):
    """The gradients of `grid_sample`, as tensors."""
    return gradients(lambda *tensors: grid_sample(*tensors, **options), (images, grid), upstream)


def samples_and_gradients(images, grid, upstream, **options):
    samples = grid_sample(images, grid, **options)
    return samples, *to_images_and_grid(images, grid, upstream, **options)


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dtype", EPS)
@for_all_interpolations(IMAGE, VOLUME)
@for_all_settings
def test_values_are_the_reference(
    rng, quick, fill_mode, align_corners, interpolation, size, dtype, data_format
):
    images, grid = random_images(rng, dtype, size), random_grid(rng, size)
    fill_value = FILL if rng.random() < 0.5 else -0.75
    first = data_format == "channels_first"
    samples = grid_sample(
        ops.moveaxis(images, -1, 1) if first else images,
        grid,
        interpolation=interpolation,
        fill_mode=fill_mode,
        fill_value=fill_value,
        align_corners=align_corners,
        data_format=data_format,
    )
    assert dtype_of(samples) == dtype
    out = OUT[len(size)]
    assert tuple(samples.shape) == ((2, 3, *out) if first else (2, *out, 3))
    samples = ops.moveaxis(samples, 1, -1) if first else samples
    wanted = reference.grid_sample(
        float64(images), grid, fill_mode, fill_value, align_corners, interpolation
    )
    assert_allclose(float64(samples), wanted, rtol=EPS[dtype], atol=SMALLEST[dtype])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@compiled_settings
def test_compiled_is_the_reference(rng, fused, options, dtype, tolerance):
    images, grid = random_images(rng, dtype), random_grid(rng, dtype=dtype)
    samples = grid_sample(images, grid, **options)
    assert_allclose(samples, reference.grid_sample(images, grid, **options), 0, tolerance)


@pytest.mark.slow
@where_compiled
@pytest.mark.parametrize(
    ("size", "options"),
    [*((IMAGE, options) for options in COMPILED), (VOLUME, COMPILED[0])],
    ids=[*FILL_MODES, "volume"],
)
def test_compiled_is_plain_values_and_gradients(rng, request, size, options):
    images, grid = random_images(rng, "float32", size), random_grid(rng, size, dtype="float32")
    upstream = random_upstream(rng, size)
    if BACKEND == "tensorflow":
        plain = samples_and_gradients(images, grid, upstream, **options)
        request.getfixturevalue("fused")
    compiled = samples_and_gradients(images, grid, upstream, **options)
    if BACKEND == "jax":
        request.getfixturevalue("uncompiled")
        plain = samples_and_gradients(images, grid, upstream, **options)
    for ours, theirs in zip(compiled, plain):
        assert_allclose(ours, theirs, atol=1e-5)


@for_all_interpolations((3, 4), (2, 3, 2))
@for_all_settings
def test_gradients_are_finite_differences(
    rng, quick, smooth_grid, fill_mode, align_corners, interpolation, size
):
    axes = len(size)
    images = rng.uniform(size=(2, *size, 3))
    grid = smooth_grid((2, *OUT[axes]), size, align_corners)
    upstream = random_upstream(rng, size)
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

    to_images, to_grid = map(float64, to_images_and_grid(images, grid, upstream, **options))
    for axis in range(axes):
        wanted = difference(0, 1e-4 * np.eye(axes)[axis], axis=-1)
        assert_allclose(to_grid[..., axis], wanted, atol=1e-6)
    for index in np.ndindex(size):
        bump = np.zeros((*size, 1))
        bump[index] = 1e-4
        wanted = difference(bump, 0, axis=tuple(range(1, axes + 1)))
        assert_allclose(to_images[:, *index], wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@in_two_and_three_dimensions
def test_gradients_of_half_precision_images(rng, quick, size, dtype):
    images, grid = random_images(rng, dtype, size), random_grid(rng, size)
    upstream = ops.cast(random_upstream(rng, size), dtype)
    to_images, to_grid = to_images_and_grid(images, grid, upstream)
    wide = to_images_and_grid(ops.cast(images, "float64"), grid, upstream)
    assert (dtype_of(to_images), dtype_of(to_grid)) == (dtype, "float64")
    assert_allclose(float64(to_images), float64(wide[0]), rtol=4 * EPS[dtype], atol=8 * EPS[dtype])
    assert_allclose(float64(to_grid), float64(wide[1]), atol=1e-6)


@pytest.mark.slow
def test_second_order_gradients_of_a_bilinear_patch(rng, plain_and_compiled):
    (a, b), (c, d) = pixels = rng.uniform(size=(2, 2))
    images = pixels.reshape(1, 2, 2, 1)
    grid = rng.uniform(-0.4, 0.4, (1, 1, 1, 2))  # ±0.5 are the pixels' centres

    def slope(images, grid):
        _, to_grid = derivative(lambda *tensors: ops.sum(grid_sample(*tensors)))(images, grid)
        return to_grid[0, 0, 0, 0]

    to_images, to_grid = derivative(slope)(images, grid)
    x, y = grid[0, 0, 0]
    wanted = (b - a) * (0.5 - y) + (d - c) * (0.5 + y)
    tensors = ops.convert_to_tensor(images), ops.convert_to_tensor(grid)
    assert_allclose(float64(slope(*tensors)), wanted, atol=1e-12)
    assert_allclose(float64(to_grid)[0, 0, 0], [0, (d - c) - (b - a)], atol=1e-12)
    wanted = [[y - 0.5, 0.5 - y], [-0.5 - y, 0.5 + y]]
    assert_allclose(float64(to_images)[0, :, :, 0], wanted, atol=1e-12)


def check_second_order(first_order, tensors, weights):
    """The gradient of `sum(weights · first_order(*tensors))` against finite differences.

    Every number of every tensor is moved by a step, each in its own element of a large batch.
    """

    def total(*tensors):
        slopes = zip(weights, first_order(*tensors))
        return sum(ops.sum(ops.convert_to_tensor(w) * slope) for w, slope in slopes)

    moved = sum(tensor.size for tensor in tensors)
    steps = np.split(1e-5 * np.eye(moved), np.cumsum([tensor.size for tensor in tensors])[:-1], 1)

    def totals(sign):
        """Of all batch elements, one number each."""
        ahead = [t + sign * step.reshape(-1, *t.shape[1:]) for t, step in zip(tensors, steps)]
        slopes = map(float64, first_order(*ahead))
        return sum(np.sum(w * s, tuple(range(1, w.ndim))) for w, s in zip(weights, slopes))

    wanted = (totals(1) - totals(-1)) / 2e-5
    ours = [float64(gradient).ravel() for gradient in derivative(total)(*tensors)]
    assert_allclose(np.concatenate(ours), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interpolation", "size"),
    [("bilinear", (3, 4)), ("bicubic", (3, 4)), ("bilinear", (2, 3, 2))],
    ids=["bilinear-2d", "bicubic-2d", "bilinear-3d"],
)
@for_all_settings
def test_second_order_gradients_are_finite_differences(
    rng, quick, smooth_grid, fill_mode, align_corners, interpolation, size
):
    options = {
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": align_corners,
        "fill_value": FILL[:2],
    }
    out = (2,) * (len(size) - 1) + (3,)
    images, upstream = rng.uniform(size=(1, *size, 2)), rng.normal(size=(1, *out, 2))
    grid = smooth_grid((1, *out), size, align_corners)
    weights = rng.normal(size=images.shape), rng.normal(size=grid.shape)

    def first_order(images, grid, upstream):
        return to_images_and_grid(images, grid, upstream, **options)

    check_second_order(first_order, (images, grid, upstream), weights)


@pytest.mark.slow
def test_second_order_gradients_go_through_affine_grid(rng, quick):
    size = (3, 4)
    images, upstream = rng.uniform(size=(1, *size, 2)), rng.normal(size=(1, *size, 2))
    # All points stay near the middle between pixels.
    theta = np.array([[1, 0, 1 / 4, 0, 1, 1 / 3]]) + rng.uniform(-0.02, 0.02, (1, 6))
    weights = rng.normal(size=images.shape), rng.normal(size=theta.shape)

    def first_order(images, theta, upstream):
        def warp(images, theta):
            return grid_sample(images, affine_grid(theta, size))

        return gradients(warp, (images, theta), upstream)

    check_second_order(first_order, (images, theta, upstream), weights)


def test_constant_has_no_gradient_more_than_a_pixel_outside(rng, quick):
    images = rng.uniform(1, 2, (1, 4, 4, 1))
    x = (np.array([-1.01, 4.01, -50, 50, -0.9, 3.9]) * 2 + 1) / 4 - 1  # pixels 0 … 3
    grid = np.stack([x, np.full(6, 0.1)], -1).reshape(1, 1, 6, 2)
    to_images, to_grid = map(float64, to_images_and_grid(images, grid, np.ones((1, 1, 6, 1))))
    assert_array_equal(to_grid[0, 0, :4], np.zeros((4, 2)))
    assert np.all(to_grid[0, 0, 4:, 0] != 0)
    assert np.all(to_images[0, :, 1:3] == 0)
    assert_allclose(np.sum(to_images), 0.2)


def test_nearest_has_no_gradient_through_a_clamped_coordinate(rng, quick):
    images = rng.uniform(size=(1, 4, 4, 1))
    grid = np.array([[[[-1.2, 0.1], [3.0, 0.1], [0.1, -1.2], [0.1, 3.0]]]])
    upstream = np.ones((1, 1, 4, 1))
    _, to_grid = to_images_and_grid(images, grid, upstream, fill_mode="nearest")
    clamped = np.array([[True, False], [True, False], [False, True], [False, True]])
    assert_array_equal(float64(to_grid)[0, 0] == 0, clamped)


WILD = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38]


@compiled_settings
def test_wild_coordinates_never_crash(rng, plain_and_compiled, options):
    images, grid = random_images(rng, "float32"), random_grid(rng, dtype="float32")
    grid[0, 0, :, 0] = grid[0, 1, :, 1] = WILD
    grid[0, 2] = np.reshape(WILD, (6, 1))
    check_wild(images, grid, options)


@pytest.mark.parametrize("options", COMPILED, ids=lambda o: o["fill_mode"])
def test_wild_coordinates_of_volumes_never_crash(rng, quick, options):
    images = random_images(rng, "float32", VOLUME)
    grid = rng.uniform(-1.6, 1.6, (2, 4, 2, 6, 3)).astype("float32")
    for axis in range(3):
        grid[0, axis, ..., axis] = WILD
    grid[0, 3] = np.reshape(WILD, (6, 1))
    check_wild(images, grid, options)


def check_wild(images, grid, options):
    samples, *both = map(float64, samples_and_gradients(images, grid, 1.0, **options))
    wild = samples[~np.all(np.abs(grid) < 2, axis=-1)]
    assert len(wild) > 0
    if options["fill_mode"] == "constant":
        assert_allclose(wild, np.broadcast_to(FILL, wild.shape), rtol=1e-6)
    else:
        assert np.all((wild >= 0) & (wild < 1))  # as all of the image's pixels are
    for gradient in both:
        assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@for_all_interpolations((3, 4), (2, 3, 2))
@for_all_settings
def test_what_wild_coordinates_give(quick, fill_mode, align_corners, interpolation, size, value):
    images = np.arange(1.0, 13).reshape(1, *size, 1)
    options = {
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "align_corners": align_corners,
        "fill_value": 99,
    }
    grid = np.full((1, *(1 for _ in size), len(size)), value)
    sample = grid_sample(images, grid, **options)
    wanted = {"constant": [99.0], "nearest": [12.0 if value > 0 else 1.0]}
    assert float64(sample).item() in wanted.get(fill_mode, images.ravel())
    grid[..., 1:] = 0.1
    for gradient in to_images_and_grid(images, grid, 1.0, **options):
        assert np.all(np.isfinite(float64(gradient)))


@pytest.mark.slow
@for_all_settings
@pytest.mark.parametrize(
    "size",
    [(1, 7), (6, 1), (1, 1), (2, 2), (1, 3, 4), (3, 1, 4), (3, 4, 1), (1, 1, 4), (1, 1, 1)],
    ids=str,
)
def test_images_with_an_axis_of_one_pixel(rng, quick, size, fill_mode, align_corners):
    images, grid = random_images(rng, size=size), random_grid(rng, size)
    options = {"fill_mode": fill_mode, "fill_value": FILL, "align_corners": align_corners}
    samples, *both = samples_and_gradients(images, grid, 1.0, **options)
    wanted = reference.grid_sample(images, grid, **options)
    assert_allclose(float64(samples), wanted, 1e-12, 1e-12)
    for gradient in both:
        assert np.all(np.isfinite(float64(gradient)))


@pytest.mark.slow
@in_two_and_three_dimensions
def test_an_empty_batch_gives_an_empty_batch(rng, size):
    images, grid = random_images(rng, size=size, batch=0), random_grid(rng, size, batch=0)
    upstream = random_upstream(rng, size, batch=0)
    samples, to_images, to_grid = samples_and_gradients(images, grid, upstream, **COMPILED[0])
    assert tuple(samples.shape) == upstream.shape
    assert tuple(to_images.shape) == (0, *size, 3)
    assert tuple(to_grid.shape) == grid.shape


@about_tf_function
@pytest.mark.parametrize(
    ("size", "smaller", "jit_compile"),
    [(IMAGE, (3, 2), False), (IMAGE, (3, 2), True), (VOLUME, (2, 3, 2), False)],
)
def test_sizes_unknown_when_traced(rng, size, smaller, jit_compile):
    import tensorflow as tf

    axes = len(size)
    unknown = (None,) * (axes + 1)
    signature = [tf.TensorSpec((*unknown, 3)), tf.TensorSpec((*unknown, axes))]

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def traced(images, grid):
        return grid_sample(images, grid, **COMPILED[0])

    for size in (size, smaller):
        images, grid = random_images(rng, "float32", size), random_grid(rng, size, dtype="float32")
        wanted = reference.grid_sample(images, grid, **COMPILED[0])
        assert_allclose(traced(images, grid), wanted, atol=1e-5)


@where_compiled
def test_gradients_inside_a_compiled_function(rng):
    images, grid = random_images(rng, "float32"), random_grid(rng, dtype="float32")
    upstream = random_upstream(rng).astype("float32")
    fused = compiled(lambda *tensors: to_images_and_grid(*tensors, **COMPILED[0]))
    for ours, theirs in zip(
        fused(images, grid, upstream), to_images_and_grid(images, grid, upstream, **COMPILED[0])
    ):
        assert_allclose(ours, theirs, atol=1e-5)


def compiled(function, fused=True):
    """A compiled function of a user; XLA fuses all of it, or on TensorFlow the marked part."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=fused)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def check_determinism(rng):
    """Values and gradients are the same bits in every run if hundreds of samples share a pixel."""
    images, grid = rng.normal(size=(2, 3, 3, 3)), rng.uniform(-1.2, 1.2, (2, 24, 24, 2))
    upstream = rng.normal(size=(2, 24, 24, 3))
    tensors = [ops.convert_to_tensor(t, "float32") for t in (images, grid, upstream)]

    def function(*tensors):
        return samples_and_gradients(*tensors, **COMPILED[0])

    for call in (function, compiled(function, fused=False)):
        first, *others = ([float64(t) for t in call(*tensors)] for _ in range(5))
        for other in others:
            for ours, theirs in zip(first, other):
                assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_results_repeat_bit_for_bit(rng, plain_and_compiled):
    check_determinism(rng)


DETERMINISTIC = {
    "tensorflow": """
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
import numpy, test_sampling
test_sampling.check_determinism(numpy.random.default_rng())
tf.config.run_functions_eagerly(True)
test_sampling.check_determinism(numpy.random.default_rng())
""",
    "torch": """
import torch
torch.use_deterministic_algorithms(True)
import numpy, test_sampling
test_sampling.check_determinism(numpy.random.default_rng())
""",
}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND not in DETERMINISTIC, reason="JAX has no such switch")
def test_results_repeat_where_the_backend_is_told_to_be_deterministic():
    # The switch rejects operations that are not deterministic, and cannot be undone, so it is set
    # in another process.
    command = [sys.executable, "-c", DETERMINISTIC[BACKEND]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(3, 5), (2, 3, 5)], ids=["image", "volume"])
def test_whole_pixels_are_returned_exactly(rng, quick, size, dtype):
    images, axes = random_images(rng, dtype, size), len(size)
    identity = np.eye(axes, axes + 1, dtype="float32")[None].repeat(2, 0)
    grid = affine_grid(identity, size, align_corners=True)  # halves, quarters
    assert_array_equal(grid_sample(images, grid, align_corners=True), images)


def test_float64_coordinates_keep_their_digits(rng, quick):
    """Coordinates just before whole pixels, to which float32 would round them."""
    images = rng.uniform(size=(1, 1, 1000, 1))
    x = (2 * (np.arange(500, 999) - 1e-5) + 1) / 1000 - 1
    grid = np.stack([x, np.zeros_like(x)], -1).reshape(1, 1, -1, 2)
    assert_allclose(grid_sample(images, grid), reference.grid_sample(images, grid), atol=1e-9)


@pytest.mark.parametrize("align_corners", [False, True])
@in_two_and_three_dimensions
def test_a_translation_along_x_shifts_along_the_width(rng, quick, size, align_corners):
    images, axes = random_images(rng, "float32", size), len(size)
    right_by_one = np.eye(axes, axes + 1)[None].repeat(2, 0)
    right_by_one[:, 0, -1] = 2 / (size[-1] - 1 if align_corners else size[-1])
    grid = affine_grid(right_by_one, size, align_corners=align_corners)
    samples = grid_sample(images, grid, align_corners=align_corners)
    assert_allclose(samples[..., :-1, :], images[..., 1:, :], atol=1e-5)


def test_data_format_is_keras_s_by_default(rng, quick):
    images, grid = random_images(rng), random_grid(rng)
    assert_array_equal(
        grid_sample(images, grid), grid_sample(images, grid, data_format="channels_last")
    )
    try:
        keras.config.set_image_data_format("channels_first")
        samples = grid_sample(ops.moveaxis(images, -1, 1), grid)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert_array_equal(ops.moveaxis(samples, 1, -1), grid_sample(images, grid))


def test_numpy_arrays_lists_and_variables_are_images(rng, quick):
    images, grid = random_images(rng, "float32"), random_grid(rng)
    wanted = grid_sample(images, grid)
    array, variable = ops.convert_to_numpy(images), keras.Variable(images)
    for same in (array, array.tolist(), variable, variable.value):
        samples = grid_sample(same, grid)  # JAX makes float64 of lists, where that is enabled
        assert_array_equal(float64(ops.cast(samples, "float32")), float64(wanted))


IMAGES, GRID = np.zeros((2, 5, 7, 3), "float32"), np.zeros((2, 4, 6, 2), "float32")
VOLUMES, GRID_3D = np.zeros((2, 4, 5, 7, 3), "float32"), np.zeros((2, 3, 4, 6, 3), "float32")


def refusal(arguments):
    with pytest.raises(ValueError) as error:
        grid_sample(**arguments)
    return str(error.value)


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
        ("images", VOLUMES[None], "shape=(1, 2, 4, 5, 7, 3)"),
        ("images", IMAGES[[0, 1, 0]], "images.shape=(3, 5, 7, 3), grid.shape=(2, 4, 6, 2)"),
        ("grid", GRID[0], "grid.shape=(4, 6, 2), images.shape=(2, 5, 7, 3)"),
        ("grid", GRID[..., :1], "grid.shape=(2, 4, 6, 1), images.shape=(2, 5, 7, 3)"),
        ("grid", GRID_3D, "grid.shape=(2, 3, 4, 6, 3), images.shape=(2, 5, 7, 3)"),
    ],
)
def test_a_wrong_argument_is_refused_and_shown(argument, value, received):
    message = refusal({"images": IMAGES, "grid": GRID, argument: value})
    assert f"`{argument}`" in message
    assert message.endswith(f"Received: {received}")


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_images_of_another_dtype_than_numbers_are_refused(dtype):
    images = ops.convert_to_tensor(IMAGES.astype(dtype))
    message = refusal({"images": images, "grid": GRID})
    assert "`images` must be of a floating-point dtype, or integers" in message
    assert message.endswith(f"Received: images.dtype={images.dtype}")


@pytest.mark.parametrize(
    ("argument", "value", "received"),
    [
        ("interpolation", "bicubic", "interpolation='bicubic' and images.shape=(2, 4, 5, 7, 3)"),
        ("fill_value", (1, 2), "fill_value=(1.0, 2.0) for 3 channels"),
        (
            "images",
            VOLUMES[[0, 1, 0]],
            "images.shape=(3, 4, 5, 7, 3), grid.shape=(2, 3, 4, 6, 3)",
        ),
        ("grid", GRID, "grid.shape=(2, 4, 6, 2), images.shape=(2, 4, 5, 7, 3)"),
        ("grid", GRID_3D[0], "grid.shape=(3, 4, 6, 3), images.shape=(2, 4, 5, 7, 3)"),
        ("grid", GRID_3D[..., :2], "grid.shape=(2, 3, 4, 6, 2), images.shape=(2, 4, 5, 7, 3)"),
    ],
)
def test_a_wrong_argument_of_volumes_is_refused_and_shown(argument, value, received):
    message = refusal({"images": VOLUMES, "grid": GRID_3D, argument: value})
    assert argument in message
    assert message.endswith(f"Received: {received}")


@about_tf_function
def test_an_unknown_number_of_channels_is_refused():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 7, None))])
    def traced(images):
        return grid_sample(images, GRID)

    with pytest.raises(ValueError, match=r"known number of channels.*shape=\(None, 5, 7, None\)"):
        traced(IMAGES)


def test_a_thread_whose_warps_are_replaced_leaves_other_threads_alone(rng):
    images, grid = rng.random((1, 4, 4, 2), "float32"), rng.uniform(-1, 1, (1, 3, 3, 2))
    expected = float64(grid_sample(images, grid))
    found = []
    with sampling_by(lambda *args, **options: None):
        thread = threading.Thread(target=lambda: found.append(float64(grid_sample(images, grid))))
        thread.start()
        thread.join()
    assert_array_equal(found[0], expected)
