"""Registration end to end on tiny tasks: `examples.register` and its table."""

import csv
import dataclasses
import pathlib

import keras
import numpy as np
import pytest

from examples import (
    register,
    register_networks,
    register_one_pair,
    register_pairs,
    register_report,
)
from results import registration, report
from stn_keras.geometry import displacements

pytestmark = pytest.mark.slow


def strokes(count=40):
    """Stand-ins for MNIST: a bar for each digit, in a place of its own."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    labels = np.arange(count) % 10
    for number, (image, label) in enumerate(zip(images, labels)):
        image[4 + number % 3 : 20, 4 + 2 * label : 8 + 2 * label] = 255
    return images, labels


def volumes():
    """Stand-ins for MNI152: a ball with a kernel, `(32, 32, 32, 3)`."""
    z, y, x = np.indices((32, 32, 32)) - 15.5
    radius = np.sqrt(z**2 + 1.2 * y**2 + x**2)
    gray, white = (radius < 10) & (radius >= 6), radius < 6
    return np.stack([0.5 * gray + white, gray, white], axis=-1).astype("float32")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(register_pairs.mnist, "load", lambda: (strokes(), strokes(20)))
    monkeypatch.setattr(register_pairs, "VALIDATION_IMAGES", 20)
    monkeypatch.setattr(register, "mni152", volumes)
    monkeypatch.setattr(register_networks, "INTEGRATION_STEPS", 1)  # less to trace
    monkeypatch.setattr(register, "SPREAD", 6.0)
    monkeypatch.setattr(register, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(register_report, "TEST_VOLUMES", 2)
    short = {"channels": 2, "batch_size": 2, "epochs": 2, "steps": 2}
    recipes = {
        name: dataclasses.replace(recipe, **short) for name, recipe in register.RECIPES.items()
    }
    monkeypatch.setattr(register, "RECIPES", recipes)
    return tmp_path


def run(folder, *flags):
    folders = {"output-dir": "models", "log-dir": "logs", "results-dir": "results"}
    places = [part for name, place in folders.items() for part in (f"--{name}", folder / place)]
    assert register.main([*map(str, places), *flags]) == 0
    return {path.stem: row(path) for path in (folder / "results").glob("*.csv")}


def row(path):
    with path.open() as file:
        (found,) = csv.DictReader(file)
    return found


def test_digits_are_registered_and_measured_once(tiny, capsys):
    before = run(tiny, "--data", "mnist")
    capsys.readouterr()
    assert run(tiny, "--data", "mnist") == before
    assert "nothing is left to do" in capsys.readouterr().out
    rows = run(tiny, "--data", "mnist", "--no-integration", "--seed", "1")
    assert sorted(rows) == ["mnist-displacement-1", "mnist-velocity-0"]
    found = rows["mnist-velocity-0"]
    assert float(found["mse_before"]) > 0 and float(found["seconds_a_pair"]) > 0
    assert found["seed"] == "0" and "--data mnist" in found["command"] and found["keras"]
    assert (tiny / "results" / "mnist-velocity-0.png").exists()
    assert list((tiny / "logs" / "mnist-velocity-0" / "pairs").glob("*.tfevents.*"))
    assert not (tiny / "models" / "mnist-velocity-0" / "unfinished.npz").exists()
    keras.models.load_model(tiny / "models" / "mnist-velocity-0" / "last.keras")


def test_brains_are_registered_and_measured(tiny):
    found = run(tiny, "--data", "mni152")["mni152-velocity-0"]
    for name in ("gray_before", "gray_after", "white_before", "white_after"):
        assert 0 < float(found[name]) < 1
    assert float(found["white_best"]) > float(found["white_before"])
    assert float(found["error"]) > 0 and float(found["displacement"]) > 0


def test_one_pair_at_a_time_is_measured_on_the_same_brains(tiny, monkeypatch):
    monkeypatch.setattr(register_one_pair, "mni152", volumes)
    monkeypatch.setattr(register_one_pair, "SPREAD", 6.0)
    assert register_one_pair.main(["--results-dir", str(tiny)]) == 0
    found, trained = row(tiny / "mni152-register.csv"), run(tiny, "--data", "mni152")
    assert found["white_before"] == trained["mni152-velocity-0"]["white_before"]
    assert float(found["error"]) < float(found["displacement"])


def test_an_interrupted_run_ends_as_if_it_had_not_been(tiny, monkeypatch):
    whole = run(tiny / "whole", "--data", "mnist")["mnist-velocity-0"]
    fit = register_networks.keras.Model.fit

    def interrupted(self, *args, **kwargs):
        kwargs["callbacks"].append(
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: stop(epoch))
        )
        return fit(self, *args, **kwargs)

    def stop(epoch):
        if epoch == 1:
            raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(keras.Model, "fit", interrupted)
        run(tiny / "parts", "--data", "mnist")
    assert not list((tiny / "parts" / "results").glob("*.csv"))
    parts = run(tiny / "parts", "--data", "mnist")["mnist-velocity-0"]
    assert {name: parts[name] for name in ("mse_after", "folded_percent")} == {
        name: whole[name] for name in ("mse_after", "folded_percent")
    }


def test_missing_volumes_are_explained(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(register_pairs.importlib.util, "find_spec", lambda name: None)
    flags = ["--output-dir", "models", "--log-dir", "logs", "--results-dir", "results"]
    monkeypatch.chdir(tmp_path)
    assert register.main(["--data", "mni152", *flags]) == 1
    assert "pip install '.[register]'" in capsys.readouterr().err


def test_pairs_are_of_one_digit_and_never_of_one_image():
    images, labels = strokes(20)
    images = np.arange(20, dtype="uint8")[:, None, None, None] * np.ones((28, 28, 1), np.uint8)
    moving, fixed = register_pairs.Digits(images, labels)(np.random.default_rng(0), 20)
    first, second = (np.round(255 * x[:, 16, 16, 0]).astype(int) for x in (moving, fixed))
    assert (labels[first] == labels[second]).all() and (first != second).all()


def test_the_true_displacement_undoes_the_warp():
    brains = register_pairs.Brains(volumes(), spread=6.0, speed=1.0)
    moving, true = brains.unseen(np.random.default_rng(0))
    before = np.mean((moving - brains.volumes) ** 2)
    after = np.mean((register_pairs.to_numpy(brains.warp([moving, true])) - brains.volumes) ** 2)
    assert after < 0.2 * before
    assert (register_pairs.to_numpy(displacements.jacobian_determinant(true)) > 0).all()


def test_an_untrained_model_of_two_levels_is_almost_the_identity():
    keras.utils.set_random_seed(0)
    model = register_networks.build((16, 32, 16), (2, 1), 2)
    images = np.random.default_rng(0).random((1, 16, 32, 16, 1), "float32")
    outputs = model([images, images])
    assert outputs["displacement"].shape == (1, 16, 32, 16, 3)
    assert outputs["velocity_0"].shape == (1, 4, 8, 4, 3)
    assert np.abs(register_pairs.to_numpy(outputs["displacement"])).max() < 0.1


def test_tables_come_from_files_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    (tmp_path / "README.md").write_text("# Results\n")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    values = dict.fromkeys({name for m in registration.MEASURES.values() for name in m.values()}, 0)
    values |= {"seconds_a_pair": 0.002, "training_seconds": 60, "training_cpu_seconds": 90}
    values |= {"gray_before": 0.5, "white_before": 0.5, "gray_after": 0.9, "white_after": 0.84}
    for run_ in ("mnist-velocity-0", "mnist-velocity-1", "mni152-velocity-0"):
        data, field, seed = run_.split("-")
        line = {"data": data, "field": field, **values, "mse_after": 0.01 * (int(seed) + 1)}
        register.cells.write(tmp_path / f"{run_}.csv", line)
    registration.main()
    text = pathlib.Path(report.README).read_text()
    assert "| velocity | 2 | 0 ± 0 | 0.015 ± 0.0071 | 0 ± 0 | 2 ± 0 | 1.0 and 1.5 |" in text
    assert "Dice before below 0.6: met; Dice after at least 0.85: missed; folded" in text
