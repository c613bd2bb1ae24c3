"""Coordinates: the position in the input that each output pixel samples.

The whole library shares this convention:

- A transform maps **output** coordinates to **input** coordinates ("pull" resampling), so the
  warped image is `output(p) = input(theta(p))`, and the identity returns its input.
- Coordinates are `(x, y)`: x runs along the width, y along the height, both from −1 to 1. In
  volumes they are `(x, y, z)`, where z runs along the depth.
- `align_corners=False`: −1 and 1 are the outer edges of the first and last pixels. Pixel `i` of
  `n` is at `(2i + 1)/n − 1`.
- `align_corners=True`: −1 and 1 are the centres of the corner pixels. Pixel `i` is at
  `2i/(n − 1) − 1`; on an axis of one pixel, that pixel is at 0.
- Sizes are `(height, width)` or `(depth, height, width)`.
- *Pixel* coordinates, in which the sampler works, count pixels from the centre of the first one.
- Coordinates are float32 under every dtype policy, or float64 if their source is. In bfloat16 they
  could only be multiples of an eighth of a pixel near pixel 31.
"""

import keras

from stn_keras.checks.arguments import (
    Size,
    as_affine,
    as_size,
    check_affine,
    is_symbolic,
    wide_dtype,
)
from stn_keras.geometry.boxes import from_boxes, from_rotated_boxes, stack_boxes
from stn_keras.geometry.displacements import (
    compose_displacements,
    jacobian_determinant,
    resize_displacement,
)
from stn_keras.geometry.matrices import compose, invert, transform_points
from stn_keras.geometry.opencv import from_pixel_matrix, to_pixel_matrix
from stn_keras.sampler.matrix_warps import Affine

__all__ = [
    "affine_grid",
    "compose",
    "compose_displacements",
    "from_boxes",
    "from_pixel_matrix",
    "from_rotated_boxes",
    "invert",
    "jacobian_determinant",
    "resize_displacement",
    "stack_boxes",
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
            normalised input coordinates. For volumes `(batch, 3, 4)` or `(batch, 12)`.
        output_size: `(height, width)` of the grid, or `(depth, height, width)`.
        align_corners: Whether −1 and 1 are the centres of the corner pixels rather than their
            outer edges.

    Returns:
        `(batch, height, width, 2)`, last axis `(x, y)`, or `(batch, depth, height, width, 3)`,
        last axis `(x, y, z)`; float64 if `theta` is, else float32.

    Raises:
        ValueError: if `output_size` is not two or three positive integers, or `theta` does not
            have the shape for it.
    """
    output_size = as_size(output_size, "output_size", axes=(2, 3))
    if is_symbolic(theta):
        return AffineGrid()(theta, output_size, align_corners=align_corners)
    theta = as_affine(theta, len(output_size))
    return Affine(theta, output_size, output_size, align_corners).grid()


@keras.saving.register_keras_serializable("stn_keras")
class AffineGrid(keras.Operation):
    """`affine_grid` in a functional model."""

    def call(self, theta, output_size, align_corners):
        return affine_grid(theta, output_size, align_corners=align_corners)

    def compute_output_spec(self, theta, output_size, align_corners):
        check_affine(theta, len(output_size))
        shape = (theta.shape[0], *output_size, len(output_size))
        return keras.KerasTensor(shape, wide_dtype(theta))
