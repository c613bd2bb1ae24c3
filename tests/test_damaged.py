"""Damaged files of a run: each ends in one sentence that names the file and the remedy."""

import pathlib

import keras
import numpy as np
import pytest

from stn_keras import history, predict, resume, saved
from stn_keras.system import files

HISTORY = b"epoch,accuracy,loss\r\n0,0.5,0.9\r\n1,0.6,0.8\r\n"
CONFIG = b'{"classes": ["ant", "bee", "cat"]}'


def compiled(units=4, optimizer="adam"):
    layers = [keras.Input((6,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(units)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def fit(model, callback):
    images = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    targets = np.zeros((8, model.output_shape[-1]), "float32")
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    return model.fit(images, targets, callbacks=[callback], **options).history["loss"]


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    path = tmp_path_factory.mktemp("backup") / "unfinished.npz"
    fit(compiled(), resume.Backup(path))
    return path.read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best.keras"
    compiled().save(path)
    return path.read_bytes()


@pytest.fixture
def run(tmp_path, backup, model):
    contents = {
        "unfinished.npz": backup,
        "history.csv": HISTORY,
        "config.json": CONFIG,
        "best.keras": model,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


READERS = {
    "unfinished.npz": lambda path: resume.restore(path, compiled()),
    "history.csv": history.read,
    "config.json": lambda path: predict.class_names(path.parent / "best.keras", 3),
    "best.keras": saved.load,
}
each = pytest.mark.parametrize("name", READERS)


@each
def test_whole_files_are_read(run, name):
    assert READERS[name](run / name) is not None


def in_a_sentence(path, read):
    """Asserts that reading fails with a sentence that names the path, a cause and a remedy."""
    with pytest.raises(files.FileError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message and "; " in message and "\n" not in message
    assert len(message) < 200 + len(str(path))
    return message


@each
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated(run, name, share):
    path = run / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    in_a_sentence(path, READERS[name])


@each
def test_a_folder_in_its_place(run, name):
    (run / name).unlink()
    (run / name).mkdir()
    assert "is a folder" in in_a_sentence(run / name, READERS[name])


@each
@pytest.mark.parametrize("content", [b"\0" * 100, b"\xff\xfe\xff", b"[1, 2]", b"{}", b"<html>"])
def test_something_else_in_its_place(run, name, content):
    (run / name).write_bytes(content)
    if (name, content) == ("config.json", b"{}"):  # says nothing of classes: they are numbered
        assert READERS[name](run / name) is None
    else:
        in_a_sentence(run / name, READERS[name])


@pytest.mark.parametrize("name", ["unfinished.npz", "best.keras"])
def test_flipped_bytes(run, rng, name):
    """Any damage gives an error in one sentence, or the result if nothing important was hit."""
    path = run / name
    content = np.frombuffer(path.read_bytes(), "uint8")
    for _ in range(20):
        damaged = content.copy()
        places = rng.integers(0, len(content), 5)
        damaged[places] ^= rng.integers(1, 256, 5).astype("uint8")
        path.write_bytes(damaged.tobytes())
        try:
            READERS[name](path)
        except files.FileError as error:
            assert path.name in str(error) and "; " in str(error)


def test_a_backup_of_another_run(tmp_path, backup):
    path = tmp_path / "unfinished.npz"
    path.write_bytes(backup)
    for model in (compiled(units=5), compiled(optimizer="sgd")):
        before = model.get_weights()
        message = in_a_sentence(path, lambda path, model=model: resume.restore(path, model))
        assert "another model" in message
        for found, wanted in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_backup_is_gone_on_from_on_every_backend(tmp_path):
    """With the moments of the optimizer and the seeds of dropout."""
    path = tmp_path / "unfinished.npz"
    model, other = compiled(), compiled()
    fit(model, resume.Backup(path))
    assert resume.restore(path, other) == 1
    losses = [fit(one, keras.callbacks.Callback()) for one in (model, other)]
    assert losses[0] == losses[1]
    for found, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "content, words",
    [
        (HISTORY.replace(b"0.6", b"NA"), "NA"),
        (HISTORY[:-8], "cut short"),
        (HISTORY + b"2,0.6\r\n", "cut short"),
        (HISTORY + b"2,0.6,0.7,0.8\r\n", "cut short"),
        (b"epoch,loss\r\n", "no epochs"),
    ],
)
def test_histories(tmp_path, content, words):
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    assert words in in_a_sentence(path, history.read)


def test_a_history_is_cut_only_where_it_has_all_epochs(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(HISTORY)
    assert "not all epochs" in in_a_sentence(path, lambda path: history.cut(path, 3))
    assert path.read_bytes() == HISTORY
    history.cut(path, 2)
    assert path.read_bytes() == HISTORY


@pytest.mark.parametrize(
    "content, words",
    [
        (b'{"classes": 3}', "no names"),
        (b'{"classes": [1, 2, 3]}', "no names"),
        (b'{"classes": ["a"]}', "1 class and not 3"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_settings_of_another_model(tmp_path, content, words):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert words in in_a_sentence(path, READERS["config.json"])


@each
def test_a_file_that_is_missing_is_no_damaged_one(tmp_path, name):
    path = tmp_path / name
    if name == "config.json":
        assert READERS[name](path) is None
    elif name == "best.keras":
        assert "there is no file" in in_a_sentence(path, saved.load)
    else:
        with pytest.raises(FileNotFoundError) as caught:
            READERS[name](path)
        assert files.explain(caught.value) == f"{path} does not exist; check the path"


def test_settings(tmp_path):
    pathlib.Path(tmp_path / "config.json").write_bytes(CONFIG)
    assert files.read_settings(tmp_path / "config.json") == {"classes": ["ant", "bee", "cat"]}
