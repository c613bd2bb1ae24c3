"""Products, determinants and inverses of small matrices, in full precision on every device."""

import math

import numpy as np
from keras import ops


def product(left, right):
    """A matrix product in full precision. On a GPU, `matmul` may round factors to ten bits."""
    return ops.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def determinant(rows):
    """The determinant of a matrix of tensors, expanded along its first row."""
    if len(rows) == 1:
        return rows[0][0]
    terms = [element * minor(rows, 0, k) for k, element in enumerate(rows[0])]
    return sum(terms[2::2], terms[0] - terms[1])


def minor(rows, row, column):
    """The determinant of a matrix without one row and one column."""
    rest = rows[:row] + rows[row + 1 :]
    return determinant([[*other[:column], *other[column + 1 :]] for other in rest])


def inverse(matrix):
    """The inverses of `(..., n, n)` matrices; NaN where a matrix is singular."""
    rows = as_rows(matrix)
    whole = determinant(rows)
    return quotient(as_matrix(adjugate(rows)), whole[..., None, None])


def solved(matrix, side):
    """`x` with `matrix @ x = side`, `(..., n)`; NaN where a matrix is singular."""
    rows = as_rows(matrix)
    found = ops.sum(as_matrix(adjugate(rows)) * side[..., None, :], axis=-1)
    return quotient(found, determinant(rows)[..., None])


def adjugate(rows):
    """The adjugate, which is the inverse times the determinant."""
    axes = range(len(rows))
    return [[minor(rows, k, j) * (-1) ** (j + k) for k in axes] for j in axes]


def quotient(value, divisor):
    """`value / divisor`; NaN, without a gradient, where the divisor is 0."""
    zero = divisor == 0
    found = value / ops.where(zero, ops.ones_like(divisor), divisor)
    return ops.where(zero, ops.full_like(found, math.nan), found)


def as_rows(matrix):
    """The elements of `(..., n, n)` matrices, as lists of rows of tensors `(...)`."""
    return [ops.unstack(row, axis=-1) for row in ops.unstack(matrix, axis=-2)]


def as_matrix(rows):
    """The inverse of `as_rows`."""
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def with_last_row(matrix):
    """Square matrices of affine `(batch, n, n + 1)` ones."""
    last = ops.cast(np.eye(matrix.shape[-1])[None, -1:], matrix.dtype)
    return ops.concatenate([matrix, ops.zeros_like(matrix[:, :1]) + last], axis=1)


def vector(numbers, dtype):
    """A tensor `(n,)` from Python numbers, or from scalar tensors where sizes are unknown."""
    return ops.convert_to_tensor(numbers, dtype)


def diagonal(elements):
    """The diagonal matrix with the given elements `(n,)`."""
    return ops.eye(elements.shape[0], dtype=elements.dtype) * elements
