"""What `model.fit` shows on TensorBoard beyond Keras's own callbacks.

Keras's `TensorBoard` writes loss, metrics, learning rate and the graph of layers into `train` and
`validation` under its `log_dir`. Given the same folder, what is here adds a run `transformer`
(what the spatial transformers do to fixed images) and, in the folder itself, the settings and the
graph of operations, which Keras 3 leaves out.
"""

import os
import time

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorboard.plugins.hparams import api as hparams

from stn_keras import plots
from stn_keras.files import replacing
from stn_keras.layers import SpatialTransformer
from stn_keras.metrics import share_outside
from stn_keras.sampling import to_channels_last

__all__ = [
    "Checkpoint",
    "Evaluation",
    "Throughput",
    "TransformerSummary",
    "decompose",
    "draw",
    "write_graph",
    "write_settings",
]

SHOWN = 8  # images in a figure


def decompose(theta):
    """Scales, rotation, shear and translation of affine transforms.

    With `theta = [A | t]`, `t = (translation_x, translation_y)` and::

        A = R(rotation) @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y)
        R(r) = [[cos r, -sin r], [sin r, cos r]]

    so that, for `A = [[a, b], [d, e]]`::

        scale_x = hypot(a, d)                scale_y = (a e − b d) / scale_x
        rotation = atan2(d, a)               shear = (a b + d e) / (scale_x scale_y)

    A scale below 1 zooms in: the region looked at is smaller than the image. A positive rotation
    turns that region clockwise as seen on the screen, since y points down. All is in normalised
    coordinates, in which an image that isn't square counts as one.

    Args:
        theta: (batch, 6) or (batch, 2, 3) array, from output to input coordinates.

    Returns:
        dict of float (batch,) arrays: "scale_x" (not negative), "scale_y" (negative for a
        reflection), "rotation" (degrees, above −180, up to 180), "shear", "translation_x" and
        "translation_y" (in halves of the image's width and height). What a singular `A` leaves
        open is NaN or infinite.

    Example:
        >>> decompose([[0, -0.5, 0, 0.5, 0, 0.1]])["rotation"]
        array([90.])
    """
    theta = np.asarray(theta, float).reshape(-1, 2, 3)
    (a, b, x), (d, e, y) = theta.transpose(1, 2, 0) + 0.0  # + 0.0: −0 would turn 180° into −180°
    scale_x = np.hypot(a, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale_y = (a * e - b * d) / scale_x
        shear = (a * b + d * e) / (scale_x * scale_y)
    return {
        "scale_x": scale_x,
        "scale_y": scale_y,
        "rotation": np.degrees(np.arctan2(d, a)),
        "shear": shear,
        "translation_x": x,
        "translation_y": y,
    }


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


def transformers(model):
    return [layer for layer in model.layers if isinstance(layer, SpatialTransformer)]


def observer(model, layers):
    """A compiled function from images to a dict, by layer name, of what each layer does."""
    features = keras.Model(model.inputs, {layer.name: layer.input for layer in layers})

    @tf.function
    def observe(images):
        received = features(images, training=False)
        return {layer.name: see(layer, received[layer.name]) for layer in layers}

    return observe


def see(layer, inputs):
    """What `layer` does to its inputs, as a dict of float tensors, the batch first in each."""
    images, theta = inputs if layer.localization is None else (inputs, layer.theta(inputs))
    warped = layer(inputs, training=False)
    images, warped = (to_channels_last(x, layer.data_format) for x in (images, warped))
    grid = layer.grid(theta, tuple(warped.shape[1:3]))
    seen = {
        "images": ops.cast(images[:SHOWN], "float32"),
        "warped": ops.cast(warped[:SHOWN], "float32"),
        "grid": grid[:SHOWN],
        "outside": share_outside(grid),
    }
    if hasattr(layer.warped_by, "matrix"):
        seen["theta"] = layer.warped_by.matrix(theta, images.shape[1:3])[:, :2]
    return seen


def write_scalars(name, seen):
    quantities = decompose(seen["theta"]) if "theta" in seen else {}
    quantities["outside"] = seen["outside"]
    for quantity, values in quantities.items():
        tf.summary.scalar(f"{name}/{quantity}_mean", values.mean())
        tf.summary.scalar(f"{name}/{quantity}_std", values.std())


def draw(model, images):
    """Figures of what a model's spatial transformers do to images, a dict by layer name.

    Example:
        >>> plots.save(draw(model, images)["transformer"], "warps.png")

    Args:
        model: a functional or sequential model.
        images: (batch, height, width, channels) array that the model can be called on.

    Returns:
        dict from the layers' names to `Figure`s of at most eight images; empty for a model
        without a `SpatialTransformer`.
    """
    layers = transformers(model)
    return figures(layers, observer(model, layers)(images)) if layers else {}


def figures(layers, observed):
    """A dict, by layer name, of drawings of what an `observer` has seen."""
    observed = as_arrays(observed)
    return {layer.name: draw_warps(layer, observed[layer.name]) for layer in layers}


def as_arrays(observed):
    return keras.tree.map_structure(lambda tensor: tensor.numpy(), observed)


def draw_warps(layer, seen):
    low, high = seen["images"].min(), seen["images"].max()
    images, warped = (grey_or_rgb(seen[name], low, high) for name in ("images", "warped"))
    return plots.warps(images, warped, seen["grid"], align_corners=layer.align_corners)


def grey_or_rgb(images, low, high):
    """Images, or feature maps averaged over channels, with `low … high` brought to 0 … 1."""
    if images.shape[-1] not in (1, 3):
        images = images.mean(axis=-1, keepdims=True)
    return np.clip((images - low) / max(high - low, 1e-12), 0, 1)


class Throughput(keras.callbacks.Callback):
    """Puts "images_per_second" and "learning_rate" into the logs of every epoch.

    Put it before the callbacks that should see them: `CSVLogger`, `TensorBoard`. The history and
    the progress bar come last and always do.

    Speed is that of training: the clock stops when validation starts. The first epoch's includes
    tracing and compiling. The learning rate is the one that the next step would use.

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

    def on_test_begin(self, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        seconds = (self._stop or time.perf_counter()) - self._start
        logs["images_per_second"] = self.images_per_epoch / seconds
        logs["learning_rate"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))


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
    """
    signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    forward = tf.function(lambda inputs: model(inputs, training=False))
    graph = forward.get_concrete_function(signature[0] if len(signature) == 1 else signature).graph
    with tf.summary.create_file_writer(str(log_dir)).as_default():
        tf.summary.graph(graph)
