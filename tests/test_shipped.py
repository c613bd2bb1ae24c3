"""The trained models in `saved_models/`."""

import json
import pathlib
import re
import shutil
import subprocess
import zipfile

import numpy as np
import pytest

from stn_keras import predict, saved
from stn_keras.__main__ import main
from stn_keras.data import pictures, words
from stn_keras.observe import transformers

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "saved_models"
MODELS = ["cifar10/best", "mnist_rts/last", "mnist_rts/plain"]


def settings_of(name):
    folder, _, model = name.partition("/")
    settings = json.loads((FOLDER / folder / "config.json").read_text())
    return settings["plain"] if model == "plain" else settings


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_as_accurate_as_its_settings_say(name):
    path = FOLDER / f"{name}.keras"
    model, settings = saved.load(path), settings_of(name)
    assert bool(transformers(model)) == (not name.endswith("plain"))
    assert path.stat().st_size < 2_100_000
    with np.load(path.with_name("test_images.npz")) as arrays:
        images = arrays["distorted" if name.startswith("mnist") else "images"]
        labels = arrays["labels"]
    assert len(labels) == len(images) == 200
    right = predict.Classifier(model).probabilities(images.astype("float32")).argmax(1) == labels
    assert round(float(right.mean()), 6) == settings["test_accuracy_of_shipped_images"]
    assert abs(settings["test_accuracy"] - right.mean()) < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_saved_by_the_lowest_version_of_keras_allowed(name):
    """Files of later versions hold settings that earlier versions do not know."""
    with zipfile.ZipFile(FOLDER / f"{name}.keras") as file:
        version = json.loads(file.read("metadata.json"))["keras_version"]
    lowest = re.search(r'"keras>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"{version}.".startswith(f"{lowest}.")


@pytest.mark.parametrize("name", MODELS)
def test_the_settings_say_how_a_model_was_trained(name):
    settings = settings_of(name)
    for key in ("seed", "epochs", "command", "classes", "keras", "tensorflow", "stn_keras"):
        assert settings[key] is not None
    assert settings["command"].startswith("python ") and len(settings["classes"]) == 10


@pytest.mark.parametrize("folder", ["cifar10", "mnist_rts"])
def test_history_and_figures_are_shipped(folder):
    names = {path.name for path in (FOLDER / folder).iterdir()}
    assert names >= {"config.json", "history.csv", "curves.png", "warps.png", "test_images.npz"}
    rows = (FOLDER / folder / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + settings_of(f"{folder}/")["epochs"]


def test_a_shipped_model_predicts_a_cat(tmp_path, capsys):
    command = ["predict", str(FOLDER / "cifar10" / "best.keras")]
    picture = str(ROOT / "docs" / "pictures" / "cat.png")
    assert main([*command, picture, "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("%  cat")
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png.transformer.png"]


@pytest.mark.skipif(
    not shutil.which("git") or not (ROOT / ".git").exists(), reason="not a copy of git's"
)
def test_git_ignores_the_runs_of_a_user_and_nothing_that_is_shipped():
    def ignored(*names):
        paths = [f"saved_models/{name}" for name in names]
        run = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True)
        return run.stdout.decode().split() == paths

    assert ignored("run/best.keras", "run/config.json", "cifar10/best.onnx", "cat.keras")
    assert not any(map(ignored, (f"{name}.keras" for name in MODELS)))


@pytest.mark.parametrize("name", ["last", "plain"])
def test_the_shipped_readers_read_a_word(name):
    path = FOLDER / "read_text" / f"{name}.keras"
    reader = saved.load(path)
    assert bool(transformers(reader)) == (name == "last")
    assert path.stat().st_size < 2_000_000
    picture = pictures.read(ROOT / "docs" / "pictures" / "word.png", words.SIZE, channels=1)
    assert words.decode(reader(picture[np.newaxis])) == ["keras"]
