"""Matrices in pixels against OpenCV, and against their definition point by point."""

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose

from stn_keras import SpatialTransformer, transforms
from stn_keras.geometry import from_pixel_matrix, to_pixel_matrix

INPUT, OUTPUT = (40, 64), (56, 33)  # (height, width)

both_conventions = pytest.mark.parametrize("align_corners", [False, True])
both_directions = pytest.mark.parametrize("inverse", [False, True])
both_kinds = pytest.mark.parametrize("projective", [False, True])


def matrices(rng, projective, dtype="float64"):
    """Two random invertible matrices that keep most of an image inside."""
    found = np.eye(3) + rng.uniform(-0.2, 0.2, (2, 3, 3))
    found[:, :2, 2] = rng.uniform(-9, 9, (2, 2))
    found[:, 2, :2] = rng.uniform(-1e-3, 1e-3, (2, 2))
    found[:, 2, 2] = 1
    return (found if projective else found[:, :2]).astype(dtype)


def mapped(matrix, points):
    """`(n, 2)` points under a `(2, 3)` or `(3, 3)` matrix."""
    x, y, *depth = matrix @ np.append(points, np.ones((len(points), 1)), axis=1).T
    return np.stack([x, y], axis=1) / (depth[0][:, None] if depth else 1)


def positions(points, size, align_corners):
    """Normalised coordinates of pixel coordinates."""
    lengths = size[::-1]
    return np.array(
        [[reference.position(p, n, align_corners) for p, n in zip(q, lengths)] for q in points]
    )


@both_kinds
@both_directions
@both_conventions
def test_points_go_where_they_go_in_pixels(rng, align_corners, inverse, projective):
    pixels = matrices(rng, projective)
    settings = {"align_corners": align_corners, "inverse": inverse}
    theta = float64(from_pixel_matrix(pixels, INPUT, OUTPUT, **settings))
    assert theta.shape == pixels.shape
    points = rng.uniform(0, 40, (20, 2))
    for pixel_matrix, matrix in zip(pixels, theta):
        source, target = points, mapped(pixel_matrix, points)
        if not inverse:
            source, target = target, source
        found = mapped(matrix, positions(source, OUTPUT, align_corners))
        assert_allclose(found, positions(target, INPUT, align_corners), atol=1e-9)
    back = float64(to_pixel_matrix(theta, INPUT, OUTPUT, **settings))
    back = back / back[:, 2:, 2:] if projective else back
    assert_allclose(back, pixels, atol=1e-9)


@both_kinds
@both_directions
@both_conventions
def test_warps_are_those_of_opencv(rng, align_corners, inverse, projective):
    cv2 = pytest.importorskip("cv2")
    waves = rng.uniform(-0.15, 0.15, (2, 2, 3)), rng.uniform(0, 6, (2, 1, 1, 3))
    rows, columns = np.mgrid[: INPUT[0], : INPUT[1]][..., None]
    images = np.sin(waves[1] + [columns * x + rows * y for x, y in waves[0]]).astype("float32")
    pixels = matrices(rng, projective)
    warp = cv2.warpPerspective if projective else cv2.warpAffine
    flags = cv2.INTER_LINEAR | (cv2.WARP_INVERSE_MAP if inverse else 0)
    expected = [
        warp(image, matrix, OUTPUT[::-1], flags=flags) for image, matrix in zip(images, pixels)
    ]

    matrix = from_pixel_matrix(
        pixels.astype("float32"), INPUT, OUTPUT, align_corners=align_corners, inverse=inverse
    )
    transform = transforms.Projective() if projective else transforms.Affine()
    theta = transform.from_matrix(matrix) if projective else matrix
    layer = SpatialTransformer(
        transform=transform,
        output_size=OUTPUT,
        align_corners=align_corners,
        data_format="channels_last",
    )
    # Some versions of OpenCV round coordinates to a 32nd of a pixel.
    assert_allclose(float64(layer([images, theta])), expected, atol=0.01)

    settings = {"align_corners": align_corners, "inverse": inverse}
    for image, matrix, same in zip(
        images, float64(to_pixel_matrix(theta, INPUT, OUTPUT, **settings)), expected
    ):
        assert_allclose(warp(image, matrix, OUTPUT[::-1], flags=flags), same, atol=0.01)


@both_conventions
def test_theta_may_be_flat(rng, align_corners):
    for transform, projective in ((transforms.Affine(), False), (transforms.Projective(), True)):
        theta = matrices(rng, projective).reshape(2, -1)[:, : transform.num_parameters]
        matrix = transform.matrix(theta) if projective else theta.reshape(2, 2, 3)
        settings = {"align_corners": align_corners}
        assert_allclose(
            to_pixel_matrix(theta, INPUT, **settings), to_pixel_matrix(matrix, INPUT, **settings)
        )


def test_a_shift_in_numbers():
    """By hand: a shift of 16 pixels to the right in an image of 64."""
    pixels = np.array([[[1, 0, 16], [0, 1, 0]]], "float32")
    assert_allclose(from_pixel_matrix(pixels, (32, 64))[0], [[1, 0, -0.5], [0, 1, 0]])
    assert_allclose(from_pixel_matrix(pixels, (32, 64), inverse=True)[0], [[1, 0, 0.5], [0, 1, 0]])
    aligned = from_pixel_matrix(pixels, (32, 65), align_corners=True)
    assert_allclose(aligned[0], [[1, 0, -0.5], [0, 1, 0]])


@both_conventions
def test_an_axis_of_one_pixel_is_finite(align_corners):
    identity = np.eye(3)[None]
    for function in (from_pixel_matrix, to_pixel_matrix):
        assert_allclose(
            function(identity, (1, 4), align_corners=align_corners), identity, atol=1e-9
        )


@pytest.mark.parametrize("function", [from_pixel_matrix, to_pixel_matrix])
@both_directions
def test_gradients_are_those_of_finite_differences(rng, function, inverse):
    matrix, weights, step = matrices(rng, True), rng.normal(size=(2, 3, 3)), 1e-6

    def converted(matrix):
        return function(matrix, INPUT, OUTPUT, inverse=inverse)

    def loss(matrix):
        return np.sum(float64(converted(matrix)) * weights)

    (found,) = gradients(converted, [matrix], weights)
    expected = np.empty_like(matrix)
    for index in np.ndindex(matrix.shape):
        ends = matrix.copy(), matrix.copy()
        ends[0][index] += step
        ends[1][index] -= step
        expected[index] = (loss(ends[0]) - loss(ends[1])) / (2 * step)
    assert_allclose(float64(found), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("given, dtype", [("float16", "float32"), ("float64", "float64")])
def test_matrices_are_of_coordinates_dtype(rng, given, dtype):
    found = from_pixel_matrix(ops.convert_to_tensor(matrices(rng, False, given)), INPUT)
    assert keras.backend.standardize_dtype(found.dtype) == dtype


@pytest.mark.parametrize(
    "matrix, size, words",
    [
        (np.eye(2), (4, 6), r"`matrix`.*\(2, 2\)"),
        (np.eye(3), (4, 6), r"`matrix`.*\(3, 3\)"),
        (np.eye(3)[None], (4, 6, 8), "`input_size`"),
    ],
    ids=["shape", "no batch", "size"],
)
def test_arguments_that_cannot_be_meant(matrix, size, words):
    with pytest.raises(ValueError, match=words):
        from_pixel_matrix(matrix, size)
