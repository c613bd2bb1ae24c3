"""What `theta` means: the transforms that a `SpatialTransformer` can regress.

All transforms map output to input coordinates, see `stn_keras.geometry`. Lengths are normalised,
from −1 to 1. Angles are in radians, positive from x to y, which is clockwise on the screen.

With `axes=3` a transform applies to volumes. Its rotation is a vector: the direction of the vector
is the axis of the rotation, and its length is the angle.

A new transform is a small class that defines its identity, and either its matrix or the input
coordinates of each output pixel.
"""

import functools

import keras

from stn_keras.transforms.base import MatrixTransform, Transform
from stn_keras.transforms.matrices import Affine, Attention, Box, Rigid, Similarity, Translation
from stn_keras.transforms.projective import Projective
from stn_keras.transforms.spline import ThinPlateSpline

__all__ = [
    "Affine",
    "Attention",
    "Box",
    "MatrixTransform",
    "Projective",
    "Rigid",
    "Similarity",
    "ThinPlateSpline",
    "Transform",
    "Translation",
    "get",
]

TRANSFORMS = {
    "translation": Translation,
    "attention": Attention,
    "box": Box,
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
    "projective": Projective,
    "thin_plate_spline": ThinPlateSpline,
}


def get(transform: str | dict | Transform):
    """Returns a transform by name, from its config, or unchanged if it is one already.

    A name stands for the default settings, which are for images. For volumes, pass an instance with
    `axes=3`.

    Example:

    >>> transforms.get("similarity")
    Similarity(max_rotation=None, scale=None)

    Args:
        transform: An instance, its config, or one of the names `"translation"`, `"attention"`,
            `"box"`, `"rigid"`, `"similarity"`, `"affine"`, `"projective"` and
            `"thin_plate_spline"`.

    Returns:
        A `Transform`.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(transform, dict):
        transform = keras.saving.deserialize_keras_object(transform)
    if isinstance(transform, Transform):
        return transform
    if not isinstance(transform, str) or transform not in TRANSFORMS:
        raise ValueError(
            f"`transform` must be a `Transform` or one of {tuple(TRANSFORMS)}. "
            f"Received: transform={transform!r}"
        )
    return by_name(transform)


@functools.cache
def by_name(name, **settings):
    """A shared instance, so that layers with the same settings share their compiled functions."""
    return TRANSFORMS[name](**settings)


def closure_of(transform):
    """The transform that represents compositions of a matrix transform with itself."""
    if transform.axes == 3 and transform.closure == "affine":
        return by_name("affine", axes=3)
    return get(transform.closure)
