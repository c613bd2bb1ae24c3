"""Adam, for displacement fields and for losses that are not sums of squares."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.registration.equations import look
from stn_keras.registration.families import compiled

MOMENTA = 0.9, 0.99  # decay rates of the gradient's mean and of its mean square
WINDOW = 10  # steps
SETTLED = 0.05  # converged: a window changes the loss by at most this share of the whole change


@dataclasses.dataclass(frozen=True)
class Objective:
    """The function to minimise: the loss of each pair, `(batch,)`, at a `point`.

    The `kind` computes a warp from the point; see `kinds`.
    """

    kind: Any
    similarity: Any

    def __call__(self, point, start, moving, fixed, weights, *constants):
        size = tuple(fixed.shape[1:-1])
        where = through(start, self.kind.warp(point, size, *constants).grid())
        warped, seen = look(moving, where)
        weights = weights * ops.stop_gradient(seen)
        return self.similarity(fixed, warped, weights) + self.kind.penalty(point)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of Adam. It returns the losses before the step, the new point and the moments."""

    objective: Objective

    def __call__(self, point, mean, square, rate, count, *tensors):
        loss, slope = backend.value_and_gradient(self.objective)(point, *tensors)
        mean = MOMENTA[0] * mean + (1 - MOMENTA[0]) * slope
        square = MOMENTA[1] * square + (1 - MOMENTA[1]) * slope**2
        step = (mean / (1 - MOMENTA[0] ** count)) / (
            ops.sqrt(square / (1 - MOMENTA[1] ** count)) + 1e-8
        )
        return loss, point - rate * step, mean, square


def minimise(objective, point, tensors, rate, steps):
    """The point after `steps` steps, whose rate falls to a tenth along half a period of a cosine.

    Returns:
        `(point, losses)`, where `losses` are those before each step, `(steps, batch)`.
    """
    point = ops.convert_to_tensor(point, dtype="float32")
    mean = square = ops.zeros_like(point)
    step = compiled(Step(objective), *(tuple(x.shape) for x in (point, *tensors)))
    losses = []
    for count in range(1, steps + 1):
        now = rate * (0.55 + 0.45 * math.cos(math.pi * (count - 1) / steps))
        numbers = [ops.convert_to_tensor(x, dtype="float32") for x in (now, count)]
        loss, point, mean, square = step(point, mean, square, *numbers, *tensors)
        losses.append(ops.convert_to_numpy(loss))
    return point, np.array(losses, "float64")


def settled(losses):
    """Whether the losses `(steps, batch)` hardly fell in the last steps: booleans `(batch,)`."""
    last = losses[-2 * WINDOW : -WINDOW].mean(axis=0) - losses[-WINDOW:].mean(axis=0)
    change, now = np.abs(losses[0] - losses[-1]), np.abs(losses[-1])
    return last <= SETTLED * change + 1e-3 * now + 1e-5


def through(start, where):
    """Maps normalised points `(batch, *size, axes)` by the homogeneous matrices `start`."""
    shape = where.shape
    points = ops.reshape(where, (shape[0], -1, shape[-1]))
    points = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
    mapped = backend.matmul(points, ops.transpose(start, (0, 2, 1)))
    return ops.reshape(mapped[..., :-1] / mapped[..., -1:], shape)
