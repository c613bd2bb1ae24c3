"""The variables that Adam optimises: the parameters of a transform, or a velocity field."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from stn_keras.geometry.displacements import resize_displacement
from stn_keras.layers import VelocityIntegration
from stn_keras.losses import DisplacementGradient
from stn_keras.registration.families import STEP
from stn_keras.sampler import warps

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
        slopes = DisplacementGradient(reduction=None, data_format="channels_last")
        return self.smoothness * slopes(velocity[:, 0, 0, 0], velocity)


def velocity_size(size):
    return tuple(max(-(-length // SPACING), 2) for length in size)
