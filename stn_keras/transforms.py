"""What `theta` means: the families of transforms a `SpatialTransformer` can regress.

A new transform is one small class: how many parameters it has, which of them do nothing, and
where it sends coordinates.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from stn_keras import geometry


@dataclass(frozen=True)
class Transform:
    """Base of all transforms: frozen, so that equal settings mean equal, hashable instances.

    Attributes:
        num_parameters: How many numbers a localization network regresses per image.
        identity: 1-D array of these numbers for which a warp returns its input.
    """

    def get_config(self):
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("stn_keras")
@dataclass(frozen=True)
class Affine(Transform):
    """Any linear map and translation: `theta` is `(batch, 6)` or `(batch, 2, 3)`, row-major.

    [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 1.

    Example:

    >>> Affine().grid([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], (28, 28)).shape
    TensorShape([1, 28, 28, 2])
    """

    num_parameters = 6

    @property
    def identity(self):
        return np.array([1, 0, 0, 0, 1, 0], dtype="float32")

    def matrix(self, theta):
        """Homogeneous matrices `(batch, 3, 3)`, from output to input, in normalised units."""
        theta = geometry.as_affine(theta)
        last_row = ops.zeros_like(theta[:, :1]) + ops.cast([0.0, 0.0, 1.0], theta.dtype)
        return ops.concatenate([theta, last_row], axis=1)

    def grid(self, theta, output_size, align_corners=False):
        """Normalised sampling grid `(batch, height, width, 2)`."""
        return geometry.affine_grid(theta, output_size, align_corners=align_corners)

    def pixels(self, theta, input_size, output_size, align_corners):
        """Pixel coordinates `(x, y)` in the input, each `(batch, height, width)`."""
        theta = geometry.as_affine(theta)
        return geometry.affine_pixels(theta, input_size, output_size, align_corners)


TRANSFORMS = {"affine": Affine}


def get(transform):
    """The transform of that name, with its default settings, or the instance itself.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(transform, Transform):
        return transform
    if not isinstance(transform, str) or transform not in TRANSFORMS:
        raise ValueError(
            f"`transform` must be a `Transform` or one of {tuple(TRANSFORMS)}. "
            f"Received: transform={transform!r}"
        )
    return TRANSFORMS[transform]()
