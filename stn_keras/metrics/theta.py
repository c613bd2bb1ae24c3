"""Distances from the identity, samples outside the image, and NaN parameters."""

import keras
from keras import ops

from stn_keras import transforms
from stn_keras.checks.arguments import size_for
from stn_keras.sampler.axes import mean_over_points


def identity_distance(theta, transform="affine", size=None, *, align_corners=False):
    """Root mean square distance by which a warp moves the output points.

    Example:

    >>> np.array(identity_distance([[0.3, 0.4]], "translation"))  # a quarter of the side
    array([0.5], dtype=float32)

    Args:
        theta: `(batch, num_parameters)`; for the affine transform also `(batch, 2, 3)`. The mean is
            also over the glimpses of `(batch, glimpses, num_parameters)`.
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        size: `(height, width)` of the grid of output points, by default (32, 32); for volumes
            `(depth, height, width)`, by default (16, 16, 16). Transforms that rotate assume an
            image of this aspect ratio.
        align_corners: See `stn_keras.geometry`.

    Returns:
        `(batch,)`, 0 or greater, in normalised units, in which the image is 2 wide and 2 high;
        float64 if `theta` is, else float32. It has no gradient at 0; its square has one, see
        `stn_keras.regularizers.FromIdentity`.

    Raises:
        ValueError: if `theta` or `size` does not have the transform's shape.
    """
    return ops.sqrt(squared_distance(theta, transform, size, align_corners=align_corners))


def squared_distance(theta, transform="affine", size=None, *, align_corners=False):
    """The square of `identity_distance`, `(batch,)`, whose gradient at the identity is 0."""
    transform = transforms.get(transform)
    size = size_for(transform, size)
    grid = transform.grid(theta, size, align_corners=align_corners)
    identity = ops.cast(transform.identity[None], grid.dtype)
    moved = grid - transform.grid(identity, size, align_corners=align_corners)
    return mean_over_points(ops.sum(moved**2, axis=-1))


def outside_share(theta, transform="affine", size=None, *, align_corners=False):
    """Share of a warp's samples outside the image, that is, outside −1 … 1 along any axis.

    It has no gradient. To penalise samples outside, use `stn_keras.regularizers.Outside`.

    Example:

    >>> np.array(outside_share([[1.0, 0.0]], "translation"))  # half a width to the right
    array([0.5], dtype=float32)

    Args:
        theta: As in `identity_distance`.
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        size: As in `identity_distance`. The share is exact for a warp to that size and approximate
            for others.
        align_corners: See `stn_keras.geometry`.

    Returns:
        `(batch,)` in 0 … 1; samples that are not finite count as outside. float64 if `theta` is,
        else float32.
    """
    transform = transforms.get(transform)
    size = size_for(transform, size)
    return share_outside(transform.grid(theta, size, align_corners=align_corners))


def share_outside(grid):
    """`outside_share` of a normalised sampling grid, `(batch, *size, axes)`."""
    inside = ops.all(ops.abs(grid) <= 1, axis=-1)  # (batch, *size); False for NaN
    return mean_over_points(ops.cast(ops.logical_not(inside), grid.dtype))


def nonfinite_share(theta):
    """Share of each warp's parameters that are NaN or infinite; 0 in a healthy network.

    A warp with such parameters returns `fill_value` everywhere. The loss stays finite, so training
    goes on, but the network learns nothing from the images.

    Example:

    >>> np.array(nonfinite_share([[1.0, np.nan], [1.0, 0.0]]))
    array([0.5, 0. ], dtype=float32)

    Args:
        theta: `(batch, num_parameters)` or `(batch, ...)`, of any transform.

    Returns:
        `(batch,)` in 0 … 1, float32.
    """
    theta = ops.convert_to_tensor(theta)
    missing = ops.cast(ops.logical_not(ops.isfinite(theta)), "float32")
    return mean_over_points(missing)


class ThetaMetric(keras.metrics.Mean):
    """Mean over all images of a function of `theta`."""

    def __init__(self, transform="affine", size=None, name=None, dtype=None):
        super().__init__(name=name or self.measure.__name__, dtype=dtype)
        self.transform = transforms.get(transform)
        self.size = size_for(self.transform, size)

    def measure(self, theta, transform, size):
        """`theta` → `(batch,)`."""
        raise NotImplementedError

    def update_state(self, y_true, theta, sample_weight=None):
        """Adds the images of a batch; `y_true` is ignored."""
        super().update_state(self.measure(theta, self.transform, self.size), sample_weight)

    def get_config(self):
        return {
            **super().get_config(),
            "transform": keras.saving.serialize_keras_object(self.transform),
            "size": self.size,
        }


@keras.saving.register_keras_serializable("stn_keras")
class IdentityDistance(ThetaMetric):
    """Mean of `identity_distance` over the images.

    Example:

    >>> pixels = keras.Input((32, 32, 3))
    >>> theta = stn_keras.localization.cnn()(pixels)
    >>> warped = stn_keras.SpatialTransformer()([pixels, theta])
    >>> logits = keras.layers.Dense(10)(keras.layers.Flatten()(warped))
    >>> model = keras.Model(pixels, {"logits": logits, "theta": theta})
    >>> model.compile(
    ...     loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    ...     metrics={"theta": [IdentityDistance("affine"), OutsideShare("affine")]},
    ... )
    >>> truth = {"logits": labels, "theta": np.zeros(len(labels))}  # the metric ignores them
    >>> history = model.fit(images, truth, verbose=0)
    >>> history.history["theta_identity_distance"]  # before its only step
    [0.0]

    Args:
        transform: What `theta` means: a name or an instance of `stn_keras.transforms`.
        size: As in `identity_distance`.
        name: Name of the metric in the history; by default the name of the function.
        dtype: Dtype of the sums.
    """

    measure = staticmethod(identity_distance)


@keras.saving.register_keras_serializable("stn_keras")
class OutsideShare(ThetaMetric):
    """Mean of `outside_share` over the images; see `IdentityDistance` for its use in a model.

    Example:

    >>> metric = OutsideShare("translation")
    >>> metric.update_state(None, np.array([[0.0, 0.0], [1.0, 0.0]]))
    >>> float(metric.result())
    0.25

    Args:
        transform: As in `IdentityDistance`.
        size: As in `identity_distance`.
        name: As in `IdentityDistance`.
        dtype: Dtype of the sums.
    """

    measure = staticmethod(outside_share)


@keras.saving.register_keras_serializable("stn_keras")
class NonfiniteShare(keras.metrics.Mean):
    """Mean of `nonfinite_share` over the images; see `IdentityDistance` for its use in a model.

    Example:

    >>> metric = NonfiniteShare()
    >>> metric.update_state(None, np.array([[0.0, np.inf], [1.0, 0.0]]))
    >>> float(metric.result())
    0.25

    Args:
        name: Name of the metric in the history.
        dtype: Dtype of the sums.
    """

    def __init__(self, name="nonfinite_share", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, theta, sample_weight=None):
        """Adds the images of a batch; `y_true` is ignored."""
        super().update_state(nonfinite_share(theta), sample_weight)
