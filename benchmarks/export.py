"""Size and latency of an exported CIFAR-10 network, in Keras and in each format's own runtime.

    pip install ".[export]" && python -m benchmarks.export

All run on CPUs and take turns round by round. ONNX is measured twice: with ONNX's own `AffineGrid`
and `GridSample`, as `stn_keras.export` writes it, and with the gathers of our sampler.
"""

import argparse
import functools
import os
import pathlib
import statistics
import tempfile
from unittest import mock

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.rounds import milliseconds
from results import report
from stn_keras import backend, export, models
from stn_keras.serving import onnx as onnx_files


def model():
    """The CIFAR-10 network, with warps that differ from image to image."""
    network, rng = models.cifar10_stn(), np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign_add(rng.normal(0, 0.01, weight.shape))
    return network


def contenders(network, folder):
    """The file and a function from images to logits, by name."""
    yield "Keras", *in_keras(network, folder / "model.keras")

    export.save(network, folder / "model", "saved_model")
    loaded = tf.saved_model.load(str(folder / "model"))
    yield "SavedModel", folder / "model", lambda images: loaded.serve(images).numpy()

    yield "LiteRT", *litert(network, folder / "model.tflite")
    yield "ONNX", *onnx(network, folder / "model.onnx")
    with mock.patch.object(onnx_files, "_sample", backend.sample):
        yield "ONNX, gathers", *onnx(network, folder / "gathers.onnx")


def in_keras(network, path):
    network.save(path)
    predict = tf.function(lambda images: network(images, training=False))
    return path, lambda images: predict(images).numpy()


def litert(network, path, quantize=None):
    export.save(network, path, "litert", quantize=quantize)
    runner = Interpreter(str(path), num_threads=os.cpu_count()).get_signature_runner()
    return path, lambda images: next(iter(runner(images=images).values()))


def onnx(network, path):
    export.save(network, path, "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return path, lambda images: session.run(None, {"images": images})[0]


def size(path):
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each in each round")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = list(contenders(model(), pathlib.Path(folder)))
        sizes = {name: size(path) for name, path, _ in found}
        functions = {name: function for name, _, function in found}
        table = {name: [] for name in functions}
        for batch in args.batches:
            images = np.random.default_rng(batch).uniform(0, 255, (batch, 32, 32, 3))
            images = images.astype("float32")
            times = {name: [] for name in functions}
            for function in functions.values():
                assert np.allclose(function(images), found[0][2](images), rtol=0, atol=1e-5)
            for _ in range(args.rounds):
                for name, function in functions.items():
                    calls = milliseconds(functools.partial(function, images), args.seconds)
                    times[name].append(statistics.median(calls))
            for name, medians in times.items():
                low, middle, high = min(medians), statistics.median(medians), max(medians)
                table[name].append(f"{middle:.2f} ({low:.2f} … {high:.2f})")
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {os.cpu_count()} CPUs\n")
    lines = [[name, f"{sizes[name] / 1024:,.0f}", *cells] for name, cells in table.items()]
    print(report.table(["format", "KiB", *(f"{n} images, ms" for n in args.batches)], lines))


if __name__ == "__main__":
    main()
