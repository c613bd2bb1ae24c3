"""The convention of coordinates, and affine grids against a NumPy reference."""

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import stn_keras
from stn_keras.sampler.coordinates import to_pixels
from stn_keras.sampler.matrix_warps import Affine

IMAGES = [(5, 8), (9, 4), (1, 6), (7, 1), (1, 1)]
VOLUMES = [(3, 4, 5), (1, 4, 2), (2, 1, 3), (3, 2, 1), (1, 1, 1)]

about_tf_function = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has tf.function"
)


def identity(axes=2):
    return np.eye(axes, axes + 1).ravel()


def thetas(rng, dtype="float32", axes=2):
    return (identity(axes) + rng.uniform(-1, 1, (3, axes * (axes + 1)))).astype(dtype)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", IMAGES + VOLUMES)
def test_affine_grid_is_the_reference(rng, size, align_corners):
    theta = thetas(rng, axes=len(size))
    grid = stn_keras.affine_grid(theta, size, align_corners=align_corners)
    assert tuple(grid.shape) == (3, *size, len(size))
    assert_allclose(grid, reference.affine_grid(theta, size, align_corners), atol=3e-6)


def test_align_corners_is_false_by_default(rng):
    theta = thetas(rng)
    assert_array_equal(
        stn_keras.affine_grid(theta, (4, 6)),
        stn_keras.affine_grid(theta, (4, 6), align_corners=False),
    )


@pytest.mark.parametrize("size", [(4, 6), (2, 4, 6)])
def test_theta_may_be_flat_or_a_matrix_row_major(rng, size):
    axes = len(size)
    theta = thetas(rng, axes=axes)
    assert_array_equal(
        stn_keras.affine_grid(theta, size),
        stn_keras.affine_grid(theta.reshape(3, axes, axes + 1), size),
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_identity_puts_pixel_i_of_n_at_its_position(align_corners):
    grid = float64(stn_keras.affine_grid(identity()[None], (3, 4), align_corners=align_corners))[0]
    x = [-1, -1 / 3, 1 / 3, 1] if align_corners else [-0.75, -0.25, 0.25, 0.75]
    y = [-1, 0, 1] if align_corners else [-2 / 3, 0, 2 / 3]
    assert_allclose(grid[..., 0], np.broadcast_to(x, (3, 4)), atol=1e-6)
    assert_allclose(grid[..., 1], np.broadcast_to(np.reshape(y, (3, 1)), (3, 4)), atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
def test_volumes_have_x_along_the_width_y_along_the_height_z_along_the_depth(align_corners):
    grid = stn_keras.affine_grid(identity(3)[None], (2, 3, 4), align_corners=align_corners)
    x = [-1, -1 / 3, 1 / 3, 1] if align_corners else [-0.75, -0.25, 0.25, 0.75]
    y = [-1, 0, 1] if align_corners else [-2 / 3, 0, 2 / 3]
    z = [-1, 1] if align_corners else [-0.5, 0.5]
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    assert_allclose(grid[0], np.stack([x, y, z], -1), atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("shift", "axis", "size"),
    [(2, 0, (4, 6)), (5, 1, (4, 6)), (3, 0, (2, 4, 6)), (7, 1, (2, 4, 6)), (11, 2, (2, 4, 6))],
)
def test_a_translation_by_one_looks_half_an_image_further(shift, axis, size, align_corners):
    """To the right, below, or behind."""
    axes = len(size)
    theta = identity(axes)[None]
    still = stn_keras.affine_grid(theta, size, align_corners=align_corners)
    theta = theta + np.eye(axes * (axes + 1))[shift]
    moved = stn_keras.affine_grid(theta, size, align_corners=align_corners)
    assert_allclose(moved - still, np.broadcast_to(np.eye(axes)[axis], moved.shape), atol=1e-12)


def test_an_aligned_axis_of_one_has_its_sample_in_the_middle():
    grid = stn_keras.affine_grid([[2.0, 0, 0.25, 0, 2.0, -0.5]], (1, 1), align_corners=True)
    assert_array_equal(grid, [[[[0.25, -0.5]]]])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("int32", "float32"),
    ],
)
def test_coordinates_are_float32_or_float64_under_every_policy(set_policy, dtype, wanted, policy):
    set_policy(policy)
    theta = ops.cast(identity()[None], dtype)
    grid = stn_keras.affine_grid(theta, (3, 1000))
    assert keras.backend.standardize_dtype(grid.dtype) == wanted
    assert_allclose(grid, reference.affine_grid(identity(), (3, 1000)), atol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras rounds lists before the library sees them"
)
def test_a_list_of_numbers_keeps_its_digits_where_floats_are_bfloat16():
    floatx = keras.config.floatx()
    try:
        keras.config.set_floatx("bfloat16")
        grid = stn_keras.affine_grid([[1.0, 0, 0.1234567, 0, 1.0, 0]], (1, 1))
    finally:
        keras.config.set_floatx(floatx)
    assert_allclose(grid, [[[[0.1234567, 0]]]], atol=1e-7)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("input_size", [(5, 8), (1, 6)])
def test_affine_pixels_are_the_grid_in_pixels(rng, input_size, align_corners):
    theta = thetas(rng).reshape(3, 2, 3)
    pixels = Affine(ops.convert_to_tensor(theta), input_size, (4, 7), align_corners).pixels()
    grid = reference.affine_grid(theta, (4, 7), align_corners)
    for axis, length in enumerate(reversed(input_size)):
        wanted = reference.pixel_index(grid[..., axis], length, align_corners)
        assert_allclose(pixels[axis], wanted, atol=2e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(37, 53), (1, 300), (100, 3), (1, 1)])
def test_identity_in_pixels_is_whole_numbers_exactly(size, align_corners):
    theta = ops.convert_to_tensor(identity().reshape(1, 2, 3), "float32")
    x, y = Affine(theta, size, size, align_corners).pixels()
    rows, columns = np.indices(size)
    assert_array_equal(x[0], columns)
    assert_array_equal(y[0], rows)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(4, 9), (2, 4, 9)])
def test_to_pixels_inverts_position(size, align_corners):
    grid = [
        [reference.position(i, n, align_corners) for i, n in zip(reversed(index), reversed(size))]
        for index in np.ndindex(size)
    ]
    pixels = to_pixels(ops.convert_to_tensor(grid, "float64"), size, align_corners)
    for ours, wanted in zip(pixels, reversed(np.indices(size)), strict=True):
        assert_allclose(ours, wanted.ravel(), atol=1e-12)


@about_tf_function
@pytest.mark.parametrize("size", [(5, 8), (2, 5, 8)])
def test_affine_grid_takes_a_size_known_only_at_run_time(rng, size):
    import tensorflow as tf

    axes = len(size)
    theta = thetas(rng, axes=axes)
    signature = [tf.TensorSpec((None, axes * (axes + 1))), tf.TensorSpec((axes,), tf.int32)]

    @tf.function(input_signature=signature)
    def grid(theta, size):
        return stn_keras.affine_grid(theta, tuple(size[k] for k in range(axes)))

    assert_allclose(grid(theta, size), reference.affine_grid(theta, size), atol=3e-6)


@about_tf_function
@pytest.mark.parametrize("size", [(5, 8), (2, 5, 8)])
def test_affine_grid_survives_the_graph_optimizer(rng, size):
    # The optimizer drops the new axes of `stack(...)[:, k, None, None]`; XLA and eager mode do not
    # use it.
    import tensorflow as tf

    theta = thetas(rng, axes=len(size))
    grid = tf.function(lambda theta: stn_keras.affine_grid(theta, size))
    assert_allclose(grid(tf.constant(theta)), reference.affine_grid(theta, size), atol=3e-6)


@pytest.mark.parametrize("size", [(5, 8), (2, 5, 8)])
def test_affine_grid_has_the_gradient_of_a_matrix_product(rng, size):
    axes = len(size)
    theta = thetas(rng, "float64", axes)
    upstream = rng.normal(size=(3, *size, axes))
    (gradient,) = gradients(lambda theta: stn_keras.affine_grid(theta, size), [theta], upstream)
    points = reference.affine_grid(identity(axes), size)[0]
    points = np.concatenate([points, np.ones((*size, 1))], -1).reshape(-1, axes + 1)
    wanted = np.einsum("bpr,pc->brc", upstream.reshape(3, -1, axes), points).reshape(theta.shape)
    assert_allclose(float64(gradient), wanted, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "size"),
    [(shape, (4, 4)) for shape in [(6,), (2, 3), (4, 5), (4, 3, 2), (4, 3, 3), (4, 1, 6), (4, 12)]]
    + [(shape, (4, 4, 4)) for shape in [(12,), (3, 4), (4, 6), (4, 2, 3), (4, 4, 3), (4, 1, 12)]],
)
def test_theta_of_another_shape_is_refused(shape, size):
    wanted = "(batch, 2, 3) or (batch, 6)" if len(size) == 2 else "(batch, 3, 4) or (batch, 12)"
    with pytest.raises(ValueError, match="`theta` must have shape") as error:
        stn_keras.affine_grid(np.zeros(shape), size)
    assert wanted in str(error.value)
    assert str(error.value).endswith(f"Received: theta.shape={shape}")


@pytest.mark.parametrize(
    "size", [7, None, (7,), (7, 0), (-1, 7), (7, 2.5), (7, 7, 0), (7, 7, 7, 7), "77"]
)
def test_an_output_size_other_than_two_or_three_positive_integers_is_refused(size):
    wanted = r"two positive integers \(height, width\) or three \(depth, height, width\)"
    with pytest.raises(ValueError, match=f"`output_size` must be {wanted}") as error:
        stn_keras.affine_grid(identity()[None], size)
    assert str(error.value).endswith(f"Received: output_size={size}")
