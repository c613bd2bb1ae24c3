"""The training, validation and test images of `train.py`."""

import dataclasses
import math
from typing import NamedTuple

import keras
import numpy as np

from stn_keras.data import cifar10, pictures
from stn_keras.training.runs import UsageError


class Split(NamedTuple):
    """Images, uint8 `(n, height, width, 3)`, and their one-hot labels, `(n, classes)`."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass
class Splits:
    """Training, validation and test images of a data set.

    The validation images select the best epoch and the settings. The test images select nothing.
    """

    name: str
    classes: list
    training: Split
    validation: Split
    test: Split | None  # None if there are no test images
    skipped: list = dataclasses.field(default_factory=list)  # why files could not be read

    @property
    def shown(self):
        """The images for figures: test or validation images, on which the model is not trained."""
        return (self.test or self.validation).images


def load(folder=None, *, image_size=32, validation_images=None, data_dir=None):
    """Loads CIFAR-10, or the images of a folder.

    The folder has a subfolder for each class, or the subfolders `train`, `val` and `test` with a
    subfolder for each class. Without `val`, the last training images are held out for validation.

    `validation_images` are held out, by default 2,000 of CIFAR-10 and a fifth of a folder.

    Raises a `UsageError` if that leaves nothing to train on, or is given although the folder has
    `val`; a `PictureError` if the folder can't be used; a `DataError` if CIFAR-10 can't be loaded.
    """
    if folder is None:
        (images, labels), test = cifar10.load(data_dir)
        training, validation = _hold_out(images, labels, validation_images or 2000)
        return _splits("CIFAR-10", list(cifar10.CLASS_NAMES), training, validation, test)
    folders = pictures.split_folders(folder)
    *training, classes, skipped = pictures.load(folders.pop("train", folder), image_size)
    others = {}
    for name, path in folders.items():
        *others[name], _, unreadable = pictures.load(path, image_size, classes)
        skipped = skipped + unreadable
    validation, test = others.get("val"), others.get("test")
    if validation is None:
        images, labels = training
        count = validation_images or math.ceil(len(images) / 5)
        training, validation = _hold_out(images, labels, count)
    elif validation_images not in (None, len(validation[0])):
        raise UsageError(
            f"--validation-images holds training images out, but {folders['val']} has the "
            f"validation images. Received: {validation_images}"
        )
    return _splits(str(folder), classes, training, validation, test, skipped)


def _hold_out(images, labels, count):
    rest = len(images) - count
    if rest < 1:
        raise UsageError(
            f"--validation-images must be less than the {len(images)} images there are. "
            f"Received: {count}"
        )
    return (images[:rest], labels[:rest]), (images[rest:], labels[rest:])


def _splits(name, classes, training, validation, test, skipped=()):
    def one_hot(images, labels):
        return Split(images, keras.utils.to_categorical(labels, len(classes)))

    return Splits(
        name,
        classes,
        training=one_hot(*training),
        validation=one_hot(*validation),
        test=one_hot(*test) if test else None,
        skipped=list(skipped),
    )
