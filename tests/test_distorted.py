"""The runs on distorted images, on a tiny task; tests/test_results.py tests their tables."""

import csv
import fcntl
import json

import keras
import numpy as np
import pytest

from examples import cells, distorted_cifar10, distorted_mnist
from results import distorted
from stn_keras import grid_sample, history, transforms
from stn_keras.data import cifar10, distortions, mnist

pytestmark = pytest.mark.slow


def bars(channels, side):
    """A loader of a tiny data set: which of two halves is lit."""

    def load(data_dir=None):
        rng = np.random.default_rng(0)
        images, labels = (
            rng.integers(0, 60, (48, side, side, channels), np.uint8),
            np.arange(48) % 2,
        )
        for image, label in zip(images, labels):
            image[6:-6, side // 2 * label : side // 2 * (label + 1)] += 190
        return (images, labels), (images[:16], labels[:16])

    return load


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mnist, "load", bars(1, 28))
    monkeypatch.setattr(cifar10, "load", bars(3, 32))
    for module in (distorted_mnist, distorted_cifar10):
        monkeypatch.setattr(module, "HELD_OUT", 16)


def read(path):
    with path.open() as file:
        (row,) = csv.DictReader(file)
    return row


def run(module, folder, *names):
    flags = ["--epochs", "1", "--precision", "float32", "--output-dir", str(folder)]
    flags += ["--models", str(folder / "models")]
    module.main([*flags, "--cells", *names])
    return {path.stem: read(path) for path in folder.glob("*.csv")}


def test_the_table_has_the_papers_cells_and_the_most_wanted_first():
    names = list(distorted_mnist.table())
    assert len(names) == len(set(names)) == 3 * len(distorted.read_paper())
    assert names[:2] == ["cnn-R-0", "st-cnn-affine-R-0"]
    assert all(name.startswith(("cnn", "st-cnn-affine")) for name in names[:30])
    assert all(name.endswith("-0") for name in names[30 : len(distorted.read_paper()) + 20])
    assert {name.rpartition("-")[0] for name in names} == {
        f"{model}-{distortion}" for model, distortion in distorted.read_paper()
    }


def test_a_cell_is_trained_once_and_says_how(tiny, tmp_path, capsys):
    rows = run(distorted_mnist, tmp_path, "st-fcn-affine-TC-0", "fcn-R-1")
    assert sorted(rows) == ["fcn-R-1", "st-fcn-affine-TC-0"]
    row = rows["st-fcn-affine-TC-0"]
    assert 0 <= float(row["test_error"]) <= 100 and float(row["seconds"]) > 0
    assert abs(int(row["parameters"]) - 400_000) < 2_000
    expected = {"distortion": "TC", "seed": "0", "epochs": "1", "precision": "float32"}
    assert {name: row[name] for name in expected} == expected
    assert "examples.distorted_mnist" in row["command"] and row["keras"] and row["optimizer"]
    pictures = np.load(tmp_path / "st-fcn-affine-TC-0.npz")
    assert pictures["images"].shape == (8, 60, 60, 1)
    assert pictures["warped"].shape == (8, 28, 28, 1)
    assert pictures["mean_images"].shape == (2, 60, 60, 1)
    assert np.ptp(pictures["images"]) == 255
    check_saved(tmp_path / "models" / "st-fcn-affine-TC-0", row)
    capsys.readouterr()
    assert run(distorted_mnist, tmp_path, "fcn-R-1", "st-fcn-affine-TC-*0") == rows
    assert capsys.readouterr().out.count("skipped; its results exist") == 2


def check_saved(folder, row):
    """`--models` writes the folder of a run, with a model that has the error of the row."""
    names = ["config.json", "curves.png", "history.csv", "last.keras", "warps.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    settings = json.loads((folder / "config.json").read_text())
    for name in ("cell", "seed", "test_error", "command", "keras"):
        assert str(settings[name]) == row[name]
    assert settings["classes"] == [str(digit) for digit in range(10)]
    assert history.read(folder / "history.csv").keys() >= {"epoch", "loss", "val_accuracy"}
    images, labels = cells.split(mnist.load(), 16, "TC")[2]
    found = keras.models.load_model(folder / "last.keras").predict(images, verbose=0)
    error = 100 * np.mean(found.argmax(axis=1) != labels)
    assert error == pytest.approx(settings["test_error"], abs=1e-3)


def test_a_seed_repeats_a_cell(tiny, tmp_path):
    (first,), (again,) = (
        run(distorted_mnist, tmp_path / name, "fcn-E-2").values() for name in ("first", "again")
    )
    figures = ("test_error", "validation_error", "training_error")
    assert [first[name] for name in figures] == [again[name] for name in figures]


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path):
    path = tmp_path / "cnn-R-0.csv"
    with cells.claim(path) as mine, cells.claim(path) as other:
        assert (mine, other) == (path, None)
    with cells.claim(path) as mine:
        assert mine == path
        path.touch()
    with cells.claim(path) as mine:
        assert mine is None


def test_a_lock_left_behind_by_a_killed_process_holds_nothing(tmp_path):
    with (tmp_path / ".cnn-R-0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing it is what a kill does
    with cells.claim(tmp_path / "cnn-R-0.csv") as mine:
        assert mine is not None


def test_a_cell_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="No cell matches 'rnn-.'. There are: cnn-R-0, "):
        run(distorted_mnist, tmp_path, "cnn-*", "rnn-*")
    assert not list(tmp_path.iterdir())


def test_variants_of_the_cifar10_network_have_as_many_parameters():
    models = {variant: distorted_cifar10.build(variant) for variant in distorted.VARIANTS}
    assert set(models) == set(distorted_cifar10.VARIANTS)
    counts = [model.count_params() for model in models.values()]
    assert max(counts) / min(counts) < 1.001
    assert len(models["frozen"].trainable_weights) == len(models["cnn"].trainable_weights)
    shape = models["features"].get_layer("transformer").output.shape
    assert tuple(shape[1:]) == (14, 14, 8)
    orientation = (
        distorted_cifar10.build("orientation", "RTS").get_layer("transformer").localization
    )
    assert orientation.max_rotation == np.pi / 4


@pytest.mark.parametrize("distortion, greatest", [("R", 90), ("RTS", 45)])
def test_angles_are_read_off_ramps(distortion, greatest):
    angles = np.degrees(distorted_cifar10.true_angles(600, distortion, seed=3))
    assert greatest - 2 < np.abs(angles).max() < greatest + 1
    assert abs(np.abs(angles).mean() - greatest / 2) < greatest / 15
    images = distortions.fixed(bars(3, 32)()[0][0], "R", seed=3)
    theta = np.zeros((48, 3), "float32")
    theta[:, 0] = distorted_cifar10.true_angles(48, "R", seed=3)
    grid = transforms.Rigid().grid(theta, (32, 32))
    assert lit_halves(grid_sample(images.astype("float32"), grid)) == [0, 1] * 24


def lit_halves(images):
    """Which half of the middle of each image is brighter, 0 or 1."""
    middle = np.asarray(images)[:, 8:24, 8:24]
    left, right = (half.mean(axis=(1, 2, 3)) for half in (middle[:, :, :8], middle[:, :, 8:]))
    return (right > left).astype(int).tolist()


def test_a_cifar10_cell(tiny, tmp_path):
    rows = run(distorted_cifar10, tmp_path, "images-RTS-0")
    assert rows["images-RTS-0"]["parameters"] == "473120"
    assert np.load(tmp_path / "images-RTS-0.npz")["warped"].shape == (8, 32, 32, 3)


@pytest.mark.parametrize("variant", ["orientation", "supervised"])
def test_a_cell_that_learns_angles(tiny, tmp_path, variant):
    row = run(distorted_cifar10, tmp_path, f"{variant}-R-0")[f"{variant}-R-0"]
    assert -1 <= float(row["angle_correlation"]) <= 1 and 0 < float(row["angle_deviation"]) < 180
    assert 472_000 < int(row["parameters"]) < 474_000
    if variant == "orientation":
        arrays = np.load(tmp_path / "orientation-R-0.npz")
        assert arrays["warped"].shape == (8, 32, 32, 3)
        assert arrays["found"].shape == arrays["true"].shape == (16,)


def test_the_ceiling_turns_images_by_the_true_angles():
    images = np.concatenate([bars(3, 32)()[0][0], distorted_cifar10.ramps(48)], axis=-1)
    model = distorted_cifar10.build("given")
    warp = keras.Model(model.inputs, model.get_layer("transformer").output)
    upright = warp.predict(distortions.fixed(images, "R", seed=3), verbose=0)
    assert lit_halves(upright) == [0, 1] * 24
