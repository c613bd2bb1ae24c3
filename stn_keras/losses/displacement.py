"""How smooth a displacement is."""

import itertools

import keras
from keras import ops

from stn_keras.checks.fields import check_field
from stn_keras.checks.images import check_option, to_channels_last
from stn_keras.losses.base import ImageLoss, between
from stn_keras.sampler.axes import mean_over_points

register = keras.saving.register_keras_serializable("stn_keras")


class FieldLoss(ImageLoss):
    """A loss of a displacement; it ignores `y_true`."""

    def field(self, y_pred):
        """The predicted displacement, its vectors in the last axis."""
        check_field(tuple(y_pred.shape), "y_pred", self.data_format)
        return to_channels_last(y_pred, self.data_format)


@register
class DisplacementGradient(FieldLoss):
    """The mean slope of a displacement: how far neighbouring vectors differ.

    It is the mean of `|d|` (`"l1"`) or `d²` (`"l2"`) over all differences `d` between neighbours
    along an axis, averaged over the axes, like the loss `Grad` of
    [VoxelMorph](https://doi.org/10.1109/TMI.2019.2897538).

    Example:

    >>> x = np.arange(4.0)[None, None, :, None] * [2.0, 0.0]  # 2 more per pixel, in x along x
    >>> loss = DisplacementGradient("l2")
    >>> float(loss(np.zeros(1), x + np.zeros((1, 3, 1, 1))))  # 4, 0, 0 and 0
    1.0

    Args:
        norm: `"l1"`, which permits jumps, or `"l2"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        reduction: As in Keras's losses.
        name: Name of the loss.
        dtype: Dtype of the computation; float32 by default, under every dtype policy.

    Call arguments:
        y_true: Ignored.
        y_pred: Displacement `(batch, height, width, 2)` or `(batch, depth, height, width, 3)`.

    Raises:
        ValueError: if `norm` is unknown, or the displacement has a wrong rank or shape.
    """

    def __init__(
        self,
        norm: str = "l2",
        *,
        data_format: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "displacement_gradient",
        dtype=None,
    ):
        super().__init__(data_format, reduction, name, dtype)
        check_option("norm", norm, ("l1", "l2"))
        self.norm = norm

    def call(self, y_true, y_pred):
        field = self.field(y_pred)
        axes, total = field.shape[-1], 0 * mean_over_points(field)
        for axis in range(1, axes + 1):
            if field.shape[axis] != 1:
                step = between(field, axis, 1, None) - between(field, axis, None, -1)
                total = total + mean_over_points(ops.abs(step) if self.norm == "l1" else step**2)
        return total / axes

    def get_config(self):
        return {**super().get_config(), "norm": self.norm}


@register
class BendingEnergy(FieldLoss):
    """The mean curvature of a displacement, which is 0 for affine ones.

    It is the sum of the squares of all second derivatives, with mixed ones counted twice, averaged
    over the components and over the pixels that have neighbours on all sides
    ([Rueckert et al., 1999](https://doi.org/10.1109/42.796284), equation 4).

    Example:

    >>> x = np.arange(4.0)[None, None, :, None] ** 2 * [1.0, 0.0]  # a second derivative of 2
    >>> loss = BendingEnergy()
    >>> float(loss(np.zeros(1), x + np.zeros((1, 3, 1, 1))))  # 4 in x, 0 in y
    2.0

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        reduction: As in Keras's losses.
        name: Name of the loss.
        dtype: Dtype of the computation; float32 by default, under every dtype policy.

    Call arguments:
        y_true: Ignored.
        y_pred: Displacement `(batch, height, width, 2)` or `(batch, depth, height, width, 3)`, in
            pixels, with sides of at least three pixels.

    Raises:
        ValueError: if the displacement has a wrong rank or shape.
    """

    def __init__(
        self,
        *,
        data_format: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "bending_energy",
        dtype=None,
    ):
        super().__init__(data_format, reduction, name, dtype)

    def call(self, y_true, y_pred):
        field = self.field(y_pred)
        axes = field.shape[-1]
        if any(length is not None and length < 3 for length in field.shape[1:-1]):
            raise ValueError(
                "`y_pred` must have sides of at least three pixels. "
                f"Received: y_pred.shape={tuple(y_pred.shape)}"
            )

        def at(steps):  # the pixels with neighbours, moved by steps along some axes
            steps = [steps.get(axis, 0) for axis in range(axes)]
            return field[(slice(None), *(slice(1 + step, (step - 1) or None) for step in steps))]

        energy = sum((at({i: 1}) - 2 * at({}) + at({i: -1})) ** 2 for i in range(axes))
        for i, j in itertools.combinations(range(axes), 2):
            same = at({i: 1, j: 1}) + at({i: -1, j: -1})
            opposite = at({i: 1, j: -1}) + at({i: -1, j: 1})
            energy = energy + 2 * ((same - opposite) / 4) ** 2
        return mean_over_points(energy)
