"""A network that reads words, with or without a spatial transformer, and what it is measured by."""

import keras
import numpy as np
from keras import layers

from stn_keras import SpatialTransformer, localization, transforms
from stn_keras.data import words

SEEN = (32, 96)  # the size that the reader sees
FILTERS = (16, 32, 48, 64, 96)
WIDE = (24, 48, 64, 96, 128)  # about as many parameters as with a localization network
# A transformer begins with the picture's inner part, so that all its control points get gradients.
START = 0.8
# A step of Adam moves theta by up to the learning rate times the sum of the localization network's
# last features, which are scaled by this factor.
FEATURES = 0.3


def build(transform=None, filters=FILTERS, size=words.SIZE, transformer=SpatialTransformer):
    """A functional model from pictures, `(batch, *size, 1)` in 0 … 255, to logits of a blank and 26
    letters in 24 columns, `(batch, 24, 27)`, for `keras.losses.CTC`.

    The transformer gives the reader an image of 32×96; without one, a resizing does. `transformer`
    is the layer's class.
    """
    images = keras.Input((*size, 1), name="images")
    x = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(images)
    if transform is not None:
        settings = {"output_size": SEEN, "fill_mode": "nearest", "name": "transformer"}
        x = transformer(localize(transform), transform=transform, **settings)(x)
    elif size != SEEN:
        x = layers.Resizing(*SEEN)(x)
    for count, pool in zip(filters[:-1], ((2, 2), (2, 2), (2, 1), None)):
        x = convolution(x, count)
        x = layers.MaxPooling2D(pool)(x) if pool else x
    x = layers.Conv2D(filters[-1], (x.shape[1], 3), padding="valid", activation="relu")(
        layers.ZeroPadding2D((0, 1))(x)
    )
    x = layers.Reshape(x.shape[2:])(x)
    x = layers.Dropout(0.2)(x)
    logits = layers.Dense(len(words.ALPHABET) + 1, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="word_reader")


def localize(transform):
    """The localization network."""
    images = keras.Input((*words.SIZE, 1))
    x = layers.AveragePooling2D(2)(images)
    for count in (16, 32, 64):
        x = layers.MaxPooling2D(2)(convolution(x, count))
    x = layers.Dense(64, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))  # without it, all of them die
    x = layers.Rescaling(FEATURES)(x)
    theta = localization.head(transform, start=start(transform))(x)
    return keras.Model(images, theta, name="localization")


def start(transform):
    """The `theta` that crops the picture to `START` of its width and height."""
    if isinstance(transform, transforms.ThinPlateSpline):
        return (START - 1) * control_points(transform).reshape(-1)
    return np.where(transform.identity == 1, START, transform.identity)


def control_points(spline):
    """The control points of a `ThinPlateSpline`, `(n, 2)`, row by row."""
    rows, columns = (np.linspace(-1, 1, count) for count in spline.control_points)
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)


def convolution(x, filters):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


class Reading(keras.callbacks.Callback):
    """Adds the share of words that are read right to the logs of every epoch."""

    def __init__(self, images, labels, prefix="val"):
        super().__init__()
        self.images, self.labels, self.prefix = images, labels, prefix

    def on_epoch_end(self, epoch, logs):
        right = read(self.model, self.images) == words.spell(self.labels)
        logs[f"{self.prefix}_word_accuracy"] = float(np.mean(right))


def read(model, images):
    """The words that a model reads, an array of strings."""
    return words.decode(model.predict(images, 500, verbose=0))


def draw(panels, images, read, true, name):
    """Draws a row of words with what was read, in orange where that is wrong."""
    for panel, image, word, right in zip(panels, images, read, true):
        panel.imshow(image[..., 0], cmap="gray", interpolation="nearest", aspect="auto")
        panel.set(xticks=[], yticks=[])
        color = "black" if word == right else "#d55e00"
        panel.set_xlabel(word, fontsize=11, color=color, family="monospace")
    panels[0].set_ylabel(name, fontsize=11)


def character_errors(read, true):
    """Edits that turn the words read into the true ones, per true letter."""
    return sum(map(edits, read, true)) / sum(map(len, true))


def edits(first, second):
    """Insertions, deletions and substitutions between two words (Levenshtein distance)."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def unevenness(lines):
    """How far words are from straight and level, `(n,)`, in letter heights.

    `lines`, `(n, 2, points, 2)`, are the baseline and the line at the height of a letter x. It is
    the root mean square of the distances from the horizontal line that fits best, for both lines.
    Points that are NaN do not count; a word without points is NaN.
    """
    y = lines[..., 1]
    height = np.nanmean(np.abs(y[:, 0] - y[:, 1]), axis=-1)
    return np.sqrt(np.nanmean(np.nanvar(y, axis=-1), axis=-1)) / height


def warped_lines(model, images, lines):
    """The lines in the images that a model's transformer returns, NaN where it does not look."""
    transformer = model.get_layer("transformer")
    before = keras.Model(model.inputs, transformer.input)
    count, both, points, axes = lines.shape
    found = []
    for start in range(0, len(images), 500):
        chosen = slice(start, start + 500)
        warp = transformer.warp(before(images[chosen]))
        found.append(np.asarray(warp.to_output(lines[chosen].reshape(-1, both * points, axes))))
    return np.concatenate(found).reshape(lines.shape)
