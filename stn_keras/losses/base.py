"""What the losses of images and of displacements share."""

import keras

from stn_keras.checks.images import as_data_format


class ImageLoss(keras.losses.Loss):
    """A loss of tensors in one data format."""

    def __init__(self, data_format, reduction, name, dtype):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.data_format = as_data_format(data_format)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


def between(values, axis, start, stop):
    """A part of the pixels along an axis."""
    return values[(slice(None),) * axis + (slice(start, stop),)]
