"""What `theta` means: the families of transforms a `SpatialTransformer` can regress.

All map output to input coordinates, see `stn_keras.geometry`. A new transform is one small class:
how many parameters it has, which of them do nothing, and where it sends coordinates; a matrix
transform only says what its matrix is. Lengths are normalised, from −1 to 1; angles are radians,
positive from x to y, which on the screen is clockwise.
"""

import functools

import keras

from stn_keras.transforms.base import MatrixTransform, Transform
from stn_keras.transforms.matrices import (
    Affine,
    Attention,
    Projective,
    Rigid,
    Similarity,
    Translation,
)
from stn_keras.transforms.spline import ThinPlateSpline

__all__ = [
    "Affine",
    "Attention",
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
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
    "projective": Projective,
    "thin_plate_spline": ThinPlateSpline,
}


def get(transform: str | dict | Transform):
    """The transform of that name, with its default settings, of a saved config, or itself.

    Example:

    >>> transforms.get("similarity")
    Similarity(max_rotation=None, scale=None)

    Args:
        transform: An instance, its config, or one of the names translation, attention, rigid,
            similarity, affine, projective, thin_plate_spline.

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
def by_name(name):
    """One instance for all, so that what is compiled for one layer serves the others."""
    return TRANSFORMS[name]()
