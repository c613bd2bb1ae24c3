"""Transforms of few parameters, written as linear maps of fixed functions of the coordinates."""

import functools
import itertools

import numpy as np
from keras import ops

from stn_keras import backend, transforms
from stn_keras.transforms.spline import influence_of

STEP = 1e-2  # of a parameter, for its finite differences; maps are smooth functions of theta
LINEAR = (  # transforms whose maps are linear functions of theta
    transforms.Affine,
    transforms.Attention,
    transforms.Projective,
    transforms.ThinPlateSpline,
    transforms.Translation,
)


class Family:
    """A transform of the fixed picture's coordinates, followed by the matrices `start`.

    `start` maps the result to the moving picture. An output pixel samples the moving picture at
    `maps @ functions`, in homogeneous normalised coordinates. The `functions` are the values of
    `basis` at that pixel.
    """

    def __init__(self, transform, size, start):
        self.transform, self.size, self.start = transform, size, start

    def basis(self, size):
        """The functions at each pixel of an output, `(pixels, count)`.

        Of a matrix transform they are the coordinates x, y (z) and 1.
        """
        found = np.ones((*size, len(size) + 1), "float32")
        for axis, length in enumerate(size):
            places = (2 * np.arange(length) + 1) / length - 1
            found[..., -2 - axis] = places.reshape(-1, *[1] * (len(size) - axis - 1))
        return found.reshape(-1, len(size) + 1)

    def own(self, theta):
        """The maps of the transform without `start`, `(batch, axes + 1, count)`."""
        theta = ops.convert_to_tensor(theta, dtype="float32")
        found = call_compiled(matrices, theta, transform=self.transform, size=self.size)
        return ops.convert_to_numpy(found)

    @functools.cached_property
    def at_zero(self):
        """The maps of zeros, and their derivatives with respect to the parameters."""
        count = len(self.transform.identity)
        found = self.own(np.concatenate([np.zeros((1, count)), np.eye(count)]).astype("float32"))
        return found[0].astype("float64"), found[1:].astype("float64") - found[0]

    def maps(self, theta):
        """The maps of `theta`, with `start`, and their derivatives.

        The maps are `(batch, axes + 1, count)`. The derivatives with respect to the parameters are
        `(batch, parameters, axes + 1, count)`.
        """
        if type(self.transform) in LINEAR:
            first, slopes = self.at_zero
            found, slopes = first + np.tensordot(theta, slopes, 1), slopes[None]
            return self.start @ found, self.start[:, None] @ slopes
        batch, count = theta.shape
        steps = STEP * np.concatenate([np.zeros((1, count)), np.eye(count), -np.eye(count)])
        found = self.own((theta[:, None] + steps).reshape(-1, count).astype("float32"))
        found = found.reshape(batch, -1, *found.shape[1:]).astype("float64")
        slopes = (found[:, 1 : count + 1] - found[:, count + 1 :]) / (2 * STEP)
        return self.start @ found[:, 0], self.start[:, None] @ slopes


def matrices(theta, transform, size):
    return transform.matrix_in(theta, size, False)


class SplineFamily(Family):
    """A thin-plate spline: its functions are the influences of its control points, x, y and 1."""

    def basis(self, size):
        influence = ops.convert_to_numpy(influence_of(self.transform.control_points, size, False))
        return np.column_stack([influence, super().basis(size)]).astype("float32")

    def own(self, theta):
        offsets = np.transpose(ops.convert_to_numpy(self.transform.offsets(theta)), (0, 2, 1))
        identity = np.broadcast_to(np.eye(3, dtype="float32"), (len(offsets), 3, 3))
        offsets = np.concatenate([offsets, np.zeros_like(offsets[:, :1])], axis=1)
        return np.concatenate([offsets, identity], axis=2)


def family_of(transform, size, start):
    """The `Family` of a transform, or None if the transform is not a linear map of functions."""
    if isinstance(transform, transforms.MatrixTransform):
        return Family(transform, size, start)
    if isinstance(transform, transforms.ThinPlateSpline):
        return SplineFamily(transform, size, start)
    return None


def probes(basis, size):
    """The functions at the corners, at the centres of the edges and at the centre of an output."""
    ends = [sorted({0, length // 2, length - 1}) for length in size]
    places = np.ravel_multi_index(np.transpose(list(itertools.product(*ends))), size)
    return basis[places].astype("float64")


def moved_by(maps, slopes, points, lengths):
    """The derivatives, with respect to the parameters, of the positions `maps` gives for points.

    A point is given by the values of the functions there. The derivatives are `(batch, parameters,
    points · axes)`, in pixels: an axis has `lengths` pixels from its centre to its edge.
    """
    mapped = (points @ np.swapaxes(maps, -1, -2))[:, None]
    moved, depth = points @ np.swapaxes(slopes, -1, -2), mapped[..., -1:]
    with np.errstate(all="ignore"):
        where = mapped[..., :-1] / depth
        found = (moved[..., :-1] - where * moved[..., -1:]) / depth * lengths
    return found.reshape(*slopes.shape[:2], -1)


def call_compiled(function, *tensors, **settings):
    """`function(*tensors, **settings)`, compiled once for these settings and these shapes."""
    return compiled(function, *(tuple(tensor.shape) for tensor in tensors), **settings)(*tensors)


@functools.lru_cache(maxsize=64)
def compiled(function, *shapes, **settings):
    """A function of tensors of these shapes, compiled with the settings."""
    return backend.jit(functools.partial(function, **settings))
