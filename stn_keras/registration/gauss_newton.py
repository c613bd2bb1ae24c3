"""The Levenberg–Marquardt method, which fits the few parameters of a transform."""

import dataclasses

import numpy as np

from stn_keras.registration.families import moved_by, probes

TOLERANCE = 0.01  # pixels; converged if a step moves the probes by less
COARSE = 0.1  # the same, at all levels but the last
LEAST_OVERLAP = 0.1  # share of the fixed picture; a step to a smaller overlap is rejected
NOISE = 2e-6  # a smaller difference of losses may be a rounding error of float32
FIRST, LAST = 1e-3, 1e6  # damping of the first step; damping at which a pair gives up
ITERATIONS = 50  # the most at a level


@dataclasses.dataclass
class State:
    """The parameters of all pairs, and what follows from them; the first axis is the batch.

    Attributes:
        theta: The parameters.
        maps: The maps of `theta`, see `Family`.
        slopes: The derivatives of the maps with respect to `theta`.
        loss: The losses; infinite where the pictures do not overlap.
        gradient: The derivatives of the losses with respect to `theta`.
        curvature: The Gauss–Newton approximation of the losses' second derivatives.
        overlap: The share of each fixed picture that the warped one covers.
    """

    theta: np.ndarray
    maps: np.ndarray
    slopes: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    overlap: np.ndarray

    def taking(self, other, where):
        """A state with the pairs of `other` where the mask is True, and of this one elsewhere."""
        pairs = zip(vars(self).values(), vars(other).values())
        return State(*(np.where(where.reshape(-1, *[1] * (x.ndim - 1)), y, x) for x, y in pairs))


def evaluate(level, family, theta, least_squares):
    """The `State` of the pairs at a level, for the parameters `theta`."""
    maps, slopes = family.maps(theta)
    last = np.eye(maps.shape[-1])[-1]
    affine = not slopes[:, :, -1].any() and (maps[:, -1] == last).all()
    rows = maps.shape[1] - 1 if affine else maps.shape[1]
    products = level(maps[:, :rows])
    overlap = products[:, 0, -1, -1] / level.total
    with np.errstate(all="ignore"):
        loss, gradient, curvature = least_squares(products)
    chain = slopes[:, :, :rows].reshape(*theta.shape, -1)
    gradient = (chain @ gradient[..., None])[..., 0]
    curvature = chain @ curvature @ np.swapaxes(chain, 1, 2)
    loss = np.where((overlap > 0) & np.isfinite(loss), loss, np.inf)
    return State(theta, maps, slopes, loss, gradient, curvature, overlap)


def minimise(level, family, theta, least_squares, tolerance):
    """Minimises the losses at a level, starting from `theta`.

    Returns:
        `(first, last, iterations, converged)`: the first and the last state, and for each pair the
        number of its steps and whether it converged.
    """
    first = state = evaluate(level, family, theta, least_squares)
    lengths = np.array([length / 2 for length in reversed(level.moving_size)])
    points = probes(level.basis, level.size)
    least = np.minimum(LEAST_OVERLAP, state.overlap / 2)
    damping = np.full(len(theta), FIRST)
    iterations, converged = np.zeros(len(theta), int), np.zeros(len(theta), bool)
    active = np.isfinite(state.loss)
    for _ in range(ITERATIONS):
        step, moved = solve(state, damping, points, lengths)
        converged |= active & (moved < tolerance) & (damping <= FIRST)
        active &= ~converged
        if not active.any():
            break
        trial = evaluate(level, family, state.theta + step, least_squares)
        better = (trial.loss < state.loss + NOISE) & (trial.overlap >= least) & active
        state = state.taking(trial, better)
        damping = np.where(better, damping / 10, damping * 10)
        iterations += active
        converged |= better & (moved < tolerance)
        active &= ~converged & (damping < LAST)
    return first, state, iterations, converged


def solve(state, damping, points, lengths):
    """The step of each pair, and the largest distance in pixels that it moves a probe by.

    The damping penalises these distances.
    """
    moved = moved_by(state.maps, state.slopes, points, lengths)
    metric = moved @ np.swapaxes(moved, 1, 2)
    identity = np.eye(len(metric[0]))
    metric = metric + 1e-9 * np.trace(metric, axis1=1, axis2=2)[:, None, None] * identity
    ratio = np.trace(state.curvature, axis1=1, axis2=2) / np.trace(metric, axis1=1, axis2=2)
    matrix = state.curvature + (damping * ratio)[:, None, None] * metric
    usable = np.isfinite(matrix).all((1, 2)) & np.isfinite(state.gradient).all(1) & (ratio > 0)
    matrix = np.where(usable[:, None, None], matrix, identity)
    gradient = np.where(usable[:, None], state.gradient, np.nan)  # a step that is not taken
    step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
    apart = (step[:, None] @ moved).reshape(len(step), -1, len(lengths))
    return step, np.linalg.norm(apart, axis=-1).max(-1)


def correlation(products):
    """1 minus the correlation of the pictures, with its gradient and curvature.

    This loss is half the squared difference of the pictures after subtracting their means and
    scaling them to norm 1; the curvature is its Gauss–Newton approximation. See
    [Evangelidis & Psarakis, 2008](https://doi.org/10.1109/TPAMI.2008.113).
    """
    ones = products[..., -1:, :]
    centred = products[..., :-1, :-1] - (
        np.swapaxes(ones, -1, -2)[..., :-1, :] * ones[..., :-1] / ones[..., -1:]
    )
    centred = centred.sum(axis=1)
    curvature, by_moving, by_fixed = centred[:, :-2, :-2], centred[:, :-2, -2], centred[:, :-2, -1]
    moving, fixed, both = centred[:, -2, -2], centred[:, -1, -1], centred[:, -2, -1]
    usable = (moving > 0) & (fixed > 0)
    norms = np.sqrt(np.where(usable, moving, 1)), np.sqrt(np.where(usable, fixed, 1))
    rho = both / (norms[0] * norms[1])
    by_moving, by_fixed = by_moving / norms[0][:, None], by_fixed / norms[1][:, None]
    slope = (rho[:, None] * by_moving - by_fixed) / norms[0][:, None]
    along = by_moving[:, :, None] * by_moving[:, None]
    curvature = (curvature - along) / (norms[0] ** 2)[:, None, None]
    return np.where(usable, 1 - rho, np.inf), slope, curvature


def squared_error(products):
    """The mean squared difference of the pictures, with its gradient and curvature."""
    count = products[..., -1, -1].sum(axis=1)
    products = 2 * products[..., :-1, :-1].sum(axis=1) / count[:, None, None]
    loss = (products[:, -2, -2] - 2 * products[:, -2, -1] + products[:, -1, -1]) / 2
    return loss, products[:, :-2, -2] - products[:, :-2, -1], products[:, :-2, :-2]
