"""What a model's spatial transformers do to images, on TensorBoard."""

import os

import keras
import numpy as np

from stn_keras import plots
from stn_keras.observe import decompose, figures, first_batch, observe
from stn_keras.training.tensorboard import tensorflow

__all__ = ["TransformerSummary"]


class TransformerSummary(keras.callbacks.Callback):
    """Writes to TensorBoard what a model's spatial transformers do to a few fixed images.

    It handles each `SpatialTransformer` that `observe.transformers` finds in the model. Before
    training and after every epoch it writes the mean and standard deviation, over the images, of
    every quantity that `decompose` returns; of "outside", the share of samples outside the image;
    and of "nonfinite", the share of parameters that are NaN or infinite. It also writes how far the
    warps differ from image to image, and their mean from the identity, in pixels at the corners
    (`metrics.warp_spread`). Before training, every few epochs and at the end of training it writes
    a figure of the first eight images.

    The tags are `{name}/{quantity}_mean`, `{name}/{quantity}_std`, `{name}/warp_spread`,
    `{name}/warp_shift` and `{name}/warps`; their step is the number of completed epochs. Transforms
    that are not matrices lack the quantities of `decompose`. Nothing is written for a model without
    a `SpatialTransformer`.

    The callback works on every Keras backend; TensorFlow writes the files.

    Args:
        log_dir: Folder of the run's TensorBoard logs. The events are written to its subfolder
            `transformer`.
        images: What the model is called on, or a dataset of it, see `observe.draw`.
        figure_freq: Number of epochs between figures; 0 for no figures.

    Example:
        >>> summary = TransformerSummary("logs", images)
        >>> history = model.fit(images, labels, callbacks=[summary], verbose=0)
    """

    def __init__(self, log_dir, images, figure_freq=5):
        super().__init__()
        self.log_dir = os.path.join(log_dir, "transformer")
        self.images = first_batch(images)
        self.figure_freq = figure_freq

    def on_train_begin(self, logs=None):
        self._epoch = self._drawn = self._writer = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._epoch is None:  # `on_train_begin` does not receive the epoch.
            self._write(epoch, draw=self.figure_freq > 0)

    def on_epoch_end(self, epoch, logs=None):
        due = self.figure_freq > 0 and (epoch + 1) % self.figure_freq == 0
        self._write(epoch + 1, draw=due)

    def on_train_end(self, logs=None):
        if self.figure_freq > 0 and self._epoch != self._drawn:
            self._write(self._epoch, draw=True, scalars=False)
        if self._writer:
            self._writer.close()

    def _write(self, epoch, *, draw, scalars=True):
        self._epoch, self._drawn = epoch, epoch if draw else self._drawn
        seen = observe(self.model, self.images)
        if not seen:
            return
        tf = tensorflow()
        self._writer = self._writer or tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(step=epoch):
            for name, observation in seen.items() if scalars else ():
                write_scalars(name, observation)
            for name, figure in figures(seen, self.images).items() if draw else ():
                tf.summary.image(f"{name}/warps", plots.pixels(figure)[np.newaxis])
        self._writer.flush()


def write_scalars(name, observation):
    tf = tensorflow()
    quantities = {} if observation.matrix is None else decompose(observation.matrix)
    quantities |= {"outside": observation.outside, "nonfinite": observation.nonfinite}
    for quantity, values in quantities.items():
        with np.errstate(invalid="ignore"):  # the deviation of infinite values is NaN
            mean, deviation = values.mean(), values.std()
        tf.summary.scalar(f"{name}/{quantity}_mean", mean)
        tf.summary.scalar(f"{name}/{quantity}_std", deviation)
    spread, shift = observation.spread
    tf.summary.scalar(f"{name}/warp_spread", spread)
    tf.summary.scalar(f"{name}/warp_shift", shift)
