"""The distorted-MNIST table of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025).

    python -m examples.distorted_mnist

trains one network for each model, distortion and seed, and writes its test error and settings to
`results/distorted_mnist/<model>-<distortion>-<seed>.csv`. Networks whose files exist are skipped.
`--cells "cnn-*" "st-cnn-affine-R-0"` selects networks by these names. Several processes share the
work; start one for each core with `--threads 1`. `--models FOLDER` also saves each network with its
settings, history and figures to a folder of its name. `python -m results.distorted` makes the
tables and figures.

The last 5,000 training images are held out; the settings were chosen on them.
"""

import functools
import itertools
import pathlib

import keras

from examples import cells
from stn_keras import models
from stn_keras.data import distortions, mnist
from stn_keras.recipes import one_cycle

FOLDER = pathlib.Path(__file__).parents[1] / "results" / "distorted_mnist"
HELD_OUT = 5_000
TRANSFORMS = ("affine", "projective", "thin_plate_spline")
BATCH_SIZE, WARM_UP, WEIGHT_DECAY = 128, 0.2, 0.01
# Peaks of the learning rate: the lower one if a training has enough steps for it.
PEAK = {"R": 0.001, "RTS": 0.001, "P": 0.001, "E": 0.003, "TC": 0.003}
PLAIN_PEAK = {**PEAK, "RTS": 0.003}  # without a transformer
# On the canvas of 60×60, an epoch of the CNN takes five times as long as on 28×28, and one of dense
# layers with a transformer four times.
EPOCHS = {
    "fcn": {"R": 120, "RTS": 60, "P": 120, "E": 60, "TC": 60},
    "cnn": {"R": 40, "RTS": 32, "P": 40, "E": 40, "TC": 20},
}
# Elastic augmentation of training digits, in pixels, against overfitting.
ELASTIC = {"R": 0.7, "RTS": 0.0, "P": 0.0, "E": 0.0, "TC": 0.0}


def table():
    """Settings of all cells by name, the most important ones first."""
    first = [("cnn", None), ("cnn", "affine")]
    every = list(itertools.product(("fcn", "cnn"), (None, *TRANSFORMS)))
    found = {}
    for models_, seeds in ((first, range(3)), (every, range(3))):
        for seed, distortion, (classifier, transform) in itertools.product(
            seeds, distortions.DISTORTIONS, models_
        ):
            if distortion == "TC" and transform not in (None, "affine"):
                continue  # The paper has one transformer there.
            model = classifier if transform is None else f"st-{classifier}-{transform}"
            found[f"{model}-{distortion}-{seed}"] = {
                "model": model,
                "classifier": classifier,
                "transform": transform,
                "distortion": distortion,
                "seed": seed,
            }
    return found


def train(cell, path, epochs, folder):
    """Trains one cell's network; returns its errors in % and what it was trained with."""
    distortion = cell["distortion"]
    data = cells.split(mnist.load(), HELD_OUT, distortion)
    test = data[2]
    model = models.mnist_stn(cell["classifier"], cell["transform"], size=test[0].shape[1])
    peak = (PEAK if cell["transform"] else PLAIN_PEAK)[distortion]
    results = cells.train(
        model,
        functools.partial(optimizer, peak),
        data,
        distortion,
        folder,
        epochs=epochs or EPOCHS[cell["classifier"]][distortion],
        batch_size=BATCH_SIZE,
        seed=cell["seed"],
        elastic=ELASTIC[distortion],
    )
    if cell["transform"] and cell["seed"] == 0:
        cells.save_pictures(path.with_suffix(".npz"), model, *test)
    recipe = {"peak": peak, "warm_up": WARM_UP, "weight_decay": WEIGHT_DECAY}
    return {**results, "optimizer": "AdamW", **recipe, "elastic": ELASTIC[distortion]}


def optimizer(peak, steps):
    return keras.optimizers.AdamW(one_cycle(peak, WARM_UP, steps), weight_decay=WEIGHT_DECAY)


def main(arguments=None):
    description = "Train the networks of the distorted-MNIST table."
    names = mnist.CLASS_NAMES
    cells.main("examples.distorted_mnist", description, FOLDER, table(), train, names, arguments)


if __name__ == "__main__":
    main()
