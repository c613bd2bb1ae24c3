"""Losses of registration: how smooth a displacement is, and how alike two images are.

They are Keras losses, for `compile(loss=...)`, with values per image and Keras's `reduction`. Those
of a displacement ignore `y_true`: any array of the batch size does as its target.
"""

import itertools

import keras
from keras import ops

from stn_keras.checks.arguments import as_count
from stn_keras.checks.images import (
    as_data_format,
    check_images,
    check_option,
    to_channels_last,
)
from stn_keras.correlation import between, squared_correlation
from stn_keras.geometry.displacements import check_field
from stn_keras.sampler.axes import mean_over_points

__all__ = ["BendingEnergy", "DisplacementGradient", "LocalCrossCorrelation"]

register = keras.saving.register_keras_serializable("stn_keras")


class FieldLoss(keras.losses.Loss):
    """A loss of tensors in one data format."""

    def __init__(self, data_format, reduction, name, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.data_format = as_data_format(data_format)

    def field(self, y_pred):
        """The predicted displacement, its vectors in the last axis."""
        check_field(tuple(y_pred.shape), "y_pred", self.data_format)
        return to_channels_last(y_pred, self.data_format)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


@register
class DisplacementGradient(FieldLoss):
    """The mean slope of a displacement: how far neighbouring vectors differ.

    The mean of `|d|` (`"l1"`) or `d²` (`"l2"`) over all differences `d` between neighbours along an
    axis, averaged over the axes, as the loss `Grad` of
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

    The sum of the squares of all second derivatives, mixed ones twice, averaged over the components
    and over the pixels that have neighbours on all sides, as in
    [Rueckert et al., 1999](https://doi.org/10.1109/42.796284), equation 4.

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
            moved = field
            for axis in range(axes):
                step = steps.get(axis, 0)
                moved = between(moved, axis + 1, 1 + step, (step - 1) or None)
            return moved

        energy = sum((at({i: 1}) - 2 * at({}) + at({i: -1})) ** 2 for i in range(axes))
        for i, j in itertools.combinations(range(axes), 2):
            same = at({i: 1, j: 1}) + at({i: -1, j: -1})
            opposite = at({i: 1, j: -1}) + at({i: -1, j: 1})
            energy = energy + 2 * ((same - opposite) / 4) ** 2
        return mean_over_points(energy)


@register
class LocalCrossCorrelation(FieldLoss):
    """How unlike two images are: minus the mean of the squared correlation in small windows.

    The loss of [VoxelMorph](https://doi.org/10.1109/TMI.2019.2897538), for images of the same kind
    whose brightness or contrast differ. Around every pixel the squared correlation of both images
    within a window is taken, 0 to 1; at the edges, of the part of the window inside the image. A
    window counts as flat, with a correlation of 0, where its standard deviations are less than
    about 0.3 % of the images' root mean squares.

    Example:

    >>> fixed = np.random.rand(1, 32, 32, 1)
    >>> loss = LocalCrossCorrelation()
    >>> float(loss(fixed, 1 - fixed / 2)) == pytest.approx(-1, abs=1e-4)
    True

    Args:
        window: Side of the window in pixels, odd.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.
        reduction: As in Keras's losses.
        name: Name of the loss.
        dtype: Dtype of the computation; float32 by default, under every dtype policy.

    Call arguments:
        y_true: Images `(batch, height, width, channels)` or volumes `(batch, depth, height, width,
            channels)`.
        y_pred: Warped images of that shape.

    Raises:
        ValueError: if `window` is not a positive odd integer, or images have a wrong rank or shape.
    """

    def __init__(
        self,
        window: int = 9,
        *,
        data_format: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "local_cross_correlation",
        dtype=None,
    ):
        super().__init__(data_format, reduction, name, dtype)
        self.window = as_count(window, "window")
        if self.window % 2 == 0:
            raise ValueError(f"`window` must be odd. Received: window={window!r}")

    def call(self, y_true, y_pred):
        for name, images in {"y_true": y_true, "y_pred": y_pred}.items():
            check_images(tuple(images.shape), (0.0,), self.data_format, name=name)
        batch = {y_true.shape[0], y_pred.shape[0]} - {None}
        if len(batch) > 1 or tuple(y_true.shape[1:]) != tuple(y_pred.shape[1:]):
            raise ValueError(
                "`y_true` and `y_pred` must have the same shape. Received: "
                f"y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        if 0 in tuple(y_true.shape[1:]):
            raise ValueError(
                "`y_true` and `y_pred` must have at least one channel. "
                f"Received: y_true.shape={tuple(y_true.shape)}"
            )
        y_true, y_pred = (to_channels_last(x, self.data_format) for x in (y_true, y_pred))
        return -mean_over_points(squared_correlation(y_true, y_pred, self.window))

    def get_config(self):
        return {**super().get_config(), "window": self.window}
