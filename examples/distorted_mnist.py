"""The distorted-MNIST table of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025).

    python -m examples.distorted_mnist

trains one network for each model, distortion and seed, skips those that are in the folder already,
and writes each one's test error with its settings to `results/distorted_mnist/<cell>.csv`. A cell
is named `<model>-<distortion>-<seed>`; `--cells "cnn-*" "st-cnn-affine-R-0"` chooses. Several
processes share the work, each with its own `--threads`. `python -m results.distorted` draws the
tables and figures.

The last 5,000 training images are held out; the settings here were chosen on them. The test set is
distorted once and for all: it is the same for all models and seeds.
"""

import argparse
import math
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

import keras
import numpy as np
import tensorflow as tf

from examples import cells
from stn_keras import files, models, precision
from stn_keras.data import distortions, mnist, pipeline

FOLDER = pathlib.Path(__file__).parents[1] / "results" / "distorted_mnist"
HELD_OUT = 5_000
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002  # of their distortions
TRANSFORMS = ("affine", "projective", "thin_plate_spline")
RECIPE = {"batch_size": 256, "peak": 0.002, "warmup": 0.2, "weight_decay": 0.01}
EPOCHS = {"fcn": 60, "cnn": 20}


def all_cells():
    """Settings by name, in the order in which they are worth having."""
    found = {}

    def add(models, distortions, seeds):
        for seed in seeds:
            for distortion in distortions:
                for classifier, transform in models:
                    if distortion == "TC" and transform not in (None, "affine"):
                        continue  # The paper has one transformer there.
                    add_cell(classifier, transform, distortion, seed)

    def add_cell(classifier, transform, distortion, seed):
        model = classifier if transform is None else f"st-{classifier}-{transform}"
        found[f"{model}-{distortion}-{seed}"] = {
            "model": model,
            "classifier": classifier,
            "transform": transform,
            "distortion": distortion,
            "seed": seed,
        }

    every = tuple(distortions.DISTORTIONS)
    add([("cnn", None), ("cnn", "affine")], every, range(3))
    rows = [(classifier, t) for classifier in ("fcn", "cnn") for t in (None, *TRANSFORMS)]
    add(rows, every, range(3))
    return found


def train(args, name, cell):
    """Trains one network; returns its errors in % and what it was trained with."""
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision.choose(args.precision))
    keras.utils.set_random_seed(cell["seed"])
    distortion, epochs = cell["distortion"], args.epochs or EPOCHS[cell["classifier"]]
    (images, labels), (test_images, test_labels) = args.load()
    rest = len(images) - HELD_OUT
    held_out = distortions.fixed(images[rest:], distortion, VALIDATION_SEED)
    test = distortions.fixed(test_images, distortion, TEST_SEED)
    batches = distortions.training_batches(
        images[:rest],
        labels[:rest],
        distortion,
        batch_size=RECIPE["batch_size"],
        seed=cell["seed"],
    )
    model = models.mnist_stn(cell["classifier"], cell["transform"], size=test.shape[1])
    steps = math.ceil(rest / RECIPE["batch_size"])
    model.compile(
        optimizer=optimizer(epochs * steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,  # the batches are shuffled already
        verbose=2,
    ).history
    if cell["seed"] == 0:
        save_pictures(args.output_dir / f"{name}.npz", model, test, test_labels)
    return {
        "test_error": error(model, test, test_labels),
        "validation_error": error(model, held_out, labels[rest:]),
        "training_error": round(100 * (1 - history["accuracy"][-1]), 2),
        "parameters": model.count_params(),
        "epochs": epochs,
        **RECIPE,
        "precision": keras.config.dtype_policy().name,
        "threads": args.threads,
    }


def optimizer(steps):
    """AdamW whose rate rises in a line to its peak, then falls along a cosine to 0."""
    rise = round(RECIPE["warmup"] * steps)
    cycle = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=RECIPE["peak"], warmup_steps=rise
    )
    return keras.optimizers.AdamW(cycle, weight_decay=RECIPE["weight_decay"])


def error(model, images, labels):
    """Share of images in %, as of now, that get a wrong label."""
    batches = pipeline.evaluation_batches(images, labels, batch_size=500)
    return round(100 * (1 - model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]), 3)


def save_pictures(path, model, images, labels):
    """What the figures need: eight images and the mean of each digit, before and after the warp."""
    warped = images
    if "transformer" in {layer.name for layer in model.layers}:
        transformer = model.get_layer("transformer")
        warped = keras.Model(model.input, transformer.output).predict(images, 500, verbose=0)
        warped = np.clip(np.round(255 * warped.astype("float32")), 0, 255).astype("uint8")

    def means(images):
        digits = [images[labels == digit].mean(axis=0) for digit in range(10)]
        return np.round(digits).astype("uint8")

    with files.replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            images=images[:8],
            warped=warped[:8],
            mean_images=means(images),
            mean_warped=means(warped),
        )


def main(arguments=None):
    args = parse(arguments)
    if args.threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    cells.run(all_cells(), lambda name, cell: train(args, name, cell), args.output_dir, args.cells)


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Train the networks of the distorted-MNIST table.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cells", nargs="+", default=["*"], help="names, wildcards allowed")
    parser.add_argument("--epochs", type=int, help="default: by classifier")
    parser.add_argument("--threads", type=int, help="of TensorFlow; default: one per core")
    parser.add_argument("--precision", choices=precision.CHOICES, default="auto")
    parser.add_argument("--output-dir", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args(arguments)
    args.load = mnist.load
    return args


if __name__ == "__main__":
    main()
