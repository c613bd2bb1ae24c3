"""What a transformer gains on CIFAR-10 under rotation, scaling and translation.

    python -m examples.distorted_cifar10

trains networks on rotated images (R), and on rotated, scaled and translated images (RTS), with
three seeds each. Four of them are variants of `models.cifar10_stn`:

- `images`: the transformer warps the images.
- `features`: the localization network sees the images, but the transformer warps the feature maps
  after the first convolution. A rotation cannot make these upright
  ([Finnveden et al., 2020](https://arxiv.org/abs/2004.11678)).
- `frozen`: the transformer stays at the identity.
- `cnn`: no transformer; the dense layer has more units, for the same number of parameters.

The other four have as many parameters, but 16 and 32 filters, a smaller dense layer and less
dropout:

- `wide`: no transformer.
- `orientation`: the transformer turns the images by an `Orientation`, which learns without labels.
- `supervised`: the same localization network, but it learns the true angles as labels.
- `given`: the transformer turns the images by the true angles, in training and in tests.

In the last three, no gradient of the classification loss reaches the localization network.
`supervised` and `given` show what a transformer that only turns images could gain. The files of
`orientation` and `supervised` also have the correlation of the angles found with the true ones,
and the standard deviation of those found, in degrees.

The results of `<variant>-<distortion>-<seed>` are a file in `results/distorted_cifar10/`;
`examples/distorted_mnist.py` explains the flags. The recipe is `tuned` of `train.py`, without its
crops; files of earlier versions call it `untaught`.
"""

import itertools
import math
import pathlib

import keras
import numpy as np
from keras import layers, ops

from examples import cells
from stn_keras import Orientation, SpatialTransformer, models
from stn_keras.data import cifar10, distortions
from stn_keras.layers.orientation import rotation
from stn_keras.recipes import RECIPES

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
    "supervised": {},
    "given": {},
}
CEILINGS = "supervised", "given"
FILTERS, DROPOUT, PARAMETERS = (16, 32), 0.1, 473_100  # of the wide classifier
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
    if variant in CEILINGS:
        return ceiling(supervised=variant == "supervised")
    model = RECIPE.model(**VARIANTS[variant])
    if variant == "frozen":
        model.get_layer("transformer").trainable = False
    return model


def wide(max_rotation=None):
    """The wide classifier, with `max_rotation` behind a transformer that turns the images."""
    images = models.square_images(32, channels=3)
    x = models.normalization()(images)
    if max_rotation is not None:
        x = transformer(Orientation(features(), max_rotation, disc=False))(x)
    return classifier(images, x)


def ceiling(supervised):
    """The wide classifier behind a transformer that has the true angle, or learns it as a label.

    The model's images have a fourth channel, a ramp.
    """
    images = models.square_images(32, channels=4)
    x = models.normalization()(images[..., :3])
    theta = TrueRotation()(images[..., 3:])
    if supervised:
        found = layers.Dense(2, dtype="float32")(features()(x))
        theta = Supervised()([found, theta])
    return classifier(images, transformer()([x, theta]))


def transformer(localization=None):
    return SpatialTransformer(
        localization,
        transform="rigid",
        interpolation="bicubic",  # sharper; the distortion has blurred the images already
        gradient_scale=0,
        name="transformer",
    )


def classifier(images, x):
    for filters in FILTERS:
        x = layers.Conv2D(filters, 5)(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    left = PARAMETERS - keras.Model(images, x).count_params()
    x = layers.Dense(models.dense_units(left, x.shape[1], hidden=1), activation="relu")(x)
    x = layers.Dropout(DROPOUT)(x)
    return keras.Model(images, layers.Dense(10, dtype="float32", name="logits")(x))


def features():
    """The features of a localization network: three convolutions of the image at half its size."""
    network = keras.Sequential([layers.AveragePooling2D(2)])
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        network.add(layers.Conv2D(filters, 3, strides, padding="same", activation="relu"))
    network.add(layers.Flatten())
    return network


@keras.saving.register_keras_serializable("examples")
class Supervised(keras.Layer):
    """The rotation by an angle with a given cosine and sine, learned from the true rotation."""

    def call(self, inputs, training=False):
        found, true = inputs
        if training:
            wanted = ops.stack([ops.cos(true[:, 0]), ops.sin(true[:, 0])], axis=1)
            self.add_loss(ops.mean(ops.sum((found - wanted) ** 2, axis=1)))
        return rotation(ops.arctan2(found[:, 1], found[:, 0]))


@keras.saving.register_keras_serializable("examples")
class TrueRotation(keras.Layer):
    """The rotation that turns images back, measured on ramps that were distorted with them.

    A ramp gets brighter downwards, so a horizontal flip before the distortion does not change it.
    """

    def call(self, ramps):
        middle = ramps[:, 13:19, 13:19, 0]
        across, down = (ops.mean(ops.diff(middle, axis=axis), axis=(1, 2)) for axis in (2, 1))
        return rotation(-ops.arctan2(across, down))


def ramps(count):
    return np.tile(8 * np.arange(32, dtype="uint8")[:, None, None], (count, 1, 32, 1))


def true_angles(count, distortion, seed):
    """The angles in radians that turn `distortions.fixed` images back."""
    distorted = distortions.fixed(ramps(count), distortion, seed).astype("float32")
    return ops.convert_to_numpy(TrueRotation()(distorted))[:, 0]


def angles(model, images, distortion):
    """The angles in radians found in test images, and the true ones."""
    transformer = model.get_layer("transformer")
    localization = transformer.localization
    theta = localization(transformer.input) if localization else transformer.input[1]
    found = keras.Model(model.inputs, theta).predict(images, 500, verbose=0)[:, 0]
    return {"found": found, "true": true_angles(len(images), distortion, cells.TEST_SEED)}


def agreement(found, true):
    return {
        "angle_correlation": round(np.corrcoef(found, true)[0, 1], 4),
        "angle_deviation": round(math.degrees(found.std()), 2),
    }


def load(variant):
    """CIFAR-10; for a ceiling, with ramps as a fourth channel."""
    data = cifar10.load()
    if variant not in CEILINGS:
        return data
    return [
        (np.concatenate([images, ramps(len(images))], axis=-1), labels) for images, labels in data
    ]


def train(cell, path, epochs, folder):
    """Trains one cell's network; returns its errors in % and what it was trained with."""
    data = cells.split(load(cell["model"]), HELD_OUT, cell["distortion"])
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
    found = {}
    if cell["model"] in ("orientation", "supervised"):
        found = angles(model, data[2][0], cell["distortion"])
        results |= agreement(**found)
    if cell["model"] in ("images", "orientation") and cell["seed"] == 0:
        cells.save_pictures(path.with_suffix(".npz"), model, *data[2], **found)
    return {**results, "recipe": "tuned", "peak": RECIPE.peak}


def main(arguments=None):
    description = "Train the CIFAR-10 network and its variants on distorted images."
    names = cifar10.CLASS_NAMES
    cells.main("examples.distorted_cifar10", description, FOLDER, table(), train, names, arguments)


if __name__ == "__main__":
    main()
