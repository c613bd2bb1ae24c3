"""Inverts a warp by Newton's method: finds the output points of given positions in the input.

The number of steps is bounded. A step is shortened if the whole step would not reduce the error.
The gradient of the result follows from the implicit function theorem: one more step is
differentiated, with a constant start and a constant Jacobian.
"""

import math

from keras import ops

from stn_keras.checks.arguments import as_array
from stn_keras.sampler.linear import as_rows, determinant, diagonal, solved

STEPS = 40
ENOUGH = 1e-3  # output pixels; a point whose next step is shorter is done
CLOSE = 1e-2  # output pixels; a point whose last step is longer has not converged
SHORTEST = 2.0**-10  # least factor by which a step is shortened


def points_at(field, positions):
    """The output points that a `Field` maps to the given positions in the input.

    They are NaN where no such point is found, or where the field folds.
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
    """The result of Newton's method for `points_at`, converged or not, without a gradient."""

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
    """Calls `advance` on the state while `moving` is True, at most `STEPS` times; returns it."""
    if as_array(moving(*state)).size == 0:  # traced
        return ops.while_loop(moving, advance, state, maximum_iterations=STEPS)
    for _ in range(STEPS):
        if not as_array(moving(*state)):
            break
        state = advance(*state)
    return state
