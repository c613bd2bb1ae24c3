"""The convention of coordinates, and affine grids against a NumPy reference."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

import stn_keras
from stn_keras import geometry

IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
SIZES = [(5, 8), (9, 4), (1, 6), (7, 1), (1, 1)]


def thetas(rng, dtype="float32"):
    return (IDENTITY + rng.uniform(-1, 1, (3, 6))).astype(dtype)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_affine_grid_is_the_reference(rng, size, align_corners):
    theta = thetas(rng)
    grid = stn_keras.affine_grid(theta, size, align_corners=align_corners)
    assert grid.shape == (3, *size, 2)
    assert_allclose(grid, reference.affine_grid(theta, size, align_corners), atol=2e-6)


def test_align_corners_is_false_by_default(rng):
    theta = thetas(rng)
    assert_array_equal(
        stn_keras.affine_grid(theta, (4, 6)),
        stn_keras.affine_grid(theta, (4, 6), align_corners=False),
    )


def test_theta_may_be_flat_or_a_matrix_row_major(rng):
    theta = thetas(rng)
    assert_array_equal(
        stn_keras.affine_grid(theta, (4, 6)),
        stn_keras.affine_grid(theta.reshape(3, 2, 3), (4, 6)),
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_identity_puts_pixel_i_of_n_at_its_position(align_corners):
    grid = np.array(stn_keras.affine_grid([IDENTITY], (3, 4), align_corners=align_corners))[0]
    x = [-1, -1 / 3, 1 / 3, 1] if align_corners else [-0.75, -0.25, 0.25, 0.75]
    y = [-1, 0, 1] if align_corners else [-2 / 3, 0, 2 / 3]
    assert_allclose(grid[..., 0], np.broadcast_to(x, (3, 4)), atol=1e-6)
    assert_allclose(grid[..., 1], np.broadcast_to(np.reshape(y, (3, 1)), (3, 4)), atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("shift", "axis"), [(2, 0), (5, 1)])
def test_a_translation_by_one_looks_half_an_image_to_the_right_or_below(shift, axis, align_corners):
    theta = np.array([IDENTITY])
    theta[0, shift] = 1
    still = stn_keras.affine_grid(np.array([IDENTITY]), (4, 6), align_corners=align_corners)
    moved = stn_keras.affine_grid(theta, (4, 6), align_corners=align_corners)
    assert_allclose(moved - still, np.broadcast_to(np.eye(2)[axis], (1, 4, 6, 2)), atol=1e-12)


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
    theta = tf.cast([IDENTITY], dtype)
    grid = stn_keras.affine_grid(theta, (3, 1000))
    assert grid.dtype == wanted
    assert_allclose(grid, reference.affine_grid(IDENTITY, (3, 1000))[:1], atol=1e-6)


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
    x, y = geometry.affine_pixels(tf.constant(theta), input_size, (4, 7), align_corners)
    grid = reference.affine_grid(theta, (4, 7), align_corners)
    for pixels, axis, length in ((x, 0, input_size[1]), (y, 1, input_size[0])):
        wanted = reference.pixel_index(grid[..., axis], length, align_corners)
        assert_allclose(pixels, wanted, atol=2e-5)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(37, 53), (1, 300), (100, 3), (1, 1)])
def test_identity_in_pixels_is_whole_numbers_exactly(size, align_corners):
    theta = tf.constant(np.reshape(IDENTITY, (1, 2, 3)), "float32")
    x, y = geometry.affine_pixels(theta, size, size, align_corners)
    rows, columns = np.indices(size)
    assert_array_equal(x[0], columns)
    assert_array_equal(y[0], rows)


@pytest.mark.parametrize("align_corners", [False, True])
def test_to_pixels_inverts_position(align_corners):
    grid = [
        [reference.position(j, 9, align_corners), reference.position(i, 4, align_corners)]
        for i, j in np.ndindex(4, 9)
    ]
    x, y = geometry.to_pixels(tf.constant(grid, "float64"), (4, 9), align_corners)
    rows, columns = np.indices((4, 9))
    assert_allclose(x, columns.ravel(), atol=1e-12)
    assert_allclose(y, rows.ravel(), atol=1e-12)


def test_affine_grid_takes_a_size_known_only_at_run_time(rng):
    theta = thetas(rng)

    @tf.function(input_signature=[tf.TensorSpec((None, 6)), tf.TensorSpec((2,), tf.int32)])
    def grid(theta, size):
        return stn_keras.affine_grid(theta, (size[0], size[1]))

    assert_allclose(grid(theta, (5, 8)), reference.affine_grid(theta, (5, 8)), atol=2e-6)


def test_affine_grid_survives_the_graph_optimizer(rng):
    # It drops the new axes of `stack(...)[:, k, None, None]`. XLA and eager mode do not run it.
    theta = thetas(rng)
    grid = tf.function(lambda theta: stn_keras.affine_grid(theta, (5, 8)))
    assert_allclose(grid(tf.constant(theta)), reference.affine_grid(theta, (5, 8)), atol=2e-6)


def test_affine_grid_has_the_gradient_of_a_matrix_product(rng):
    theta = tf.constant(thetas(rng, "float64"))
    upstream = tf.constant(rng.normal(size=(3, 5, 8, 2)))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        grid = stn_keras.affine_grid(theta, (5, 8))
    identity = reference.affine_grid(IDENTITY, (5, 8))[0]
    points = np.concatenate([identity, np.ones((5, 8, 1))], -1)
    wanted = np.einsum("bijr,ijc->brc", upstream, points).reshape(3, 6)
    assert_allclose(tape.gradient(grid, theta, upstream), wanted, atol=1e-10)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (4, 5), (4, 3, 2), (4, 3, 3), (4, 1, 6)])
def test_theta_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="`theta` must have shape") as error:
        stn_keras.affine_grid(np.zeros(shape), (4, 4))
    assert str(error.value).endswith(f"Received: theta.shape={shape}")


@pytest.mark.parametrize("size", [7, None, (7,), (7, 0), (-1, 7), (7, 2.5), (7, 7, 7), "77"])
def test_an_output_size_other_than_two_positive_integers_is_refused(size):
    with pytest.raises(ValueError, match="`output_size` must be two positive") as error:
        stn_keras.affine_grid([IDENTITY], size)
    assert str(error.value).endswith(f"Received: output_size={size}")
