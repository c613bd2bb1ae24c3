"""A CIFAR-10 network in LiteRT, in float32 and in int8: size, latency and test accuracy.

    pip install ".[export]" && python -m benchmarks.quantized saved_models/run/best.keras

The int8 ranges are measured on 200 training images. Latency is that of one image on one thread;
both files take turns.
"""

import argparse
import functools
import os
import pathlib
import statistics
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.rounds import milliseconds
from results import report
from stn_keras import export, saved
from stn_keras.data import cifar10


def runner(path):
    """A function from images to logits, on one thread."""
    signature = Interpreter(str(path), num_threads=1).get_signature_runner()
    return lambda images: next(iter(signature(images=images.astype("float32")).values()))


def logits(function, images, batch=100):
    return np.concatenate([function(images[k : k + batch]) for k in range(0, len(images), batch)])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="a .keras file that train.py wrote")
    parser.add_argument("--images", type=int, default=10_000, help="of the test set")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each in each round")
    args = parser.parse_args(arguments)
    model = saved.load(args.model)
    (training, _), (images, labels) = cifar10.load()
    examples = np.random.default_rng(0).permutation(training)[:200].astype("float32")
    images, labels = images[: args.images], labels[: args.images]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: pathlib.Path(folder) / f"{name}.tflite" for name in ("float32", "int8")}
        export.save(model, paths["float32"], "litert")
        export.save(model, paths["int8"], "litert", quantize=examples)
        sizes = {name: path.stat().st_size / 1024 for name, path in paths.items()}
        functions = {name: runner(path) for name, path in paths.items()}
        outputs = {name: logits(function, images) for name, function in functions.items()}
        single = {name: runner(path) for name, path in paths.items()}  # keeps its batch of one
        times = {name: [] for name in paths}
        for _ in range(args.rounds):
            for name, function in single.items():
                calls = milliseconds(functools.partial(function, images[:1]), args.seconds)
                times[name].append(1e3 * statistics.median(calls))
    same = np.mean(outputs["float32"].argmax(1) == outputs["int8"].argmax(1))
    error = np.abs(outputs["float32"] - outputs["int8"]).mean() / np.ptp(outputs["float32"])
    print(f"{len(images):,} test images; the same class for {same:.2%}; mean error of the logits")
    print(f"is {error:.2%} of their range\n")
    lines = []
    for name in paths:
        accuracy = np.mean(outputs[name].argmax(1) == labels)
        low, middle, high = min(times[name]), statistics.median(times[name]), max(times[name])
        micros = f"{middle:.0f} ({low:.0f} … {high:.0f})"
        lines.append([name, f"{sizes[name]:,.0f}", micros, f"{accuracy:.2%}"])
    print(report.table(["LiteRT", "KiB", "1 image, 1 thread, µs", "accuracy"], lines))


if __name__ == "__main__":
    main()
