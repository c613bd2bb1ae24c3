"""Writes the models that the repository ships, from complete runs:

    python train.py --epochs 50 --run tuned-0
    python -m examples.distorted_mnist --cells st-cnn-affine-RTS-0 cnn-RTS-0 --epochs 10 \
        --models saved_models --output-dir saved_models
    python -m saved_models.make saved_models/{tuned-0,st-cnn-affine-RTS-0,cnn-RTS-0}

Run it with the lowest version of Keras that pyproject.toml allows: earlier versions do not load the
files of later ones. `saved.compact` makes the models smaller. Their accuracy on all test images and
on the 200 that are shipped with them, is measured and added to the settings.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
from PIL import Image

from examples.cells import TEST_SEED
from stn_keras import history, plots, saved
from stn_keras.data import cifar10, distortions, mnist
from stn_keras.system.files import read_settings

FOLDER = pathlib.Path(__file__).parent
SHIPPED = 200  # test images
CAT = 911  # of the test images of CIFAR-10


def main(cifar10_run, transformer_run, plain_run):
    runs = map(pathlib.Path, (cifar10_run, transformer_run, plain_run))
    cifar10_run, transformer_run, plain_run = runs
    ship_cifar10(cifar10_run, FOLDER / "cifar10")
    ship_mnist(transformer_run, plain_run, FOLDER / "mnist_rts")


def ship_cifar10(run, folder):
    folder.mkdir(exist_ok=True)
    _, (images, labels) = cifar10.load()
    settings = ship(run, "best.keras", folder / "best.keras", images, labels)
    write(folder, settings, images=images[:SHIPPED], labels=labels[:SHIPPED])
    for name in ("history.csv", "curves.png", "warps.png"):
        shutil.copy(run / name, folder)
    Image.fromarray(images[CAT]).save(FOLDER.parent / "docs" / "pictures" / "cat.png")


def ship_mnist(run, plain_run, folder):
    folder.mkdir(exist_ok=True)
    _, (images, labels) = mnist.load()
    distorted = distortions.fixed(images, "RTS", TEST_SEED)
    settings = ship(run, "last.keras", folder / "last.keras", distorted, labels)
    settings["plain"] = ship(plain_run, "last.keras", folder / "plain.keras", distorted, labels)
    arrays = {"images": images, "distorted": distorted, "labels": labels}
    write(folder, settings, **{name: array[:SHIPPED] for name, array in arrays.items()})
    for name in ("history.csv", "warps.png"):
        shutil.copy(run / name, folder)
    shutil.copy(plain_run / "history.csv", folder / "plain_history.csv")
    runs = {"with transformer": run, "without": plain_run}
    histories = {name: history.read(run / "history.csv") for name, run in runs.items()}
    plots.save(plots.curves(histories), folder / "curves.png")


def ship(run, name, target, images, labels):
    """Writes a run's model to `target`; returns the run's settings with the model's accuracy."""
    saved.compact(run / name, target)
    right = saved.load(target).predict(images, 500, verbose=0).argmax(axis=1) == labels
    accuracy = {
        "test_accuracy": round(float(right.mean()), 6),
        "test_accuracy_of_shipped_images": round(float(right[:SHIPPED].mean()), 6),
    }
    return {**read_settings(run / "config.json"), **accuracy}


def write(folder, settings, **arrays):
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    arrays["labels"] = arrays["labels"].astype("uint8")
    np.savez_compressed(folder / "test_images.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
