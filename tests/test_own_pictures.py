"""`train.py --images`: a real run on a folder of real images, and its error messages."""

import csv
import json
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

import train
from stn_keras.__main__ import main
from stn_keras.data import cifar10
from tests.test_train import events, files

pytestmark = pytest.mark.slow

KINDS = [("RGB", "png"), ("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "gif")]


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """Runs in a folder of its own, without CIFAR-10, and leaves Keras's settings alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar10, "load", lambda data_dir: pytest.fail("CIFAR-10 was loaded"))
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def shades(rng):
    """A folder of dark and of light pictures, of many kinds and sizes; two are damaged."""
    folder = pathlib.Path("shades")
    for name, level in (("dark", 0), ("light", 160)):
        (folder / name).mkdir(parents=True)
        for k in range(20):
            mode, suffix = KINDS[k % len(KINDS)]
            size = rng.integers(20, 90, 2)
            noise = level + rng.integers(0, 90, (*size, 3))
            image = Image.fromarray(noise.astype("uint8")).convert(mode)
            image.save(folder / name / f"{k}.{suffix}")
    path = folder / "dark" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    (folder / "light" / "notes.txt").write_text("no picture")
    return folder


def test_a_run_on_pictures_of_ones_own(shades, capsys):
    flags = ["--images", "shades", "--image-size", "40", "--epochs", "2", "--run", "a"]
    assert train.main([*flags, "--precision", "float32"]) == 0
    captured, folder = capsys.readouterr(), pathlib.Path("saved_models/a")
    skipped = [line for line in captured.err.splitlines() if line.startswith("Skipped: ")]
    assert len(skipped) == 2
    assert "dark/1.jpg" in captured.err and "light/notes.txt" in captured.err
    assert "Validation accuracy after 2 epochs" in captured.out
    assert "no test pictures" in captured.out
    found = "shades: 2 classes (dark, light), 39 images: 31 for training, 8 for validation; "
    assert found + "2 files skipped\n" in captured.out and "cifar" not in captured.out
    assert "Warning: the validation accuracy rests on 8 images only" in captured.err
    assert "% of 8 images (no test pictures" in captured.out

    expected = "best.keras config.json curves.png history.csv last.keras warps.png"
    assert files(folder) == expected.split()
    settings = json.loads((folder / "config.json").read_text())
    assert settings["classes"] == ["dark", "light"] and settings["image_size"] == 40
    assert settings["validation_images"] == 8  # a fifth of 39, rounded up
    assert settings["recipe"] == "tuned" and settings["batch_size"] == 16
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and not any(name.startswith("test") for name in rows[0])
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert keras.models.load_model(folder / "best.keras").input_shape == (None, 40, 40, 3)
    warps = events(pathlib.Path("logs/a/transformer")).Tags()["tensors"]
    assert "transformer/warps" in warps and "transformer/scale_x_mean" in warps

    Image.fromarray(np.full((70, 50), 10, "uint8")).save("new.png")
    assert main(["predict", str(folder / "best.keras"), "new.png"]) == 0
    printed = capsys.readouterr().out
    assert "dark" in printed and "light" in printed and "new.png.transformer.png" in printed


def test_folders_without_classes(capsys):
    pathlib.Path("flat").mkdir()
    Image.new("RGB", (9, 9)).save("flat/a.png")
    for name in ("flat", "nowhere"):
        assert train.main(["--images", name]) == 1
        message = capsys.readouterr().err
        assert f"train.py: {name} " in message and "pictures/cat/1.jpg" in message
        assert "Traceback" not in message


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--images", "shades", "--image-size", "17"], "from 18"),
        (["--images", "shades", "--validation-images", "40"], "less than the 39 images"),
    ],
)
def test_flags_that_cannot_be_meant(shades, capsys, flags, words):
    try:
        status = train.main([*flags, "--run", "a"])
    except SystemExit as error:  # argparse's own
        status = error.code
    assert status and words in capsys.readouterr().err


def test_a_resumed_run_keeps_its_pictures(shades, capsys, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", stop)
    assert train.main(["--images", "shades", "--image-size", "20", "--run", "a"]) == 130
    assert capsys.readouterr().err.endswith("--run a --resume\n")
    assert train.main(["--run", "a", "--resume"]) == 130
    assert "shades: 2 classes" in capsys.readouterr().out
    shades.rename("moved")
    assert train.main(["--run", "a", "--resume"]) == 1
    assert "shades is not a folder" in capsys.readouterr().err
    assert train.main(["--run", "a", "--resume", "--images", "moved"]) == 130
    assert capsys.readouterr().err.endswith("--run a --resume --images moved\n")
