"""What a transformer gains on CIFAR-10 under rotation, scaling and translation.

    python -m examples.distorted_cifar10

trains `models.cifar10_stn` on rotated images (R), and on rotated, scaled and translated images
(RTS), in four variants with three seeds each:

- `images`: the transformer warps the images;
- `features`: the same localization network looks at the images, but the transformer warps the
  feature maps behind the first convolution, which a rotation cannot make upright
  ([Finnveden et al., 2020](https://arxiv.org/abs/2004.11678));
- `frozen`: the transformer stays at the identity;
- `cnn`: no transformer, and correspondingly more parameters in the dense layer.

Each cell, `<variant>-<distortion>-<seed>`, becomes one file of `results/distorted_cifar10/`;
`examples/distorted_mnist.py` says more. The recipe is `train.py`'s `tuned`, without its crops;
files of earlier versions call it `untaught`.
"""

import itertools
import pathlib

from examples import cells
from stn_keras.data import cifar10
from stn_keras.training.recipes import RECIPES

FOLDER = pathlib.Path(__file__).parents[1] / "results" / "distorted_cifar10"
HELD_OUT = 2_000
RECIPE = RECIPES["tuned"]
EPOCHS = 20
VARIANTS = {
    "cnn": {"transformer": False, "units": 1142},
    "images": {},
    "frozen": {},
    "features": {"warped": "features"},
}


def table():
    """Settings of all cells by name."""
    return {
        f"{variant}-{distortion}-{seed}": {
            "model": variant,
            "distortion": distortion,
            "seed": seed,
        }
        for seed, distortion, variant in itertools.product(range(3), ("R", "RTS"), VARIANTS)
    }


def build(variant):
    model = RECIPE.model(**VARIANTS[variant])
    if variant == "frozen":
        model.get_layer("transformer").trainable = False
    return model


def train(cell, path, epochs, folder):
    """Trains one cell's network; returns its errors in % and what it was trained with."""
    data = cells.split(cifar10.load(), HELD_OUT, cell["distortion"])
    model = build(cell["model"])
    results = cells.train(
        model,
        RECIPE.optimizer,
        data,
        cell["distortion"],
        folder,
        epochs=epochs or EPOCHS,
        batch_size=RECIPE.batch_size,
        seed=cell["seed"],
        flip=RECIPE.flip,
    )
    if cell["model"] == "images" and cell["seed"] == 0:
        cells.save_pictures(path.with_suffix(".npz"), model, *data[2])
    return {**results, "recipe": "tuned", "peak": RECIPE.peak}


def main(arguments=None):
    description = "Train the CIFAR-10 network and its variants on distorted images."
    names = cifar10.CLASS_NAMES
    cells.main("examples.distorted_cifar10", description, FOLDER, table(), train, names, arguments)


if __name__ == "__main__":
    main()
