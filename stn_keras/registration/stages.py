"""Fits one transform or displacement field, level by level."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from stn_keras.geometry.displacements import resize_displacement
from stn_keras.layers import VelocityIntegration
from stn_keras.losses import DisplacementGradient
from stn_keras.registration import adam, gauss_newton
from stn_keras.registration.equations import Sums
from stn_keras.registration.families import STEP, family_of
from stn_keras.registration.pyramid import pyramid, smoothed
from stn_keras.registration.report import Level
from stn_keras.sampler import warps

LEAST_SQUARES = {"ecc": gauss_newton.correlation, "mse": gauss_newton.squared_error}
SPACING = 2  # pixels between the vectors of a velocity field
FEW = 9  # points along each axis at which the effect of a parameter is measured


@dataclasses.dataclass(frozen=True)
class Parameters:
    """`theta` is `base + point @ spread`: a step of `point` by 1 moves pixels by about 1."""

    transform: Any
    size: tuple

    def warp(self, point, size, base, spread):
        theta = base + ops.matmul(point, spread)
        return self.transform.warp(theta, self.size, size, False)

    def penalty(self, point):
        return 0.0


def spread_of(transform, size, level_size):
    """The matrix `spread` of `Parameters`, whose steps are in pixels of the level."""
    identity = np.asarray(transform.identity, "float32")
    steps = STEP * np.eye(len(identity), dtype="float32")
    points = (FEW,) * len(size)
    ahead, behind = (
        ops.convert_to_numpy(transform.warp(identity + step, size, points, False).grid())
        for step in (steps, -steps)
    )
    halves = np.array(level_size[::-1]) / 2
    slopes = ((ahead - behind.astype("float64")) / (2 * STEP) * halves).reshape(len(identity), -1)
    squares = slopes @ slopes.T / (slopes.shape[1] / len(size))
    return np.linalg.inv(np.linalg.cholesky(squares))


@dataclasses.dataclass(frozen=True)
class Velocity:
    """A velocity `(batch, *size, axes)`, which is integrated to a warp without folds.

    Its unit is the distance between two of its vectors.
    """

    smoothness: float

    def warp(self, velocity, size):
        field = VelocityIntegration(data_format="channels_last")(velocity)
        field = resize_displacement(field, size, data_format="channels_last")
        return warps.Displacement(field, size, size, False)

    def penalty(self, velocity):
        slopes = DisplacementGradient(data_format="channels_last")
        return self.smoothness * slopes.call(None, velocity)


def levels_of(moving, fixed_levels, start):
    """Pairs of sides `(moving, fixed)` for all levels, the coarsest first.

    Each level of the fixed pictures is paired with the level of the moving pictures that has the
    most similar pixel size under `start`.
    """
    axes = len(moving.size)
    stretch = np.abs(np.linalg.det(start[:, :axes, :axes])).mean()
    movings = pyramid(moving)
    found = []
    for side in fixed_levels:
        ratios = [stretch * np.prod(x.size) / np.prod(side.size) for x in movings]
        nearest = np.argmin(np.abs(np.log(np.maximum(ratios, 1e-6))))
        found.append((smoothed(movings[nearest]), side))
    return found


def fit_parameters(moving, fixed_levels, start, similarity, told, transform, loss):
    """Fits a transform.

    Returns:
        `(warp, entries)`: the warp, from and to the size of the fixed pictures, without `start`;
        and a `Level` for each level.
    """
    full_size = fixed_levels[-1].size
    family = family_of(transform, full_size, start)
    theta = np.tile(np.asarray(transform.identity, "float64"), (len(start), 1))
    name, entries = type(transform).__name__, []
    for pair in levels_of(moving, fixed_levels, start):
        size = pair[1].size
        if family is not None and loss in LEAST_SQUARES:
            finest = size == full_size
            tolerance = gauss_newton.TOLERANCE if finest else gauss_newton.COARSE
            level = Sums(pair[0], pair[1], family.basis(size))
            first, last, iterations, converged = gauss_newton.minimise(
                level, family, theta, LEAST_SQUARES[loss], tolerance
            )
            theta, losses = last.theta, (first.loss, last.loss)
        else:
            kind = Parameters(transform, full_size)
            constants = theta, spread_of(transform, full_size, size)
            point, losses, iterations, converged = descend(
                kind, similarity, np.zeros_like(theta), pair, start, constants
            )
            theta = theta + ops.convert_to_numpy(point) @ constants[1]
        entries.append(Level(name, size, iterations, losses[0], losses[-1], converged))
        told(losses[-1])
    theta = ops.convert_to_tensor(theta, dtype="float32")
    return transform.warp(theta, full_size, full_size, False), entries


def fit_velocity(moving, fixed_levels, start, similarity, told, smoothness):
    """Fits a displacement field; see `fit_parameters` for what it returns."""
    velocity, kind, entries = None, Velocity(smoothness), []
    for pair in levels_of(moving, fixed_levels, start):
        size = pair[1].size
        shape = tuple(max(-(-length // SPACING), 2) for length in size)
        if velocity is None:
            velocity = np.zeros((len(start), *shape, len(size)), "float32")
        else:
            velocity = resize_displacement(velocity, shape, data_format="channels_last")
        velocity, losses, iterations, converged = descend(kind, similarity, velocity, pair, start)
        entries.append(Level("displacement", size, iterations, losses[0], losses[-1], converged))
        told(losses[-1])
    return kind.warp(velocity, fixed_levels[-1].size), entries


def descend(kind, similarity, point, pair, start, constants=()):
    """Minimises the loss of a pair of sides by Adam; see `adam.minimise` for what it returns."""
    moving, fixed = pair
    arrays = start, moving.with_weights(), fixed.pixels, fixed.weights, *constants
    tensors = [ops.convert_to_tensor(x, dtype="float32") for x in arrays]
    return adam.minimise(point, tensors, kind=kind, similarity=similarity)
