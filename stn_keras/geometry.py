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

import importlib
import math

import keras
from keras import ops

from stn_keras import backend
from stn_keras.arguments import Size, as_affine, as_size, check_affine, is_symbolic, wide_dtype
from stn_keras.axes import as_float, extent, from_middle, middle, positive_extent
from stn_keras.homographies import compose, divided, invert, transform_points
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


def affine_pixels(theta, input_size, output_size, align_corners):
    """Pixel coordinates `(x, y)` in the input, `(batch, height, width)` each, of affine transforms.

    The six numbers are brought to pixel units once per image. Pixels are counted from the middle
    of their axis, in exact halves, so the identity gives exact integers.
    """
    units = [extent(length, align_corners) for length in input_size]
    from_middles = affine_map(theta, units, output_size, align_corners)
    return [
        coordinate + middle(length, theta.dtype)
        for coordinate, length in zip(from_middles, reversed(input_size))
    ]


def between_pixels(theta, input_size, output_size, align_corners):
    """`(batch, 2, 3)`, from output to input pixels, both counted from the middles, of affine
    transforms."""
    units = [extent(length, align_corners) for length in input_size]
    rows = affine_rows(theta, units, output_size, align_corners)
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=1)


def affine_map(theta, units, output_size, align_corners):
    """`(x, y)` or `(x, y, z)` of `theta`, counted from the middle of the input, at output pixels.

    `units`, in the order of sizes, are how many of the units asked for lie between −1 and 1.
    """
    rows = affine_rows(theta, units, output_size, align_corners)
    positions = [from_middle(length, theta.dtype) for length in output_size]
    return [plane(row, output_size, positions) for row in rows]


def affine_rows(theta, units, output_size, align_corners):
    """The rows of `theta`, axes + 1 tensors `(batch,)` each, from output pixels to `units`."""
    steps = [positive_extent(length, align_corners, theta.dtype) for length in output_size]
    rows = []
    for row, unit in zip(ops.unstack(theta, axis=1), reversed(units)):
        unit = as_float(unit, theta.dtype)
        *slopes, origin = ops.unstack(row, axis=1)
        slopes = [slope * (unit / step) for slope, step in zip(slopes, reversed(steps))]
        # Not stacked: what is stacked shares the eight bits of an int8 model in LiteRT.
        rows.append([*slopes, origin * (unit / 2)])
    return rows


def projective_pixels(matrix, input_size, output_size, align_corners):
    """Pixel coordinates `(x, y)` in the input of `(batch, 3, 3)` homographies.

    Where the depth is 0, on the horizon, they are not finite: outside the image.
    """
    units = [extent(length, align_corners) for length in input_size]
    x, y = affine_map(matrix[:, :2], units, output_size, align_corners)
    # The last row maps no axis of the image: its unit is the normalised one, 2 from −1 to 1.
    (depth,) = affine_map(matrix[:, 2:], (2,), output_size, align_corners)
    return [
        divided(coordinate, depth) + middle(length, matrix.dtype)
        for coordinate, length in zip((x, y), reversed(input_size))
    ]


def plane(coefficients, output_size, positions):
    """`a·u + b·v + c` at every output pixel; `positions` are those along `v` and `u`.

    With three axes `a·u + b·v + c·w + d`. The coefficients are `(batch,)` each.

    Its gradient is a small matrix product per axis. Left to themselves compilers would sum over
    all pixels once per coefficient, and compute what they sum anew each time.
    """
    axes = len(output_size)

    def forward(*tensors):
        coefficients, positions = tensors[: axes + 1], tensors[axes + 1 :]
        *slopes, value = (ops.reshape(k, (-1,) + (1,) * axes) for k in coefficients)
        for k, (slope, position) in enumerate(zip(slopes, reversed(positions))):
            along = (1,) * (axes - k) + (-1,) + (1,) * k
            value = value + slope * ops.reshape(position, along)
        return value

    def backward(wanted, upstream, *tensors):
        positions = tensors[axes + 1 :]
        sums, found = upstream, []
        for k, position in enumerate(reversed(positions), 1):
            # Not ops.matmul: Keras rounds its float64 to float32 on JAX and PyTorch.
            moments = sums @ ops.stack([position, ops.ones_like(position)], axis=-1)
            by_position, sums = ops.unstack(moments, axis=-1)
            rest = math.prod(output_size[: axes - k])
            found.append(ops.sum(ops.reshape(by_position, (-1, rest)), axis=1))
        return *found, sums, *(None for _ in positions)

    return backend.with_gradient(forward, backward)(*coefficients, *positions)


def to_pixels(grid, size, align_corners):
    """Normalised `(..., 2)` → pixel coordinates `(x, y)`, each `(...)`, of an image of `size`."""
    coordinates = []
    for coordinate, length in zip(by_axis(grid), reversed(size)):
        half = as_float(extent(length, align_corners), grid.dtype) / 2
        coordinates.append(coordinate * half + middle(length, grid.dtype))
    return coordinates


def by_axis(points):
    """`(..., 2)` → x and y, each `(...)`; in volumes z too."""
    return [component(points, axis) for axis in range(points.shape[-1])]


def component(points, axis):
    """`points[..., axis]`, with a gradient that compilers vectorize: of a slice it is a padding,
    which XLA computes with a branch per number."""

    def backward(wanted, upstream, points):
        here = ops.arange(points.shape[-1]) == axis
        return [ops.where(here, ops.expand_dims(upstream, -1), 0)]

    return backend.with_gradient(lambda points: points[..., axis], backward)(points)


def displaced(displacement, size, align_corners):
    """Pixel coordinates `(x, y)` in images of `size`, each `(batch, *output_size)`, of output
    pixels that the identity maps there and `displacement` moves on."""
    output_size, coordinates = backend.shape(displacement)[1:-1], []
    lengths = list(zip(size, output_size))[::-1]
    for axis, (shift, (length, count)) in enumerate(zip(by_axis(displacement), lengths)):
        dtype = displacement.dtype
        unit = as_float(extent(length, align_corners), dtype)
        step = unit / positive_extent(count, align_corners, dtype)
        position = from_middle(count, dtype) * step + middle(length, dtype)
        along = (1,) * (len(size) - axis) + (-1,) + (1,) * axis
        coordinates.append(ops.reshape(position, along) + shift)
    return coordinates


def to_grid(coordinates, size, align_corners):
    """Pixel coordinates `(x, y)` → normalised `(..., 2)`, the inverse of `to_pixels`."""
    grid = []
    for coordinate, length in zip(coordinates, reversed(size)):
        half = positive_extent(length, align_corners, coordinate.dtype) / 2
        grid.append((coordinate - middle(length, coordinate.dtype)) / half)
    return ops.stack(grid, axis=-1)


def __getattr__(name):
    """The functions of `displacements`, which needs the sampler, and that this module."""
    displacements = importlib.import_module("stn_keras.displacements")
    if name not in displacements.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(displacements, name)
