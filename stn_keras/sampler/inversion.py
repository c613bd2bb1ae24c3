"""Which points of the output look at given positions in the input: Newton's method.

Its steps are bounded, and shortened where a whole one does not come closer. The gradient of the
result is that of the implicit function theorem: one more step is differentiated, whose start and
whose Jacobian are constant.
"""

import math

from keras import ops

from stn_keras.checks.arguments import as_array
from stn_keras.sampler.linear import as_rows, determinant, diagonal, solved

STEPS = 40
ENOUGH = 1e-3  # of an output pixel: a point that moves less is done
CLOSE = 1e-2  # of an output pixel: a point that would move further has not converged
SHORTEST = 2.0**-10  # of a step


def points_at(field, positions):
    """The output points at which a `Field` looks at positions in the input.

    NaN where there is no such point, or where the field folds.
    """
    found = constant_points_at(field.constant(), ops.stop_gradient(positions))
    looks_at, jacobian = field.at(found)
    jacobian, step = ops.stop_gradient(jacobian), positions - looks_at
    rows = as_rows(jacobian)
    unfolded = determinant(rows) * determinant(as_rows(field.trend[:, None])) > 0
    identity = diagonal(ops.ones_like(field.scale))
    jacobian = ops.where(unfolded[..., None, None], jacobian, identity)
    step = solved(jacobian, step)
    good = ops.logical_and(unfolded, ops.all(ops.abs(step) < CLOSE, axis=-1))
    return ops.where(good[..., None], found + step, ops.full_like(found, math.nan))


def constant_points_at(field, positions):
    """`points_at` as Newton's method leaves them, converged or not, without a gradient."""

    def advance(points, step, error, length):
        ahead = points + length * step
        looks_at, jacobian = field.at(ahead)
        missing = positions - looks_at
        distance = ops.sum(missing**2, axis=-1, keepdims=True)
        closer = distance < error
        return (
            ops.where(closer, ahead, points),
            ops.where(closer, solved(jacobian, missing), step),
            ops.where(closer, distance, error),
            ops.where(closer, ops.ones_like(length), length / 4),
        )

    def moving(points, step, error, length):
        far = ops.any(ops.abs(step) > ENOUGH, axis=-1, keepdims=True)
        return ops.any(ops.logical_and(far, length > SHORTEST))

    start = field.start(positions)
    ones = ops.ones_like(start[..., :1])
    state = advance(start, ops.zeros_like(start), math.inf * ones, ones)
    points, step, *_ = repeated(advance, state, moving)
    return points + ops.clip(step, -CLOSE, CLOSE)


def repeated(advance, state, moving):
    """The state after `advance` has been called while it moves, at most `STEPS` times."""
    if as_array(moving(*state)).size == 0:  # traced
        return ops.while_loop(moving, advance, state, maximum_iterations=STEPS)
    for _ in range(STEPS):
        if not as_array(moving(*state)):
            break
        state = advance(*state)
    return state
