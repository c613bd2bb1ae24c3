"""A reader of words in Keras, ONNX and LiteRT, in float32 and int8: accuracy and words per second.

    pip install ".[export]" && python -m benchmarks.reading saved_models/read_text/last.keras

Words are read in batches of 32 on all cores; the runtimes take turns. The int8 ranges are measured
on 200 training words. The accuracy is that on test words of all strengths of bending.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile

import numpy as np

from benchmarks import export
from benchmarks.rounds import milliseconds
from examples import read_text, word_data
from results import report
from stn_keras import saved
from stn_keras.data import words

BATCH = 32


def contenders(model, examples, folder):
    """The file and a function from images to logits, by name."""
    yield "Keras", *export.in_keras(model, folder / "model.keras")
    yield "ONNX", *export.onnx(model, folder / "model.onnx")
    yield "LiteRT", *export.litert(model, folder / "model.tflite")
    yield "LiteRT, int8", *export.litert(model, folder / "int8.tflite", quantize=examples)


def accuracy(function, split):
    """Share of words read right, in %."""
    starts = range(0, len(split.images), BATCH)
    batches = (split.images[start : start + BATCH].astype("float32") for start in starts)
    read = [word for batch in batches for word in words.decode(function(batch))]
    return 100 * np.mean(np.array(read) == words.spell(split.labels))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="a .keras file of examples.read_text")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each in each round")
    args = parser.parse_args(arguments)
    training, test = (word_data.load(split, read_text.DATA) for split in ("training", "test"))
    examples, images = training.images[:200], test.images[:BATCH].astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        found = list(
            contenders(saved.load(args.model), examples.astype("float32"), pathlib.Path(folder))
        )
        times = {name: [] for name, *_ in found}
        for _ in range(args.rounds):
            for name, _, function in found:
                calls = milliseconds(functools.partial(function, images), args.seconds)
                times[name].append(statistics.median(calls))
        rows = [
            [
                name,
                f"{path.stat().st_size / 1024:,.0f}",
                f"{accuracy(function, test):.2f}",
                f"{1000 * BATCH / statistics.median(times[name]):,.0f}",
            ]
            for name, path, function in found
        ]
    print(report.table(["format", "KiB", "words right, %", "words per second"], rows))


if __name__ == "__main__":
    main()
