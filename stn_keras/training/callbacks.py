"""Callbacks of `model.fit`, and what else TensorBoard shows of a training.

`MetricsSummary` writes loss and metrics into the runs `train`, `validation` and `test` under its
`log_dir`. Given the same folder, `TransformerSummary` adds a run `transformer` (what the spatial
transformers do to fixed images), and `write_settings` and `write_graph` write settings and graph
into the folder itself.
"""

import math
import os
import time

import keras
import numpy as np
import tensorflow as tf

from stn_keras import plots
from stn_keras.observe import as_arrays, decompose, draw, draw_warps, observer, transformers
from stn_keras.training.files import replacing
from stn_keras.training.tensorboard import MetricsSummary, write_graph, write_settings

__all__ = [
    "Checkpoint",
    "Evaluation",
    "MetricsSummary",
    "ProgressBar",
    "Throughput",
    "TransformerSummary",
    "decompose",
    "draw",
    "write_graph",
    "write_settings",
]


class TransformerSummary(keras.callbacks.Callback):
    """Writes to TensorBoard what a model's spatial transformers do to a few fixed images.

    Before training and after every epoch, for each `SpatialTransformer` among the layers of a
    functional or sequential model: mean and standard deviation over the images of all that
    `decompose` returns and of "outside", the share of samples (0 … 1) that fall outside the image.
    Before training, every few epochs and when training ends: a figure of the first eight images.

    Tags are `{layer name}/{quantity}_mean`, `{layer name}/{quantity}_std` and
    `{layer name}/warps`; their step is the number of epochs done. Transforms that aren't matrices
    have "outside" and the figure only. A model without a `SpatialTransformer` writes nothing.

    Args:
        log_dir: folder of the run's TensorBoard logs; the events go to its folder `transformer`.
        images: array that the model can be called on, (batch, height, width, channels).
        every: epochs between figures.

    Example:
        >>> summary = TransformerSummary("logs", images)
        >>> history = model.fit(images, labels, callbacks=[summary], verbose=0)
    """

    def __init__(self, log_dir, images, *, every=5):
        super().__init__()
        self.log_dir = os.path.join(log_dir, "transformer")
        self.images = images
        self.every = every

    def on_train_begin(self, logs=None):
        self._layers = transformers(self.model)
        self._epoch = self._drawn = None
        if self._layers:
            self._observe = observer(self.model, self._layers)
            self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_begin(self, epoch, logs=None):
        if self._epoch is None:  # Here and not in `on_train_begin`, which isn't told the epoch.
            self._write(epoch, draw=True)

    def on_epoch_end(self, epoch, logs=None):
        self._write(epoch + 1, draw=(epoch + 1) % self.every == 0)

    def on_train_end(self, logs=None):
        if self._epoch != self._drawn:
            self._write(self._epoch, draw=True, scalars=False)
        if self._layers:
            self._writer.close()

    def _write(self, epoch, *, draw, scalars=True):
        self._epoch, self._drawn = epoch, epoch if draw else self._drawn
        if not self._layers:
            return
        observed = as_arrays(self._observe(self.images))
        with self._writer.as_default(step=epoch):
            for layer in self._layers:
                seen = observed[layer.name]
                if scalars:
                    write_scalars(layer.name, seen)
                if draw:
                    figure = draw_warps(layer, seen)
                    tf.summary.image(f"{layer.name}/warps", plots.pixels(figure)[np.newaxis])
        self._writer.flush()


class Throughput(keras.callbacks.Callback):
    """Puts "images_per_second" and "learning_rate" into the logs of every epoch.

    Put it before the callbacks that should see them: `CSVLogger`, `TensorBoard`. The history and
    the progress bar come last and always do.

    Speed is that of training: the clock stops when validation starts. The first epoch's includes
    tracing and compiling. The learning rate of an epoch is the mean of the rate at its beginning
    and the rate at its end.

    Args:
        images_per_epoch: how many images an epoch trains on.

    Example:
        >>> log = [Throughput(len(images)), keras.callbacks.CSVLogger("history.csv")]
        >>> history = model.fit(images, labels, callbacks=log, verbose=0)
        >>> history.history["images_per_second"][0] > 0
        True
    """

    def __init__(self, images_per_epoch):
        super().__init__()
        self.images_per_epoch = images_per_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._start, self._stop = time.perf_counter(), None
        self._rate = self._learning_rate()

    def on_test_begin(self, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        seconds = (self._stop or time.perf_counter()) - self._start
        logs["images_per_second"] = self.images_per_epoch / seconds
        logs["learning_rate"] = (self._rate + self._learning_rate()) / 2

    def _learning_rate(self):
        return float(keras.ops.cast(self.model.optimizer.learning_rate, "float32"))


class Evaluation(keras.callbacks.Callback):
    """Puts the metrics on a further data set into the logs of every epoch, for the report alone.

    Put it before the callbacks that should see them.

    Args:
        data: what `model.evaluate` takes.
        prefix: `"test"` gives `"test_loss"`, `"test_accuracy"` and so on.

    Example:
        >>> test = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        >>> history = model.fit(images, labels, callbacks=[Evaluation(test, "test")], verbose=0)
        >>> "test_accuracy" in history.history
        True
    """

    def __init__(self, data, prefix):
        super().__init__()
        self.data, self.prefix = data, prefix

    def on_epoch_end(self, epoch, logs):
        metrics = self.model.evaluate(self.data, verbose=0, return_dict=True)
        logs.update({f"{self.prefix}_{name}": value for name, value in metrics.items()})


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Keras's progress bar without the first step's estimate of the time left.

    The first step compiles the network: it takes seconds, where the others take milliseconds.

    Example:
        >>> history = model.fit(images, labels, callbacks=[ProgressBar()], verbose=0)
    """

    def on_train_batch_end(self, batch, logs=None):
        # `interval` is the time that must pass before the bar is drawn again.
        self.progbar.interval = math.inf if batch == 0 else 0.05
        super().on_train_batch_end(batch, logs)


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole model after every epoch, or after the best ones, never half of it.

    Keras's `ModelCheckpoint` writes straight to the final name: a kill or a full disk leaves a
    broken file there. This one renames a complete file into place.

    Args:
        path: a `.keras` file.
        monitor: metric, the greater the better, that must rise for the model to be saved.
        best: value that it must exceed, where training goes on: the best so far.

    Example:
        >>> checkpoint = Checkpoint("best.keras", monitor="accuracy")
        >>> history = model.fit(images, labels, callbacks=[checkpoint], verbose=0)
        >>> best = keras.models.load_model("best.keras")
    """

    def __init__(self, path, monitor=None, best=float("-inf")):
        super().__init__()
        self.path, self.monitor, self.best = path, monitor, best

    def on_epoch_end(self, epoch, logs):
        if self.monitor:
            if not logs[self.monitor] > self.best:  # Also where it is NaN.
                return
            self.best = logs[self.monitor]
        with replacing(self.path) as path:
            self.model.save(path)


def write_scalars(name, seen):
    quantities = decompose(seen["theta"]) if "theta" in seen else {}
    quantities["outside"] = seen["outside"]
    for quantity, values in quantities.items():
        tf.summary.scalar(f"{name}/{quantity}_mean", values.mean())
        tf.summary.scalar(f"{name}/{quantity}_std", values.std())
