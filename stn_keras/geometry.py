"""Coordinates: where in the input each output pixel looks.

The convention, which all of the library shares:

- A transform maps **output** coordinates to **input** coordinates ("pull" resampling), so the
  warped image is `output(p) = input(theta(p))`, and the identity returns its input.
- Coordinates come as `(x, y)`: x runs along the width, y along the height, both from −1 to 1.
- `align_corners=False`: −1 and 1 are the outer edges of the first and last pixels; pixel `i` of
  `n` sits at `(2i + 1)/n − 1`. `align_corners=True`: they are the centres of the corner pixels;
  pixel `i` sits at `2i/(n − 1) − 1`, and an axis of one pixel has it at 0.
- Sizes are `(height, width)`.
- *Pixel* coordinates, which the sampler works in, count pixels from the first one's centre.
- Coordinates are float32, or float64 where their source is, whatever the dtype policy says:
  bfloat16 would step by an eighth of a pixel near pixel 31.
"""

import operator

import keras
from keras import ops


def affine_grid(theta, output_size, *, align_corners=False):
    """Sampling grid of an affine transform.

    The grid generator of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025),
    equation 1: `(x_in, y_in) = theta @ (x_out, y_out, 1)`.

    Example:

    >>> identity = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    >>> affine_grid(identity, (1, 2))[0, 0]  # x = -0.5 and 0.5, y = 0

    Args:
        theta: `(batch, 2, 3)` or `(batch, 6)`, row-major; maps normalised output coordinates to
            normalised input coordinates.
        output_size: `(height, width)` of the grid.
        align_corners: Whether −1 and 1 are the centres of the corner pixels rather than their
            outer edges.

    Returns:
        `(batch, height, width, 2)`, last axis `(x, y)`; float64 if `theta` is, else float32.

    Raises:
        ValueError: if `theta` is not of such a shape or `output_size` not two positive integers.
    """
    theta = as_affine(theta)
    height, width = as_size(output_size, "output_size")
    x, y = affine_map(theta, (2, 2), (height, width), align_corners)  # from −1 to 1 it is 2
    return ops.stack([x, y], axis=-1)  # (batch, height, width, 2)


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


def affine_map(theta, units, output_size, align_corners):
    """`(x, y)` of `theta`, counted from the middle of the input, at every output pixel.

    `units`, for height and width, are how many of the units asked for lie between −1 and 1.
    """
    steps = [ops.maximum(as_float(extent(n, align_corners), theta.dtype), 1) for n in output_size]
    coordinates = []
    for row, unit in enumerate(reversed(units)):
        unit = as_float(unit, theta.dtype)
        slopes = [theta[:, row, k] * (unit / step) for k, step in enumerate(reversed(steps))]
        origin = theta[:, row, 2] * (unit / 2)
        coordinates.append(plane(ops.stack([*slopes, origin], axis=-1), output_size))
    return coordinates


def plane(coefficients, output_size):
    """`(batch, 3)` → `a·u + b·v + c` at every output pixel, `u`, `v` counted from the middle.

    Its gradient is one small matrix product. Left to themselves compilers would sum over all
    pixels once per coefficient, and compute what they sum anew each time.
    """
    height, width = output_size
    u = from_middle(width, coefficients.dtype)  # (width,)
    v = from_middle(height, coefficients.dtype)[:, None]  # (height, 1)

    @ops.custom_gradient
    def evaluate(coefficients):
        # Not [:, k, None, None]: TensorFlow's graph optimizer would lose the new axes.
        a, b, c = (ops.reshape(coefficients[:, k], (-1, 1, 1)) for k in range(3))

        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            ones = ops.ones_like(u + v)
            basis = ops.stack([ones * u, ones * v, ones], axis=-1)  # (height, width, 3)
            upstream = ops.reshape(upstream, (-1, height * width))
            return ops.matmul(upstream, ops.reshape(basis, (height * width, 3)))

        return c + a * u + b * v, gradient

    return evaluate(coefficients)


def to_pixels(grid, size, align_corners):
    """Normalised `(..., 2)` → pixel coordinates `(x, y)`, each `(...)`, of an image of `size`."""
    coordinates = []
    for axis, length in enumerate(reversed(size)):
        half = as_float(extent(length, align_corners), grid.dtype) / 2
        coordinates.append(grid[..., axis] * half + middle(length, grid.dtype))
    return coordinates


def extent(length, align_corners):
    """Pixel steps from −1 to 1: edge to edge, or centre to centre of the corner pixels."""
    return length - 1 if align_corners else length


def from_middle(length, dtype):
    """Pixel positions counted from the middle of their axis, `(length,)`."""
    return ops.arange(length, dtype=dtype) - middle(length, dtype)


def middle(length, dtype):
    """The pixel coordinate of the middle of an axis."""
    return (as_float(length, dtype) - 1) / 2


def as_float(number, dtype):
    """A size, static or a tensor, as a floating-point scalar."""
    return ops.cast(ops.convert_to_tensor(number), dtype)


def as_affine(theta):
    """`theta` as a `(batch, 2, 3)` tensor of coordinates' dtype."""
    theta = as_coordinates(theta)
    if tuple(theta.shape[1:]) not in ((2, 3), (6,)):
        raise ValueError(
            "`theta` must have shape (batch, 2, 3) or (batch, 6). "
            f"Received: theta.shape={tuple(theta.shape)}"
        )
    return ops.reshape(theta, (-1, 2, 3))


def as_coordinates(values):
    """A tensor of float64 if `values` are, else of float32."""
    values = ops.convert_to_tensor(values)
    wide = keras.backend.standardize_dtype(values.dtype) == "float64"
    return ops.cast(values, "float64" if wide else "float32")


def as_size(size, name):
    """`size` as `(height, width)`, two positive integers; scalar tensors pass unchecked."""
    try:
        height, width = (n if ops.is_tensor(n) else operator.index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if any(isinstance(n, int) and n < 1 for n in (height, width)):
        raise ValueError(
            f"`{name}` must be two positive integers (height, width). Received: {name}={size}"
        )
    return height, width
