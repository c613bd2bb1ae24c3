"""The gathered gradient of the images of an affine warp is the transpose of sampling."""

import functools
import math

import numpy as np
import pytest
import reference
from autodiff import compiled, float64
from keras import ops
from numpy.testing import assert_allclose

from stn_keras.sampler import affine_gradient
from stn_keras.sampler.matrix_warps import Affine

INPUT, OUTPUT = (6, 9), (7, 5)


def between_pixels(scale, angle, shear, batch=3):
    """`(batch, 2, 3)`: input pixels from output pixels, both counted from the middles."""
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = scale * np.array([[cosine, -sine], [sine, cosine]]) @ [[1, shear], [0, 1]]
    shifts = np.linspace(-1.5, 2, 2 * batch).reshape(batch, 2, 1)
    return np.concatenate([np.broadcast_to(matrix, (batch, 2, 2)), shifts], axis=-1)


def transposed(upstream, matrix):
    """The definition: each sample adds its gradient, times their weights, to its pixels."""
    total = np.zeros((len(upstream), *INPUT, upstream.shape[-1]))
    middle_out, middle_in = (np.array(size)[::-1] / 2 - 0.5 for size in (OUTPUT, INPUT))
    for b, row, column in np.ndindex(upstream.shape[:3]):
        offset = np.array([column, row]) - middle_out
        x, y = matrix[b, :, :2] @ offset + matrix[b, :, 2] + middle_in
        for j, below in reference.neighbours(y, "bilinear"):
            for i, aside in reference.neighbours(x, "bilinear"):
                if 0 <= j < INPUT[0] and 0 <= i < INPUT[1]:
                    total[b, j, i] += below * aside * upstream[b, row, column]
    return total


def gather(upstream, matrix):
    """The gathered gradient; NaN if it was left to the scatter."""
    return affine_gradient.gathered(
        ops.convert_to_tensor(upstream),
        lambda: scatter(upstream),
        matrix=ops.convert_to_tensor(matrix),
        size=INPUT,
    )


def scatter(upstream):
    return ops.full((len(upstream), *INPUT, upstream.shape[-1]), np.nan, upstream.dtype)


@pytest.mark.parametrize("scale", [1, -1.3, 0.9, 2.5])
def test_gathering_is_the_transpose_of_sampling(rng, scale):
    matrix = between_pixels(scale, rng.uniform(-3, 3), rng.uniform(-0.1, 0.1))
    upstream = rng.normal(size=(3, *OUTPUT, 2))
    found = float64(gather(upstream, matrix))
    assert_allclose(found, transposed(upstream, matrix), 0, 1e-12)


def test_the_window_is_wide_enough_for_what_it_is_chosen_for(rng):
    matrix = between_pixels(2 / affine_gradient.SIDE + 1e-9, 0, 0)
    upstream = rng.normal(size=(3, *OUTPUT, 2))
    wanted = transposed(upstream, matrix)
    assert_allclose(float64(gather(upstream, matrix)), wanted)


@pytest.mark.parametrize("scale", [0.3, 0, np.nan])
def test_a_warp_that_magnifies_more_is_scattered(rng, scale):
    """One image of the batch with such a matrix is enough, also one with a singular matrix."""
    matrix = between_pixels(1, 0, 0)
    matrix[1, :, :2] *= scale
    found = gather(rng.normal(size=(3, *OUTPUT, 2)), matrix)
    assert np.isnan(float64(found)).all()


def test_indices_and_weights_begin_at_the_same_sample(rng):
    """Rounding decides which samples are in the window. If a compiler rounds twice, differently,
    one of these pixels is wrong."""
    matrix = [[0.93461716, -0.012961363, 8.7805252], [0.14934312, 0.87409347, 16.955946]]
    arrays = np.float32(rng.normal(size=(2, 224, 224, 3))), np.float32([matrix, matrix])
    gather = functools.partial(affine_gradient.window_sum, size=(224, 224))
    found = compiled(gather)(*map(ops.convert_to_tensor, arrays))
    wanted = gather(*(ops.convert_to_tensor(np.float64(array)) for array in arrays))
    assert_allclose(float64(found), float64(wanted), 0, 1e-3)


def test_pixels_that_nobody_looks_at_have_no_gradient(rng):
    matrix = between_pixels(1, 0, 0)
    matrix[:, :, 2] = [[1e30, 0], [0, -np.inf], [np.nan, 0]]
    assert not float64(gather(rng.normal(size=(3, *OUTPUT, 2)), matrix)).any()


def test_between_pixels_is_where_samples_are_taken(rng):
    theta = ops.convert_to_tensor(rng.normal(size=(2, 2, 3)))
    warp = Affine(theta, INPUT, OUTPUT, align_corners=False)
    (x, y), elements = warp.pixels_and_matrix()
    matrix = float64(elements).reshape(2, 2, 3)
    offset = [0 - (OUTPUT[1] - 1) / 2, 2 - (OUTPUT[0] - 1) / 2, 1]  # of the pixel in row 2
    middle = [(INPUT[1] - 1) / 2, (INPUT[0] - 1) / 2]
    found = np.stack([float64(x)[:, 2, 0], float64(y)[:, 2, 0]], axis=-1)
    assert_allclose(found, matrix @ offset + middle)
