"""Penalties on `theta`, for the `activity_regularizer` of a localization network's last layer.

They are Keras regularizers. Called on a batch, they return the sum over its images. Keras (since
3.14) divides the sum by the batch size and adds it to the model's loss. In a `SpatialTransformer`
with several `iterations`, every iteration is penalised.
"""

import keras
from keras import ops

from stn_keras import transforms
from stn_keras.checks.arguments import as_number, size_for
from stn_keras.metrics.theta import squared_distance
from stn_keras.sampler.axes import mean_over_points

__all__ = ["FromIdentity", "Outside"]


class ThetaRegularizer(keras.Regularizer):
    """`strength` times the sum, over a batch, of a penalty on each image's `theta`."""

    def __init__(self, transform="affine", strength=0.01, size=None):
        self.transform = transforms.get(transform)
        self.strength = as_number(strength, "strength")
        if self.strength < 0:
            raise ValueError(f"`strength` must be 0 or greater. Received: strength={strength!r}")
        self.size = size_for(self.transform, size)

    def __call__(self, theta):
        return self.strength * ops.sum(self.penalty(theta))

    def penalty(self, theta):
        """`theta` → `(batch,)`."""
        raise NotImplementedError

    def get_config(self):
        return {
            "transform": keras.saving.serialize_keras_object(self.transform),
            "strength": self.strength,
            "size": self.size,
        }


@keras.saving.register_keras_serializable("stn_keras")
class FromIdentity(ThetaRegularizer):
    """Keeps warps near the identity: the mean squared distance by which they move output points.

    This is the loss of [Rocco et al., 2017](https://arxiv.org/abs/1703.05593) with the identity as
    the target. It measures a distance in the image, not between parameters, so the same strength
    means the same under every transform. The penalty and its gradient are exactly 0 at the
    identity.

    Example:

    >>> penalty = FromIdentity("affine", strength=0.1)
    >>> theta = stn_keras.localization.head("affine", activity_regularizer=penalty)
    >>> float(penalty([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])) == pytest.approx(0.1)
    True

    Args:
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        strength: Factor, 0 or greater. Distances are normalised: a translation by half the image's
            width costs `strength`.
        size: `(height, width)` of the grid of output points, by default (32, 32); for volumes
            `(depth, height, width)`, by default (16, 16, 16). Transforms that rotate assume an
            image of this aspect ratio.

    Raises:
        ValueError: if an argument is out of range, or `theta` does not have the transform's shape.
    """

    def penalty(self, theta):
        return squared_distance(theta, self.transform, self.size)


@keras.saving.register_keras_serializable("stn_keras")
class Outside(ThetaRegularizer):
    """Keeps samples inside the image: the mean distance by which they are outside −1 … 1.

    The penalty of a sample is `max(|x| − 1, 0) + max(|y| − 1, 0)`; of volumes, z is added in the
    same way. For warps that stay inside the image it is 0 and has no gradient. If the horizon of a
    projective transform crosses the image, the penalty grows without limit.

    Example:

    >>> penalty = Outside("attention", strength=1.0)
    >>> theta = stn_keras.localization.head("attention", activity_regularizer=penalty)
    >>> float(penalty([[0.5, 0.5, 0.5]]))  # the lower right quarter
    0.0

    Args:
        transform: As in `FromIdentity`.
        strength: Factor, 0 or greater. Distances are normalised: a translation by the image's whole
            width, which moves all samples out of it, costs `strength`.
        size: As in `FromIdentity`.

    Raises:
        ValueError: if an argument is out of range, or `theta` does not have the transform's shape.
    """

    def penalty(self, theta):
        beyond = ops.relu(ops.abs(self.transform.grid(theta, self.size)) - 1)
        return mean_over_points(ops.sum(beyond, axis=-1))
