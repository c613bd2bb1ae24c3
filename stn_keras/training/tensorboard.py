"""Curves, settings with results, and the graph of a training, for TensorBoard."""

import contextlib
import os

import keras

__all__ = ["MetricsSummary", "write_graph", "write_settings"]

# Runs below the log directory by prefix of the metrics in the logs of an epoch.
RUNS = {"val": "validation", "test": "test"}


class MetricsSummary(keras.callbacks.Callback):
    """Writes the logs of every epoch, and of some batches within it, to TensorBoard.

    It differs from Keras's `TensorBoard` callback in three ways. The step of `epoch_loss` and
    similar tags is the number of completed epochs, as for `TransformerSummary`. The metrics of
    `Evaluation` are a separate run, `test`, like `train` and `validation`, so one chart shows all
    three. No value is written twice.

    Args:
        log_dir: Folder of the run's TensorBoard logs.
        update_freq: Number of batches between two values of `batch_loss` and similar tags. Their
            step is the optimizer's; the first batch gives the first value.

    Example:
        >>> summary = MetricsSummary("logs", update_freq=20)
        >>> history = model.fit(images, labels, callbacks=[summary], verbose=0)
    """

    def __init__(self, log_dir, *, update_freq=20):
        super().__init__()
        self.log_dir = log_dir
        self.update_freq = update_freq
        self._writers = {}

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.update_freq == 0:
            step = int(keras.ops.cast(self.model.optimizer.iterations, "int32"))
            self._write("train", {f"batch_{name}": value for name, value in logs.items()}, step)

    def on_epoch_end(self, epoch, logs=None):
        by_run: dict[str, dict] = {}
        for name, value in logs.items():
            prefix, _, rest = name.partition("_")
            run, metric = (RUNS[prefix], rest) if prefix in RUNS else ("train", name)
            by_run.setdefault(run, {})[f"epoch_{metric}"] = value
        for run, scalars in by_run.items():
            self._write(run, scalars, epoch + 1)

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, run, scalars, step):
        tf = tensorflow()
        if run not in self._writers:
            path = os.path.join(self.log_dir, run)
            self._writers[run] = tf.summary.create_file_writer(path)
        with self._writers[run].as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        self._writers[run].flush()


def tensorflow():
    """TensorFlow, for writing files; it leaves the GPU to another backend."""
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # the program uses TensorFlow too
            tf.config.set_visible_devices([], "GPU")
    return tf


def write_settings(log_dir, settings, *, columns=None):
    """Writes a run's settings to TensorBoard: a table under Text and a row under HParams.

    The row has the name of the folder and shows the latest accuracies and losses written by
    `MetricsSummary`.

    Args:
        log_dir: The `log_dir` of `MetricsSummary`.
        settings: Dict from names to values.
        columns: Names of the settings that HParams lists; by default all. HParams initially shows
            the first five in alphabetical order.

    Example:
        >>> write_settings("logs/seed0", {"batch_size": 128, "peak": 0.03}, columns=["peak"])
    """
    from tensorboard.plugins.hparams import api as hparams

    tf = tensorflow()
    rows = [f"| {name} | {value} |" for name, value in settings.items()]
    listed = {name: hparam(settings[name]) for name in columns or settings}
    metrics = [
        hparams.Metric(f"epoch_{metric}", group=run, display_name=f"{run} {metric}")
        for metric in ("accuracy", "loss")
        for run in ("test", "validation", "train")
    ]
    with tf.summary.create_file_writer(str(log_dir)).as_default(step=0):
        tf.summary.text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]))
        hparams.hparams_config([hparams.HParam(name) for name in listed], metrics)
        hparams.hparams(listed, trial_id=os.path.basename(os.path.normpath(log_dir)))


def hparam(value):
    """The value for HParams: integers as strings, because it would print 32 as 32.000."""
    return value if isinstance(value, (bool, float)) else str(value)


def write_graph(log_dir, model):
    """Writes the graph of operations of a model's forward pass to TensorBoard, a box per layer.

    Keras 3's `TensorBoard(write_graph=True)` writes only the graph of layers (the tag `keras`).

    Example:
        >>> write_graph("logs/seed0", model)

    Args:
        log_dir: The `log_dir` of `MetricsSummary` or of Keras's `TensorBoard` callback.
        model: A functional or sequential model.

    Raises:
        NotImplementedError: if Keras's backend is not TensorFlow.
        ValueError: if the model is subclassed.
    """
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            "The graph of operations is TensorFlow's. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a functional or sequential model. Received: {model!r}")
    tf = tensorflow()
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    signature = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
    # `model(...)` instead of `call` would put one box around all layers.
    forward = tf.function(lambda inputs: model.call(inputs, training=False))
    graph = forward.get_concrete_function(signature).graph
    with tf.summary.create_file_writer(str(log_dir)).as_default():
        tf.summary.graph(graph)
