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

import math
import operator
import re

import keras
from keras import ops

from stn_keras import backend

__all__ = ["affine_grid", "compose", "invert", "transform_points"]

Size = tuple[int, int] | tuple[int, int, int]
FAR = 2.0**20  # pixels: further out a homography has no gradient


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
    return ops.stack(affine_rows(theta, units, output_size, align_corners), axis=1)


def affine_map(theta, units, output_size, align_corners):
    """`(x, y)` or `(x, y, z)` of `theta`, counted from the middle of the input, at output pixels.

    `units`, in the order of sizes, are how many of the units asked for lie between −1 and 1.
    """
    rows = affine_rows(theta, units, output_size, align_corners)
    return [plane(row, output_size) for row in rows]


def affine_rows(theta, units, output_size, align_corners):
    """The rows of `theta`, `(batch, axes + 1)` each, from output pixels to `units`."""
    steps = [positive_extent(length, align_corners, theta.dtype) for length in output_size]
    rows = []
    for row, unit in enumerate(reversed(units)):
        unit = as_float(unit, theta.dtype)
        slopes = [theta[:, row, k] * (unit / step) for k, step in enumerate(reversed(steps))]
        origin = theta[:, row, len(steps)] * (unit / 2)
        rows.append(ops.stack([*slopes, origin], axis=-1))
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


def divided(numerator, depth):
    """Their quotient, without a gradient where it is next to infinite or not a number.

    There a derivative would overflow, and times an upstream gradient of 0 be NaN.
    """
    usable = ops.logical_and(ops.abs(numerator) < FAR * ops.abs(depth), ops.abs(depth) > 1 / FAR)
    quotient = ops.where(usable, numerator, 0) / ops.where(usable, depth, 1)
    return ops.where(usable, quotient, ops.stop_gradient(numerator / depth))


def product(left, right):
    """A matrix product in full: on a GPU `matmul` may round its factors to ten binary digits."""
    return ops.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def plane(coefficients, output_size):
    """`(batch, 3)` → `a·u + b·v + c` at every output pixel, `u`, `v` counted from the middle.

    With three axes `(batch, 4)` → `a·u + b·v + c·w + d`.

    Its gradient is a small matrix product per axis. Left to themselves compilers would sum over
    all pixels once per coefficient, and compute what they sum anew each time.
    """
    axes = len(output_size)

    def forward(coefficients):
        positions = [from_middle(length, coefficients.dtype) for length in reversed(output_size)]
        *slopes, value = (
            ops.reshape(k, (-1,) + (1,) * axes) for k in ops.unstack(coefficients, axis=1)
        )
        for k, (slope, position) in enumerate(zip(slopes, positions)):
            along = (1,) * (axes - k) + (-1,) + (1,) * k
            value = value + slope * ops.reshape(position, along)
        return value

    def backward(wanted, upstream, coefficients):
        sums, found = upstream, []
        for k, length in enumerate(reversed(output_size), 1):
            position = from_middle(length, coefficients.dtype)
            # Not ops.matmul: Keras rounds its float64 to float32 on JAX and PyTorch.
            moments = sums @ ops.stack([position, ops.ones_like(position)], axis=-1)
            rest = math.prod(output_size[: axes - k])
            found.append(ops.sum(ops.reshape(moments[..., 0], (-1, rest)), axis=1))
            sums = moments[..., 1]
        return (ops.stack([*found, sums], axis=-1),)

    return backend.with_gradient(forward, backward)(coefficients)


def to_pixels(grid, size, align_corners):
    """Normalised `(..., 2)` → pixel coordinates `(x, y)`, each `(...)`, of an image of `size`."""
    coordinates = []
    for axis, length in enumerate(reversed(size)):
        half = as_float(extent(length, align_corners), grid.dtype) / 2
        coordinates.append(grid[..., axis] * half + middle(length, grid.dtype))
    return coordinates


def to_grid(coordinates, size, align_corners):
    """Pixel coordinates `(x, y)` → normalised `(..., 2)`, the inverse of `to_pixels`."""
    grid = []
    for coordinate, length in zip(coordinates, reversed(size)):
        half = positive_extent(length, align_corners, coordinate.dtype) / 2
        grid.append((coordinate - middle(length, coordinate.dtype)) / half)
    return ops.stack(grid, axis=-1)


def extent(length, align_corners):
    """Pixel steps from −1 to 1: edge to edge, or centre to centre of the corner pixels."""
    return length - 1 if align_corners else length


def positive_extent(length, align_corners, dtype):
    """`extent` as a float to divide by: 1 where it is 0, on an axis of one aligned pixel."""
    return ops.maximum(as_float(extent(length, align_corners), dtype), 1)


def from_middle(length, dtype):
    """Pixel positions counted from the middle of their axis, `(length,)`."""
    return ops.arange(length, dtype=dtype) - middle(length, dtype)


def middle(length, dtype):
    """The pixel coordinate of the middle of an axis."""
    return (as_float(length, dtype) - 1) / 2


def as_float(number, dtype):
    """A size, static or a tensor, as a floating-point scalar."""
    return ops.cast(ops.convert_to_tensor(number), dtype)


def as_affine(theta, axes=2):
    """`theta` as a `(batch, axes, axes + 1)` tensor of coordinates' dtype."""
    theta = as_coordinates(theta)
    check_affine(theta, axes)
    return ops.reshape(theta, (-1, axes, axes + 1))


def check_affine(theta, axes):
    """Raises a ValueError where `theta` is not of affine transforms in so many axes."""
    matrix, flat = (axes, axes + 1), (axes * (axes + 1),)
    if tuple(theta.shape[1:]) not in (matrix, flat):
        raise ValueError(
            f"`theta` must have shape (batch, {axes}, {axes + 1}) or (batch, {flat[0]}). "
            f"Received: theta.shape={tuple(theta.shape)}"
        )


def as_coordinates(values, name="theta"):
    """A tensor of float64 if `values` are, else of float32."""
    values = as_numbers(values, name)
    return ops.cast(values, wide_dtype(values))


def as_numbers(values, name):
    """A tensor of real numbers."""
    wanted = f"`{name}` must be of a floating-point dtype, or integers"
    try:
        tensor = ops.convert_to_tensor(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{wanted}. Received: {name}={values!r}") from error
    if getattr(tensor.shape, "rank", 0) is None:  # TensorFlow's
        raise ValueError(
            f"`{name}` must have a known rank: call its `set_shape`. Received: {name}={tensor}"
        )
    if not re.match("float|bfloat|u?int", keras.backend.standardize_dtype(tensor.dtype)):
        raise ValueError(f"{wanted}. Received: {name}.dtype={tensor.dtype}")
    return tensor


def is_symbolic(*tensors):
    """Whether one of them stands for a tensor of a functional model that is being built."""
    return any(isinstance(tensor, keras.KerasTensor) for tensor in tensors)


def wide_dtype(*tensors):
    """float64 if a tensor is, else float32; `result_type` of Keras narrows on JAX and PyTorch."""
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors]
    return "float64" if "float64" in dtypes else "float32"


def as_size(size, name, axes=(2,)):
    """`size` as a tuple of positive integers, one per axis; scalar tensors pass unchecked."""
    try:
        lengths = tuple(n if ops.is_tensor(n) else operator.index(n) for n in size)
    except TypeError:
        lengths = ()
    if len(lengths) not in axes or any(isinstance(n, int) and n < 1 for n in lengths):
        wanted = "two positive integers (height, width)"
        if 3 in axes:
            wanted += " or three (depth, height, width)"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={size}")
    return lengths
