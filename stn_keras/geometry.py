"""Coordinates: where in the input each output pixel looks.

The convention, which all of the library shares:

- A transform maps **output** coordinates to **input** coordinates ("pull" resampling), so the
  warped image is `output(p) = input(theta(p))`, and the identity returns its input.
- Coordinates come as `(x, y)`: x runs along the width, y along the height, both from −1 to 1; in
  volumes as `(x, y, z)`, where z runs along the depth.
- `align_corners=False`: −1 and 1 are the outer edges of the first and last pixels; pixel `i` of
  `n` sits at `(2i + 1)/n − 1`. `align_corners=True`: they are the centres of the corner pixels;
  pixel `i` sits at `2i/(n − 1) − 1`, and an axis of one pixel has it at 0.
- Sizes are `(height, width)` or `(depth, height, width)`.
- *Pixel* coordinates, which the sampler works in, count pixels from the first one's centre.
- Coordinates are float32, or float64 where their source is, whatever the dtype policy says:
  bfloat16 would step by an eighth of a pixel near pixel 31.
"""

import keras
from keras import ops

from stn_keras import backend
from stn_keras.arguments import (
    Size,
    as_affine,
    as_coordinates,
    as_size,
    check_affine,
    is_symbolic,
    wide_dtype,
)
from stn_keras.coordinates import affine_map, divided, product
from stn_keras.pixels import from_pixel_matrix, to_pixel_matrix

__all__ = [
    "affine_grid",
    "compose",
    "from_pixel_matrix",
    "invert",
    "to_pixel_matrix",
    "transform_points",
]


def affine_grid(theta, output_size: Size, *, align_corners: bool = False):
    """Sampling grid of an affine transform, of images or of volumes.

    The grid generator of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025),
    equation 1: `(x_in, y_in) = theta @ (x_out, y_out, 1)`.

    Example:

    >>> identity = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    >>> np.array(affine_grid(identity, (1, 2)))[0, 0]  # (x, y) of two pixels
    array([[-0.5,  0. ],
           [ 0.5,  0. ]], dtype=float32)

    Args:
        theta: `(batch, 2, 3)` or `(batch, 6)`, row-major; maps normalised output coordinates to
            normalised input coordinates. Of volumes `(batch, 3, 4)` or `(batch, 12)`.
        output_size: `(height, width)` of the grid, or `(depth, height, width)`.
        align_corners: Whether −1 and 1 are the centres of the corner pixels rather than their
            outer edges.

    Returns:
        `(batch, height, width, 2)`, last axis `(x, y)`, or `(batch, depth, height, width, 3)`,
        last axis `(x, y, z)`; float64 if `theta` is, else float32.

    Raises:
        ValueError: if `output_size` is not two or three positive integers, or `theta` is not of
            the shape that belongs to it.
    """
    output_size = as_size(output_size, "output_size", axes=(2, 3))
    if is_symbolic(theta):
        return AffineGrid()(theta, output_size, align_corners=align_corners)
    theta = as_affine(theta, len(output_size))
    known = theta.shape[0] != 0 and all(isinstance(n, int) for n in output_size)
    if backend.affine_grid is not None and known:
        return backend.affine_grid(theta, output_size, align_corners)
    # From −1 to 1 it is 2.
    coordinates = affine_map(theta, [2] * len(output_size), output_size, align_corners)
    return ops.stack(coordinates, axis=-1)  # (batch, *output_size, axes)


@keras.saving.register_keras_serializable("stn_keras")
class AffineGrid(keras.Operation):
    """`affine_grid` in a functional model."""

    def call(self, theta, output_size, align_corners):
        return affine_grid(theta, output_size, align_corners=align_corners)

    def compute_output_spec(self, theta, output_size, align_corners):
        check_affine(theta, len(output_size))
        shape = (theta.shape[0], *output_size, len(output_size))
        return keras.KerasTensor(shape, wide_dtype(theta))


def compose(first, second):
    """Matrices of one warp that does what two do, one after the other.

    Coordinates go from the output of the second through `second` and on through `first`:
    the product of both.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])  # looks at the right half
    >>> np.array(compose(matrix, matrix))[0, :2]  # and at the right half of that
    array([[0.25, 0.  , 0.75],
           [0.  , 0.25, 0.  ]], dtype=float32)

    Args:
        first: `(batch, 3, 3)` tensor, from `MatrixTransform.matrix`: the warp done first.
        second: `(batch, 3, 3)` tensor: the warp of the first one's output.

    Returns:
        `(batch, 3, 3)`, normalised, from output to input coordinates.
    """
    return product(first, second)


def invert(matrix):
    """Matrices from input to output coordinates: where things went.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])  # looks at the right half
    >>> np.array(transform_points(invert(matrix), [[[0.5, 0.0]]]))  # whose middle comes to be 0
    array([[[0., 0.]]], dtype=float32)

    Args:
        matrix: `(batch, 3, 3)` tensor, from output to input coordinates.

    Returns:
        `(batch, 3, 3)`, normalised. A singular matrix is an error or gives values that are not
        finite, as the Keras backend has it.
    """
    return ops.inv(matrix)


def transform_points(matrix, points):
    """Where matrices send points.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])
    >>> np.array(transform_points(matrix, [[[-1.0, -1.0]]]))  # the upper left corner's source
    array([[[ 0. , -0.5]]], dtype=float32)

    Args:
        matrix: `(batch, 3, 3)` tensor, from `MatrixTransform.matrix`, `compose` or `invert`.
        points: `(batch, n, 2)`, `(x, y)`, normalised.

    Returns:
        `(batch, n, 2)`, normalised; not finite where a homography sends a point to infinity.
    """
    points = as_coordinates(points, "points")
    homogeneous = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
    mapped = product(homogeneous, ops.transpose(matrix, (0, 2, 1)))
    return divided(mapped[..., :2], mapped[..., 2:])
