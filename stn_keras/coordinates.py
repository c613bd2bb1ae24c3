"""Pixel coordinates in the input of output pixels, and their conversion to and from a grid.

Both ends are counted in pixels. `geometry` states the convention.
"""

import math

from keras import ops

from stn_keras import backend

FAR = 2.0**20  # pixels: further out a homography has no gradient


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
