"""Trains the networks of a table, which may be shared among several processes.

A cell of the table is one network, trained on one distortion with one seed. It is named by these,
such as `cnn-R-0`, and its results are a row in `<folder>/<cell>.csv`. Cells with an existing file
are skipped, so an interrupted command can be repeated. Two processes never train the same cell:
each holds a lock on its current cell, which the operating system releases if the process dies.
"""

import argparse
import contextlib
import csv
import fcntl
import fnmatch
import functools
import os
import pathlib
import shlex
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

import keras
import numpy as np
import tensorflow as tf

from stn_keras import precision
from stn_keras.data import distortions, pipeline
from stn_keras.system import files
from stn_keras.training import loop
from stn_keras.training.runs import environment

# Seeds of the distortions of held-out and test images, the same for all models and training seeds.
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002


def main(module, description, folder, cells, train, classes, arguments=None):
    """Trains the cells that the command line selects and whose files are missing, in order.

    Args:
        module: Name of the module that is the command.
        description: Description of the command.
        folder: Default folder of the files.
        cells: Dict from a cell's name to its settings, a dict with a `"seed"`.
        train: Function that trains one cell. It takes its settings, the path of its CSV file, a
            number of epochs (`None` for the recipe's) and the folder for the network (or `None`),
            and returns a dict of results.
        classes: Names of the classes.
        arguments: The command line; `None` for `sys.argv`.

    Raises:
        ValueError: if `--cells` has a pattern that matches no cell.
    """
    args = parse(module, description, folder, arguments)
    if args.threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name in choose(cells, args.cells):
        with claim(args.output_dir / f"{name}.csv") as path:
            if path is None:
                print(f"{name}: skipped; its results exist, or it is being trained", flush=True)
                continue
            print(name, flush=True)
            keras.backend.clear_session()
            keras.config.set_image_data_format("channels_last")  # as the data are
            keras.config.set_dtype_policy(precision.choose(args.precision))
            keras.utils.set_random_seed(cells[name]["seed"])
            start = time.perf_counter()
            folder = args.models / name if args.models else None
            results = train(cells[name], path, args.epochs, folder)
            seconds = round(time.perf_counter() - start, 1)
            row = {"cell": name, **cells[name], **results, "seconds": seconds}
            row |= {"threads": args.threads, "command": shlex.join(args.command), **environment()}
            if folder:
                files.write_settings(folder / "config.json", {**row, "classes": classes})
            write(path, row)


def choose(cells, patterns):
    """The names that match one of the patterns, in the order of `cells`."""
    for pattern in patterns:
        if not fnmatch.filter(cells, pattern):
            raise ValueError(f"No cell matches {pattern!r}. There are: {', '.join(cells)}")
    return [name for name in cells if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


@contextlib.contextmanager
def claim(path):
    """Yields `path`, or `None` if it exists already or another process is working on it."""
    with path.with_name(f".{path.stem}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = not path.exists()
        except BlockingIOError:
            free = False
        yield path if free else None


def train(
    model,
    optimizer,
    data,
    distortion,
    folder=None,
    *,
    epochs,
    batch_size,
    seed,
    elastic=0.0,
    **augmentation,
):
    """Trains on distorted images without the held-out ones; returns the errors in %.

    `data` is `(images, labels), (held_out, labels), (test_images, labels)`. The last two are
    already distorted; the training images are distorted anew in every epoch. If there is a
    `folder`, the network and its history are saved to it.
    """
    training, held_out, test = data
    steps = -(-len(training[0]) // batch_size)
    model.compile(
        optimizer=optimizer(epochs * steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    distort = functools.partial(distortions.distort, name=distortion, elastic=elastic)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    loop.fit(
        model,
        pipeline.training_batches(
            *training, batch_size=batch_size, seed=seed, distort=distort, **augmentation
        ),
        epochs=epochs,
        steps=steps,
        validation_data=evaluation(*held_out) if folder else None,
        writing=loop.saving(folder) if folder else (),
    )
    if folder:
        loop.draw(folder, model, test[0][:8])
    return {
        "test_error": error(model, *test),
        "validation_error": error(model, *held_out),
        "training_error": percent_wrong(model.history.history["accuracy"][-1]),
        "parameters": model.count_params(),
        "epochs": epochs,
        "batch_size": batch_size,
        "precision": keras.config.dtype_policy().name,
    }


def split(data, held_out, distortion):
    """A data set's arrays as `train` takes them, the last training images held out."""
    (images, labels), (test_images, test_labels) = data
    rest = len(images) - held_out
    return (
        (images[:rest], labels[:rest]),
        (distortions.fixed(images[rest:], distortion, VALIDATION_SEED), labels[rest:]),
        (distortions.fixed(test_images, distortion, TEST_SEED), test_labels),
    )


def evaluation(images, labels):
    return pipeline.evaluation_batches(images, labels, batch_size=500)


def error(model, images, labels):
    batches = evaluation(images, labels)
    return percent_wrong(model.evaluate(batches, verbose=0, return_dict=True)["accuracy"])


def percent_wrong(accuracy):
    return round(100 * (1 - accuracy), 3)


def save_pictures(path, model, images, labels, **arrays):
    """Saves eight images and the mean of each class, before and after the warp, and `arrays`."""
    transformer = model.get_layer("transformer")
    both = keras.Model(model.inputs, [transformer.input, transformer.output])
    seen, warped = (x.astype("float32") for x in both.predict(images, 500, verbose=0))
    low, high = seen.min(), seen.max()

    def pixels(images):
        return np.round(255 * np.clip((images - low) / (high - low), 0, 1)).astype("uint8")

    def means(images):
        return np.stack([images[labels == label].mean(axis=0) for label in np.unique(labels)])

    with files.replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            images=pixels(seen[:8]),
            warped=pixels(warped[:8]),
            mean_images=pixels(means(seen)),
            mean_warped=pixels(means(warped)),
            **arrays,
        )


def write(path, row):
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


def parse(module, description, folder, arguments):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=["*"], help="names, wildcards allowed")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, help="of TensorFlow; default: one per core")
    parser.add_argument("--precision", choices=precision.CHOICES, default="auto")
    parser.add_argument("--output-dir", type=pathlib.Path, default=folder)
    parser.add_argument(
        "--models", type=pathlib.Path, metavar="FOLDER", help="save each cell's network here, too"
    )
    args = parser.parse_args(arguments)
    args.command = ["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)]
    return args
