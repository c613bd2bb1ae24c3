"""Where a displacement folds."""

import keras
from keras import ops

from stn_keras.checks.images import as_data_format
from stn_keras.geometry.displacements import jacobian_determinant
from stn_keras.sampler.axes import mean_over_points


@keras.saving.register_keras_serializable("stn_keras")
class FoldedShare(keras.metrics.Mean):
    """Share of pixels where a displacement folds, that is, its Jacobian determinant is not above 0.

    Example:

    >>> x = np.arange(4.0)[None, None, :, None] * [-2.0, 0.0]  # mirrors
    >>> metric = FoldedShare()
    >>> metric.update_state(None, x + np.zeros((1, 3, 1, 1)))
    >>> float(metric.result())
    1.0

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        name: Name of the metric in the history.
        dtype: Dtype of the sums.
    """

    def __init__(self, data_format=None, name="folded_share", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.data_format = as_data_format(data_format)

    def update_state(self, y_true, displacement, sample_weight=None):
        """Adds the displacements of a batch, in pixels; `y_true` is ignored."""
        determinants = jacobian_determinant(displacement, data_format=self.data_format)
        folded = ops.cast(ops.logical_not(determinants > 0), determinants.dtype)
        super().update_state(mean_over_points(folded), sample_weight)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
