"""The measurements of first calls; each runs in a process that has done nothing before.

Functions return figures by name: seconds, operations, or MiB that stay resident when all is freed.
`who` is `"ours"` or `"PyTorch"`.
"""

import functools
import statistics
import time

import keras
import numpy as np

from benchmarks import memory
from benchmarks.contenders import prepare
from benchmarks.frameworks import FRAMEWORKS, on_tape
from benchmarks.warps import CELLS, arrays, sampler
from stn_keras import SpatialTransformer, localization

BATCH = 32
TOO_MUCH = 4096  # MiB; when they have stayed in memory, further sizes are not measured


def timed(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def random_images(shape):
    return np.random.default_rng(0).random(shape, dtype="float32")


def classifier(size, *layers):
    """A compiled model of images of that size, `layers` and a dense layer of ten classes."""
    ends = keras.layers.Flatten(), keras.layers.Dense(10)
    model = keras.Sequential([keras.Input(size), *filter(None, layers), *ends])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class NetworkAlone(keras.Layer):
    """The library's own localization network, whose numbers change images without a warp."""

    def __init__(self):
        super().__init__()
        self.localization = localization.cnn()

    def call(self, images):
        return images * keras.ops.mean(self.localization(images), axis=1)[:, None, None, None]


LAYERS = {
    "transformer": lambda: SpatialTransformer(localization.cnn()),
    "network": NetworkAlone,
    "none": lambda: None,
}


def last_step(model, images, classes):
    """Seconds of the last step of one epoch, the only one that may be of a new size."""

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # here the loss, and so the step, is computed
            self.seconds = time.perf_counter() - self.begin

    clock = Clock()
    model.fit(images, classes, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clock])
    return clock.seconds


def quick_start(kind):
    """The README's model, built and fitted to 8 images, then to 5."""
    images, classes = random_images((8, 32, 32, 3)), np.arange(8)

    def begin():
        model = classifier(images.shape[1:], LAYERS[kind]())
        model.fit(images, classes, verbose=0)
        return model

    start = time.perf_counter()
    model = begin()
    first = time.perf_counter() - start
    return {"first fit, s": first, "smaller batch, s": last_step(model, images[:5], classes[:5])}


def two_transformers(kind):
    """A small CNN's first three steps, of 32 images each, and a last batch of 20."""
    images, classes = random_images((3 * BATCH, 64, 64, 3)), np.arange(3 * BATCH) % 10

    def begin():
        conv = {"padding": "same", "activation": "relu"}
        model = classifier(
            images.shape[1:],
            keras.layers.Conv2D(16, 3, strides=2, **conv),
            LAYERS[kind](),
            keras.layers.Conv2D(32, 3, **conv),
            LAYERS[kind](),
        )
        model.fit(images, classes, batch_size=BATCH, verbose=0)
        return model

    start = time.perf_counter()
    model = begin()
    first = time.perf_counter() - start
    some = slice(0, BATCH + 20)
    return {
        "first steps, s": first,
        "smaller batch, s": last_step(model, images[some], classes[some]),
    }


def new_sizes(who, backend, warp, job, count):
    """Random sizes and batches of three channels, each called once and eagerly."""
    rng, shapes = np.random.default_rng(1), {}
    while len(shapes) < count + 1:
        shapes[int(rng.integers(1, 33)), *map(int, rng.integers(16, 129, 2)), 3] = None
    seconds, peaks = [], []
    for shape in shapes:
        _, run = prepare("ours, eager" if who == "ours" else who, backend, warp, shape)
        peak, time = memory.added_at_peak(timed, run, job)
        seconds.append(time)
        peaks.append(peak)
        del run
        if len(seconds) == 1:
            before = memory.settled()
        elif memory.resident() - before > TOO_MUCH:
            break
    first, *others = seconds
    stays = memory.settled() - before
    return {
        "first, s": first,
        "median, s": statistics.median(others),
        "MiB": stays,
        "MiB each": stays / len(others),
        "MiB at the peak": statistics.median(peaks[1:]),
    }


def fill_values(backend, job, count):
    """`grid_sample` of the same images, each time with another `fill_value`; some are NaN."""
    inputs = arrays(CELLS["grid_sample bilinear"], (8, 48, 64, 3))
    # Each NaN is another object, and unequal to all others.
    values = [float("nan") if k % 6 == 5 else k / 8 for k in range(count + 1)]
    calls = [FRAMEWORKS[backend](sampler(fill_value=v), inputs, "eager")[1] for v in values]
    first, *others = calls
    first(job)
    before = memory.settled()
    seconds = [timed(run, job) for run in others]
    return {"all, s": sum(seconds), "MiB": memory.settled() - before}


def graph(warp, job):
    """The number of operations that TensorFlow traces of a warp, for any number of images as in
    `fit`, including those in functions of the graph."""
    import tensorflow as tf

    cell = CELLS[warp]
    step = tf.function(functools.partial(on_tape, cell.ours, job), autograph=False)
    inputs = arrays(cell, cell.shape)
    specs = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in inputs]
    traced = step.get_concrete_function(*specs).graph.as_graph_def()
    return {"nodes": len(traced.node) + sum(len(f.node_def) for f in traced.library.function)}
