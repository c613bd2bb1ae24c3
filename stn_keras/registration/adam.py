"""Adam, for displacement fields and for losses that are not sums of squares.

Keras's Adam has one learning rate for all pairs of a batch. Here each pair has its own, which falls
when the pair improves no more, so that its warp does not depend on the other pairs.
"""

import functools

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.registration.equations import look
from stn_keras.registration.families import compiled

MOMENTA = 0.9, 0.99  # decay rates of the gradient's mean and of its mean square
FIRST, LAST = 0.3, 0.04  # rates in pixels: the first, and the one at which a pair has converged
STEPS = 200  # the most at a level
WINDOW = 10  # steps, whose mean loss is compared with that of as many steps before
SETTLED = 0.02  # a window improves no more if it does by less than this share of the whole change


def objective(point, start, moving, fixed, weights, *constants, kind, similarity):
    """The function to minimise: the loss of each pair, `(batch,)`, at a `point`.

    The `kind` computes a warp from the point; see `stages`.
    """
    size = tuple(fixed.shape[1:-1])
    where = through(start, kind.warp(point, size, *constants).grid())
    warped, seen = look(moving, where)
    weights = weights * ops.stop_gradient(seen)
    return similarity(fixed, warped, weights) + kind.penalty(point)


def adam_step(point, mean, square, rates, count, *tensors, **settings):
    """A step of Adam. It returns the losses before the step, the new point and the moments."""
    loss_of = functools.partial(objective, **settings)
    loss, slope = backend.value_and_gradient(loss_of)(point, *tensors)
    mean = MOMENTA[0] * mean + (1 - MOMENTA[0]) * slope
    square = MOMENTA[1] * square + (1 - MOMENTA[1]) * slope**2
    step = (mean / (1 - MOMENTA[0] ** count)) / (
        ops.sqrt(square / (1 - MOMENTA[1] ** count)) + 1e-8
    )
    rates = ops.reshape(rates, (-1, *[1] * (len(point.shape) - 1)))
    return loss, point - rates * step, mean, square


def minimise(point, tensors, **settings):
    """Minimises the losses from `point` on. A pair whose loss settles gets a third of its rate.

    The `tensors` and settings are the other arguments of `objective`.

    Returns:
        `(point, losses, iterations, converged)`: the best point; the losses at the first and at
        this point; and for each pair the number of its steps and whether it converged.
    """
    best = point = ops.convert_to_tensor(point, dtype="float32")
    mean = square = ops.zeros_like(point)
    step = compiled(adam_step, *(tuple(tensor.shape) for tensor in (point, *tensors)), **settings)
    batch = point.shape[0]
    rates, least = np.full(batch, FIRST), np.full(batch, np.inf)
    losses: list[np.ndarray] = []
    iterations, converged = np.zeros(batch, int), np.zeros(batch, bool)
    while True:
        rate = ops.convert_to_tensor(np.where(converged, 0, rates), dtype="float32")
        count = ops.convert_to_tensor(len(losses) + 1, dtype="float32")
        loss, following, mean, square = step(point, mean, square, rate, count, *tensors)
        losses.append(ops.convert_to_numpy(loss).astype("float64"))
        better = losses[-1] < least
        least = np.where(better, losses[-1], least)
        better = ops.convert_to_tensor(better.reshape(-1, *[1] * (len(point.shape) - 1)))
        best = ops.where(better, point, best)
        if len(losses) >= 2 * WINDOW and len(losses) % WINDOW == 0:
            still = settled(np.array(losses))
            converged |= still & (rates <= LAST)
            rates = np.where(still, rates / 3, rates)
        if converged.all() or len(losses) > STEPS:
            return best, (losses[0], least), iterations, converged
        iterations += ~converged
        point = following


def settled(losses):
    """Whether the losses `(steps, batch)` hardly fell in the last steps: booleans `(batch,)`."""
    before, now = losses[-2 * WINDOW : -WINDOW].mean(axis=0), losses[-WINDOW:].mean(axis=0)
    return before - now <= SETTLED * np.abs(losses[0] - now) + 1e-4 * np.abs(now) + 1e-5


def through(start, where):
    """Maps normalised points `(batch, *size, axes)` by the homogeneous matrices `start`."""
    shape = where.shape
    points = ops.reshape(where, (shape[0], -1, shape[-1]))
    points = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
    mapped = backend.matmul(points, ops.transpose(start, (0, 2, 1)))
    return ops.reshape(mapped[..., :-1] / mapped[..., -1:], shape)
