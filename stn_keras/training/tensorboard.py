"""What a training shows on TensorBoard beyond what Keras's own callback writes.

Keras's `TensorBoard` writes loss, metrics, learning rate and the graph of layers into `train` and
`validation` under its `log_dir`. Given the same folder, what is here adds a run `transformer`
(what the spatial transformers do to fixed images) and, in the folder itself, the settings and the
graph of operations, which Keras 3 leaves out.
"""

import contextlib
import os

import keras
import numpy as np

from stn_keras import plots
from stn_keras.observe import decompose, figures, observe

__all__ = ["TransformerSummary", "write_graph", "write_settings"]


class TransformerSummary(keras.callbacks.Callback):
    """Writes to TensorBoard what a model's spatial transformers do to a few fixed images.

    Before training and after every epoch, for each `SpatialTransformer` that
    `observe.transformers` finds in the model: mean and standard deviation over the images of all
    that `decompose` returns, of "outside", the share of samples (0 … 1) that fall outside the
    image, and of "nonfinite", the share of parameters that are NaN or infinite. Before training,
    every few epochs and when training ends: a figure of the first eight images.

    Tags are `{name}/{quantity}_mean`, `{name}/{quantity}_std` and `{name}/warps`; their step is the
    number of epochs done. Transforms that aren't matrices have "outside", "nonfinite" and the
    figure only. A model without a `SpatialTransformer` writes nothing.

    Works on every backend of Keras; TensorFlow writes the files.

    Args:
        log_dir: folder of the run's TensorBoard logs; the events go to its folder `transformer`.
        images: what the model is called on, see `observe.draw`.
        figure_freq: epochs between figures; 0 for none.

    Example:
        >>> summary = TransformerSummary("logs", images)
        >>> history = model.fit(images, labels, callbacks=[summary], verbose=0)
    """

    def __init__(self, log_dir, images, figure_freq=5):
        super().__init__()
        self.log_dir = os.path.join(log_dir, "transformer")
        self.images = images
        self.figure_freq = figure_freq

    def on_train_begin(self, logs=None):
        self._epoch = self._drawn = self._writer = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._epoch is None:  # Here and not in `on_train_begin`, which isn't told the epoch.
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
        tf = _tensorflow()
        self._writer = self._writer or tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(step=epoch):
            for name, sight in seen.items() if scalars else ():
                write_scalars(name, sight)
            for name, figure in figures(seen, self.images).items() if draw else ():
                tf.summary.image(f"{name}/warps", plots.pixels(figure)[np.newaxis])
        self._writer.flush()


def write_scalars(name, sight):
    tf = _tensorflow()
    quantities = {} if sight.matrix is None else decompose(sight.matrix)
    quantities |= {"outside": sight.outside, "nonfinite": sight.nonfinite}
    for quantity, values in quantities.items():
        with np.errstate(invalid="ignore"):  # of infinite ones the deviation is NaN
            mean, deviation = values.mean(), values.std()
        tf.summary.scalar(f"{name}/{quantity}_mean", mean)
        tf.summary.scalar(f"{name}/{quantity}_std", deviation)


def _tensorflow():
    """TensorFlow, to write files with; it leaves the GPU to another backend."""
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # the program uses TensorFlow, too
            tf.config.set_visible_devices([], "GPU")
    return tf


def write_settings(log_dir, settings):
    """Write a run's settings to TensorBoard: a table under Text and a row under HParams.

    HParams lists with them the last value of every scalar in `log_dir` and the folders in it, so
    the row has the metrics that Keras's `TensorBoard(log_dir)` writes, too.

    Args:
        log_dir: the `log_dir` of Keras's `TensorBoard` callback.
        settings: dict from names to values; all but numbers and booleans are written as strings.

    Example:
        >>> write_settings("logs/seed0", {"batch_size": 128, "peak": 0.03})
    """
    from tensorboard.plugins.hparams import api as hparams

    tf = _tensorflow()
    rows = [f"| {name} | {value} |" for name, value in settings.items()]
    with tf.summary.create_file_writer(str(log_dir)).as_default(step=0):
        tf.summary.text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]))
        hparams.hparams(
            {
                name: value if isinstance(value, (bool, int, float)) else str(value)
                for name, value in settings.items()
            }
        )


def write_graph(log_dir, model):
    """Write the graph of operations of `model`'s forward pass to TensorBoard.

    Keras 3's `TensorBoard(write_graph=True)` writes the graph of layers only (the tag `keras`).

    Example:
        >>> write_graph("logs/seed0", model)

    Args:
        log_dir: the `log_dir` of Keras's `TensorBoard` callback.
        model: a functional or sequential model.

    Raises:
        NotImplementedError: if Keras's backend is not TensorFlow.
        ValueError: if the model is a subclassed one.
    """
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            "The graph of operations is TensorFlow's. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a functional or sequential model. Received: {model!r}")
    tf = _tensorflow()
    signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    forward = tf.function(lambda inputs: model(inputs, training=False))
    graph = forward.get_concrete_function(signature[0] if len(signature) == 1 else signature).graph
    with tf.summary.create_file_writer(str(log_dir)).as_default():
        tf.summary.graph(graph)
