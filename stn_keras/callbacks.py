"""Callbacks for `model.fit`, on every backend.

Their arguments have the names and meanings of the arguments of Keras's own callbacks.
"""

import math
import re
import statistics
import time

import keras

from stn_keras.observe import decompose, draw, observe
from stn_keras.system.files import replacing
from stn_keras.training.tensorboard import MetricsSummary, write_graph, write_settings
from stn_keras.training.transformer_summary import TransformerSummary

__all__ = [
    "Checkpoint",
    "Evaluation",
    "MetricsSummary",
    "ProgressBar",
    "TerminateOnNaNTheta",
    "Throughput",
    "TransformerSummary",
    "decompose",
    "draw",
    "literal",
    "write_graph",
    "write_settings",
]


class TerminateOnNaNTheta(keras.callbacks.Callback):
    """Stops training when a spatial transformer's parameters are NaN or infinite.

    Keras's `TerminateOnNaN` does not notice this: such a transformer returns `fill_value`
    everywhere, so the loss is finite, but it cannot recover. After every epoch this callback runs
    the model once on a few fixed images. If it stops training, it prints the transformer's name.

    Args:
        images: What the model is called on; a few images are enough.
        raise_error: Whether to raise a `RuntimeError`, which leaves `fit` at once. By default
            training ends normally after the epoch.

    Raises:
        RuntimeError: if `raise_error` is true and a parameter is NaN or infinite.

    Example:
        >>> guard = TerminateOnNaNTheta(images[:4])
        >>> history = model.fit(images, labels, callbacks=[guard], verbose=0)
    """

    def __init__(self, images, raise_error=False):
        super().__init__()
        self.images, self.raise_error = images, raise_error

    def on_epoch_end(self, epoch, logs=None):
        seen = observe(self.model, self.images)
        dead = [name for name, found in seen.items() if found.nonfinite.any()]
        if not dead:
            return
        message = (
            f"Epoch {epoch + 1}: training stops, since theta of the spatial transformer "
            f"{dead[0]!r} is NaN or infinite; lower the learning rate, or its `gradient_scale`"
        )
        if self.raise_error:
            raise RuntimeError(message)
        print(message, flush=True)
        self.model.stop_training = True


class Throughput(keras.callbacks.Callback):
    """Adds "images_per_second" and "learning_rate" to the logs of every epoch.

    Place it before the callbacks that should see these logs, such as `CSVLogger`. The speed is that
    of training: the clock stops when validation starts. In the first epoch it includes compilation.
    The learning rate is the mean over about 20 of the epoch's steps, or all if there are fewer.

    Args:
        images_per_epoch: Number of images an epoch trains on.

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
        self._rates: list[float] = []
        self._every = max(1, ((self.params or {}).get("steps") or 0) // 20)

    def on_train_batch_begin(self, batch, logs=None):
        if batch % self._every == 0:
            self._rates.append(self._learning_rate())

    def on_test_begin(self, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        seconds = (self._stop or time.perf_counter()) - self._start
        logs["images_per_second"] = self.images_per_epoch / seconds
        logs["learning_rate"] = statistics.fmean(self._rates or [self._learning_rate()])

    def _learning_rate(self):
        return float(keras.ops.cast(self.model.optimizer.learning_rate, "float32"))


class Evaluation(keras.callbacks.Callback):
    """Adds the metrics on another data set to the logs of every epoch.

    Place it before the callbacks that should see these logs.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)` or a data set, as Keras's `validation_data`.
        prefix: Prefix of the names: `"test"` gives `"test_loss"`, `"test_accuracy"` and so on.

    Example:
        >>> test = Evaluation((images, labels), "test")
        >>> history = model.fit(images, labels, callbacks=[test], verbose=0)
        >>> "test_accuracy" in history.history
        True
    """

    def __init__(self, data, prefix):
        super().__init__()
        self.data, self.prefix = data, prefix

    def on_epoch_end(self, epoch, logs):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(self.data)
        metrics = self.model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        logs.update({f"{self.prefix}_{name}": value for name, value in metrics.items()})


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Keras's progress bar without the estimate of the remaining time after the first step.

    The first step includes compilation: it takes seconds, whereas the others take milliseconds.

    Example:
        >>> history = model.fit(images, labels, callbacks=[ProgressBar()], verbose=0)
    """

    def on_train_batch_end(self, batch, logs=None):
        # `interval` is the time that must pass before the bar is drawn again.
        self.progbar.interval = math.inf if batch == 0 else 0.05
        super().on_train_batch_end(batch, logs)


class Checkpoint(keras.callbacks.ModelCheckpoint):
    """Saves the model atomically after every epoch, or after every epoch that is the best so far.

    Keras's `ModelCheckpoint` writes directly to the final path, where a kill leaves a damaged file.
    The arguments are its own, except that giving a `monitor` implies `save_best_only`.

    Args:
        filepath: Path of a `.keras` file. `{epoch}` and names of logs in braces are replaced by
            their values; other braces stay. `literal` keeps all of them.
        monitor: Name of the log that determines the best epoch. `None` means `"val_loss"` if
            `save_best_only` is true.
        save_best_only: Whether to save only epochs that are better than all before. The default is
            true if `monitor` is given.
        mode: `"max"` if greater is better, `"min"` if less is better, or `"auto"` to infer it from
            the metric.
        initial_value_threshold: Value that the first saved epoch must surpass: the best so far,
            when training is resumed.

    Raises:
        ValueError: during training, if `mode="auto"` can't infer which values are better.
        KeyError: during training, if the logs do not contain `monitor`.

    Example:
        >>> checkpoint = Checkpoint("best.keras", monitor="accuracy")
        >>> history = model.fit(images, labels, callbacks=[checkpoint], verbose=0)
        >>> best = keras.models.load_model("best.keras")
    """

    async_safe = True  # nothing is done after a batch
    best: float | None

    def __init__(
        self,
        filepath,
        monitor=None,
        *,
        save_best_only=None,
        mode="auto",
        initial_value_threshold=None,
    ):
        super().__init__(
            filepath,
            "val_loss" if monitor is None else monitor,
            save_best_only=monitor is not None if save_best_only is None else save_best_only,
            mode=mode,
            initial_value_threshold=initial_value_threshold,
        )

        # Keras's own judge of what is better; it never stops.
        self.judge = keras.callbacks.EarlyStopping(self.monitor, patience=math.inf, mode=mode)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.save_best_only and not self._improves(epoch, logs):
            return
        with replacing(_fill(self.filepath, {**logs, "epoch": epoch + 1})) as path:
            self.model.save(path)

    def _improves(self, epoch, logs):
        if self.monitor not in logs:
            raise KeyError(f"monitor={self.monitor!r} is not among the logs {sorted(logs)}")
        if math.isnan(logs[self.monitor]):
            return False
        before = self.judge.best = self.best
        self.judge.set_model(self.model)
        self.judge.on_epoch_end(epoch, logs)
        self.best = self.judge.best
        return self.best != before


def literal(path):
    """A path for `Checkpoint` in which nothing in braces is replaced.

    Example:
        >>> literal("run{epoch}/best.keras")
        'run{{epoch}}/best.keras'

    Args:
        path: A path, as a string or a `pathlib.Path`.

    Returns:
        The path as a string, its braces doubled.
    """
    return str(path).replace("{", "{{").replace("}", "}}")


def _fill(path, values):
    """The path with `{name}` and `{name:format}` replaced where there is such a value."""

    def fill(match):
        if match[0] in ("{{", "}}"):
            return match[0][0]
        return match[0].format(**values) if match[1] in values else match[0]

    return re.sub(r"{{|}}|{([^{}:!]+)[^{}]*}", fill, str(path))
