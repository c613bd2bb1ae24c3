"""What a transformer gains on CIFAR-10 under rotation, scaling and translation.

    python -m examples.distorted_cifar10

trains networks on rotated images (R), and on rotated, scaled and translated images (RTS), with
three seeds each. Four are variants of `models.cifar10_stn`:

- `images`: the transformer warps the images;
- `features`: the same localization network looks at the images, but the transformer warps the
  feature maps behind the first convolution, which a rotation cannot make upright
  ([Finnveden et al., 2020](https://arxiv.org/abs/2004.11678));
- `frozen`: the transformer stays at the identity;
- `cnn`: no transformer, and correspondingly more parameters in the dense layer.

Two have as many parameters, but 16 and 32 filters and a smaller dense layer:

- `wide`: no transformer;
- `orientation`: the transformer turns the images by an `Orientation`, which learns without labels.
  Their files also have the correlation of the angles found with the true ones, and the standard
  deviation of those found, in degrees.

Each cell, `<variant>-<distortion>-<seed>`, becomes one file of `results/distorted_cifar10/`;
`examples/distorted_mnist.py` says more. The recipe is `train.py`'s `tuned`, without its crops;
files of earlier versions call it `untaught`.
"""

import itertools
import math
import pathlib

import keras
import numpy as np
from keras import layers

from examples import cells
from stn_keras import Orientation, SpatialTransformer, models
from stn_keras.data import cifar10, distortions
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
    "wide": {},
    "orientation": {},
}
FILTERS, PARAMETERS = (16, 32), 473_100  # of the wide classifier
MAX_ROTATION = {"R": math.pi / 2, "RTS": math.pi / 4}


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


def build(variant, distortion="R"):
    if variant == "wide":
        return wide()
    if variant == "orientation":
        return wide(MAX_ROTATION[distortion])
    model = RECIPE.model(**VARIANTS[variant])
    if variant == "frozen":
        model.get_layer("transformer").trainable = False
    return model


def wide(max_rotation=None):
    """The wide classifier, with `max_rotation` behind a transformer that turns the images."""
    images = models.square_images(32, channels=3)
    x = models.normalization()(images)
    if max_rotation is not None:
        orientation = Orientation(features(), max_rotation, disc=False)
        scale = RECIPE.gradient_scale
        x = SpatialTransformer(
            orientation, transform="rigid", gradient_scale=scale, name="transformer"
        )(x)
    for filters in FILTERS:
        x = layers.Conv2D(filters, 5)(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    left = PARAMETERS - keras.Model(images, x).count_params()
    x = layers.Dense(models.dense_units(left, x.shape[1], hidden=1), activation="relu")(x)
    x = layers.Dropout(RECIPE.dropout)(x)
    return keras.Model(images, layers.Dense(10, dtype="float32", name="logits")(x))


def features():
    """What `Orientation` sees of an image: three convolutions of the image at half its size."""
    network = keras.Sequential([layers.AveragePooling2D(2)])
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        network.add(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
        network.add(layers.BatchNormalization())
        network.add(layers.ReLU())
    network.add(layers.Flatten())
    return network


def true_angles(count, distortion, seed):
    """The angles in radians that turn `distortions.fixed` images back, read off ramps."""
    ramps = np.tile(8 * np.arange(32, dtype="uint8")[:, None], (count, 32, 1, 1))
    middle = distortions.fixed(ramps, distortion, seed)[:, 13:19, 13:19, 0].astype("float32")
    across, down = (np.diff(middle, axis=axis).mean(axis=(1, 2)) for axis in (2, 1))
    return np.arctan2(down, across)


def angles(model, images, distortion):
    """How the angles found in test images agree with the true ones."""
    transformer = model.get_layer("transformer")
    theta = keras.Model(model.inputs, transformer.localization(transformer.input))
    found = theta.predict(images, 500, verbose=0)[:, 0]
    true = true_angles(len(images), distortion, cells.TEST_SEED)
    return {
        "angle_correlation": round(np.corrcoef(found, true)[0, 1], 4),
        "angle_deviation": round(math.degrees(found.std()), 2),
    }


def train(cell, path, epochs, folder):
    """Trains one cell's network; returns its errors in % and what it was trained with."""
    data = cells.split(cifar10.load(), HELD_OUT, cell["distortion"])
    model = build(cell["model"], cell["distortion"])
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
    if cell["model"] == "orientation":
        results |= angles(model, data[2][0], cell["distortion"])
    if cell["model"] in ("images", "orientation") and cell["seed"] == 0:
        cells.save_pictures(path.with_suffix(".npz"), model, *data[2])
    return {**results, "recipe": "tuned", "peak": RECIPE.peak}


def main(arguments=None):
    description = "Train the CIFAR-10 network and its variants on distorted images."
    names = cifar10.CLASS_NAMES
    cells.main("examples.distorted_cifar10", description, FOLDER, table(), train, names, arguments)


if __name__ == "__main__":
    main()
