"""Conversion between the matrices of this library and those in pixels of OpenCV and scikit-image.

- Both use `(x, y)`. In pixels, the centre of the first pixel is at 0 and centres are at whole
  numbers. In normalised units, −1 and 1 are edges, or centres of the corner pixels with
  `align_corners=True`.
- `cv2.warpAffine` and `cv2.warpPerspective` take the matrix from **input to output** pixels; this
  library uses the one from **output to input**. `skimage.transform.warp` uses that one too, and so
  do both functions of OpenCV with `cv2.WARP_INVERSE_MAP`: pass `inverse=True` for these.

A matrix in pixels is for images of certain sizes; one in normalised units is for all sizes.
"""

from keras import ops

from stn_keras.checks.arguments import Size, as_coordinates, as_flag, as_size
from stn_keras.sampler.axes import middle, positive_extent
from stn_keras.sampler.linear import product


def from_pixel_matrix(
    matrix,
    input_size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    inverse: bool = False,
):
    """The normalised matrix of a warp whose matrix is known in pixels.

    Differentiable.

    Example:

    >>> matrix = np.array([[[1.0, 0.0, 16.0], [0.0, 1.0, 0.0]]], "float32")
    >>> theta = from_pixel_matrix(matrix, (32, 64))  # cv2.warpAffine moves 16 pixels to the right
    >>> np.array(theta)  # so an output pixel samples a quarter of the width further left
    array([[[ 1. ,  0. , -0.5],
            [ 0. ,  1. ,  0. ]]], dtype=float32)
    >>> stn_keras.SpatialTransformer()([np.ones((1, 32, 64, 3)), theta]).shape == (1, 32, 64, 3)
    True

    A homography becomes the `theta` of a projective transform by its `from_matrix`:

    >>> homography = np.array([[[1, 0, 16], [0, 1, 0], [0, 0.01, 1]]], "float32")
    >>> matrix = from_pixel_matrix(homography, (32, 64), inverse=True)
    >>> transforms.Projective().from_matrix(matrix).shape == (1, 8)
    True

    Args:
        matrix: `(batch, 2, 3)` or `(batch, 3, 3)`; maps `(x, y)` of input pixels to output pixels,
            centres at whole numbers.
        input_size: `(height, width)` of the images that are warped.
        output_size: `(height, width)` of the warped images; `None` for the input's.
        align_corners: See `stn_keras.geometry`; the same as in the layer or function that warps.
        inverse: Whether the matrix maps output pixels to input pixels instead.

    Returns:
        A tensor of the matrix's shape, from normalised output to normalised input coordinates:
        `theta` of `affine_grid` and of the transform `"affine"`, or what
        `transforms.Projective().matrix` returns, times any factor. float64 if `matrix` is, else
        float32. For a singular matrix, the Keras backend raises an error or
        returns values that are not finite.

    Raises:
        ValueError: if a matrix or a size has another shape.
    """
    square, rows = as_square(matrix, "matrix")
    of_input, of_output = sizes(input_size, output_size)
    if as_flag(inverse, "inverse"):
        return to_normalised(square, of_output, of_input, align_corners)[:, :rows]
    # Inverted last: matrices of numbers around 1 lose no digits.
    return ops.inv(to_normalised(square, of_input, of_output, align_corners))[:, :rows]


def to_pixel_matrix(
    theta,
    input_size: Size,
    output_size: Size | None = None,
    *,
    align_corners: bool = False,
    inverse: bool = False,
):
    """The matrix in pixels of a warp, for `cv2.warpAffine` and `cv2.warpPerspective`.

    Differentiable.

    Example:

    >>> theta = [[1.0, 0.0, -0.5, 0.0, 1.0, 0.0]]
    >>> np.array(to_pixel_matrix(theta, (32, 64)))[0]  # 16 pixels to the right
    array([[ 1.,  0., 16.],
           [ 0.,  1.,  0.]], dtype=float32)

    `cv2.warpAffine(image, matrix, (width, height))` takes the width before the height.

    Args:
        theta: `(batch, 2, 3)` or `(batch, 6)` of affine transforms, `(batch, 8)` of projective
            ones, or `(batch, 3, 3)`, from the `matrix` of any transform that has one.
        input_size: `(height, width)` of the images that are warped.
        output_size: `(height, width)` of the warped images; `None` for the input's.
        align_corners: See `stn_keras.geometry`.
        inverse: Whether to map output pixels to input pixels, for `cv2.WARP_INVERSE_MAP` and
            `skimage.transform.warp`, instead of input pixels to output pixels.

    Returns:
        `(batch, 2, 3)` of affine `theta`, else `(batch, 3, 3)`, which is a homography up to a
        factor; float64 if `theta` is, else float32. For a singular matrix, unless `inverse`,
        the Keras backend raises an error or returns values that are not finite.

    Raises:
        ValueError: if `theta` or a size has another shape.
    """
    square, rows = as_square(theta, "theta")
    of_input, of_output = sizes(input_size, output_size)
    if as_flag(inverse, "inverse"):
        return to_pixels(square, of_output, of_input, align_corners)[:, :rows]
    return to_pixels(ops.inv(square), of_input, of_output, align_corners)[:, :rows]


def as_square(matrix, name):
    """A caller's matrix as `(batch, 3, 3)`, and how many rows the result has."""
    matrix = as_coordinates(matrix, name)
    shape = tuple(matrix.shape[1:])
    if shape == (3, 3):
        return matrix, 3
    if shape in ((2, 3), (6,)):
        return completed(matrix, [0.0, 0.0, 1.0]), 2
    if shape == (8,):
        return completed(matrix, [1.0]), 3
    raise ValueError(
        f"`{name}` must have shape (batch, 2, 3) or (batch, 3, 3), and `theta` may have (batch, 6) "
        f"or (batch, 8). Received: {name}.shape={tuple(matrix.shape)}"
    )


def completed(matrix, last):
    """`(batch, 3, 3)` from all of its elements but the last ones, which are given."""
    elements = ops.reshape(matrix, (-1, 9 - len(last)))
    last = ops.zeros_like(elements[:, : len(last)]) + ops.cast(last, matrix.dtype)
    return ops.reshape(ops.concatenate([elements, last], axis=1), (-1, 3, 3))


def sizes(input_size, output_size):
    """Both sizes as tuples; an `output_size` of None means the input's size."""
    input_size = as_size(input_size, "input_size")
    return input_size, input_size if output_size is None else as_size(output_size, "output_size")


def to_normalised(matrix, source, target, align_corners):
    """A matrix between pixels of images of two sizes → between their normalised coordinates."""
    (to_source, _), (_, from_target) = (
        pixel_matrices(size, align_corners, matrix.dtype) for size in (source, target)
    )
    return product(from_target, product(matrix, to_source))


def to_pixels(matrix, source, target, align_corners):
    """The inverse of `to_normalised`."""
    (_, from_source), (to_target, _) = (
        pixel_matrices(size, align_corners, matrix.dtype) for size in (source, target)
    )
    return product(to_target, product(matrix, from_source))


def pixel_matrices(size, align_corners, dtype):
    """The matrices `(1, 3, 3)` from normalised coordinates to pixels, and back."""
    scales = [positive_extent(length, align_corners, dtype) / 2 for length in size[::-1]]
    (a, d), (x, y) = scales, [middle(length, dtype) for length in size[::-1]]
    there = [[a, 0, x], [0, d, y], [0, 0, 1]]
    back = [[1 / a, 0, -x / a], [0, 1 / d, -y / d], [0, 0, 1]]
    return [ops.convert_to_tensor([rows], dtype) for rows in (there, back)]
