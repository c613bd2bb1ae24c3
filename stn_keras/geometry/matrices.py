"""Composition and inversion of matrices, and points mapped by them."""

from keras import ops

from stn_keras.checks.arguments import as_coordinates, as_type, wide_dtype
from stn_keras.sampler.coordinates import divided
from stn_keras.sampler.linear import product


def compose(first, second):
    """Matrices of a single warp that replaces two warps, the first one done first.

    Coordinates go from the output of the second warp through `second`, then through `first`: the
    matrix is the product of both.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])  # samples the right half
    >>> np.array(compose(matrix, matrix))[0, :2]  # and at the right half of that
    array([[0.25, 0.  , 0.75],
           [0.  , 0.25, 0.  ]], dtype=float32)

    Args:
        first: `(batch, 3, 3)` tensor, from `MatrixTransform.matrix`: the warp done first. Of
            volumes `(batch, 4, 4)`.
        second: A tensor of the same shape: the warp of the output of the first.

    Returns:
        A tensor of their shape, normalised, from output to input coordinates; float64 if one of
        them is, else float32.
    """
    return product(*in_one_dtype(first=first, second=second))


def invert(matrix):
    """Inverse matrices, from input to output coordinates: where a point of the input went.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])  # samples the right half
    >>> np.array(transform_points(invert(matrix), [[[0.5, 0.0]]]))  # its middle goes to 0
    array([[[0., 0.]]], dtype=float32)

    Args:
        matrix: `(batch, 3, 3)` tensor, from output to input coordinates; for volumes
            `(batch, 4, 4)`.

    Returns:
        A tensor of its shape, normalised; float64 if `matrix` is, else float32. For a singular
        matrix, the Keras backend raises an error or returns values that are not finite.
    """
    return ops.inv(as_coordinates(matrix, "matrix"))


def transform_points(matrix, points):
    """Maps points by matrices.

    Example:

    >>> matrix = transforms.Attention().matrix([[0.5, 0.5, 0.0]])
    >>> np.array(transform_points(matrix, [[[-1.0, -1.0]]]))  # what the upper left corner samples
    array([[[ 0. , -0.5]]], dtype=float32)

    Args:
        matrix: `(batch, 3, 3)` tensor, from `MatrixTransform.matrix`, `compose` or `invert`; of
            volumes `(batch, 4, 4)`.
        points: `(batch, n, 2)`, `(x, y)`, normalised; in volumes `(batch, n, 3)`, `(x, y, z)`.

    Returns:
        A tensor of the shape of `points`, normalised; float64 if one of them is, else float32. It
        is not finite for points that a homography maps to infinity.
    """
    points, matrix = in_one_dtype(points=points, matrix=matrix)
    homogeneous = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
    mapped = product(homogeneous, ops.transpose(matrix, (0, 2, 1)))
    return divided(mapped[..., :-1], mapped[..., -1:])


def in_one_dtype(**arguments):
    """Arguments as tensors of coordinates, in the wider of their dtypes."""
    tensors = [as_coordinates(values, name) for name, values in arguments.items()]
    return [as_type(tensor, wide_dtype(*tensors)) for tensor in tensors]
