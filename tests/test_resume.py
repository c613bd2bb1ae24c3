"""`train.py --resume`: a killed and resumed run ends like an uninterrupted one, bit for bit."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

import train
from stn_keras import callbacks, history, plots, recipes, resume
from stn_keras.data import cifar10
from tests.test_train import UNFINISHED, clean, files, refused, run, tiny  # noqa: F401

ROOT = pathlib.Path(train.__file__).parent
FOLDER = pathlib.Path("saved_models/a")
TIMES = "images_per_second"

# A process that kills itself by SIGKILL: in batch number `batch`, or when it writes a file whose
# name ends in `name` for the second time, after half of that file.
KILLED = """
import os, signal, sys, zipfile
import keras, numpy, train
from stn_keras.data import cifar10
from stn_keras import callbacks
from tests import test_train

batch, name = int(sys.argv[1]), sys.argv[2]
cifar10.load = test_train.tiny
batches = files = 0

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def count_batch(self, number, logs=None):
    global batches
    batches += 1
    if batches == batch:
        kill()

def count_file(save):
    def save_half(*args, **kwargs):
        global files
        path = next(arg for arg in args if hasattr(arg, "name"))
        save(*args, **kwargs)
        files += str(path).endswith(name)
        if files == 2:
            os.truncate(path, path.stat().st_size // 2)
            kill()
    return save_half

callbacks.Throughput.on_train_batch_end = count_batch
numpy.savez = count_file(numpy.savez)
keras.Model.save = count_file(keras.Model.save)
sys.exit(train.main(sys.argv[3:]))
"""


def killed(*flags, batch=0, name="never"):
    """Runs `train.py` in a process of its own, which must die by SIGKILL."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(batch), name, "--run", "a", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr


def resumed(*flags):
    return train.main(["--run", "a", "--resume", *flags])


def weights(folder, name="last"):
    return keras.models.load_model(folder / f"{name}.keras").get_weights()


def assert_same_run(folder, expected):
    """Both folders hold the same models, bit for bit, the same history and the same files."""
    assert files(folder) == files(expected)
    for name in ("last", "best"):
        for found, wanted in zip(weights(folder, name), weights(expected, name), strict=True):
            np.testing.assert_array_equal(found, wanted)
    found, wanted = (history.read(path / "history.csv") for path in (folder, expected))
    del found[TIMES], wanted[TIMES]
    assert found == wanted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of three epochs that nothing interrupted."""
    base = tmp_path_factory.mktemp("whole")
    policy = keras.config.dtype_policy()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr(cifar10, "load", tiny)
        assert run("--no-transformer", epochs=3) == 0
    keras.config.set_dtype_policy(policy)
    return base / FOLDER


@pytest.mark.slow
def test_killed_in_mid_epoch_and_again_in_mid_save(whole):
    flags = ["--no-transformer", "--validation-images", "40", "--epochs", "3"]
    killed(*flags, batch=25)  # of 17 an epoch
    assert files(FOLDER) == UNFINISHED
    killed("--resume", name=".npz")
    assert list(FOLDER.glob(".*.part.npz"))
    assert len(history.read(FOLDER / "history.csv")["epoch"]) == 3  # one more than in the backup
    assert resumed() == 0
    assert_same_run(FOLDER, whole)


class Stop(BaseException):
    """Ends a run like a kill."""


def stop(*args, **kwargs):
    raise Stop


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        (callbacks, "write_settings"),
        (keras.Model, "save"),
        (plots, "curves"),
    ],
    ids=["before the first epoch", "in the first save", "at the end"],
)
def test_stopped_where_there_is_little_or_everything(whole, place):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(*place, stop)
        run("--no-transformer", epochs=3)
    assert resumed() == 0
    assert_same_run(FOLDER, whole)


@pytest.fixture
def started(monkeypatch):
    """A run of two epochs that has only been started."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(keras.Model, "fit", stop)
        run("--no-transformer")
    monkeypatch.setattr(cifar10, "load", None)  # what follows is refused before


def test_a_new_run_names_resume_where_one_is_unfinished(capsys, started):
    before = files(FOLDER)
    refused(capsys, run(), "unfinished run", "--resume", "--run")
    assert files(FOLDER) == before


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--epochs", "3"], "epochs=2. Received: epochs=3"),
        (["--seed", "1"], "seed=0. Received: seed=1"),
        (["--recipe", "published"], "recipe=tuned. Received: recipe=published"),
        (["--validation-images", "41"], "validation_images=40. Received: validation_images=41"),
        (["--precision", "mixed_float16"], "Received: precision=mixed_float16"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_other_settings_than_those_it_was_started_with(capsys, started, flags, named):
    refused(capsys, resumed(*flags), str(FOLDER), named, "--run")


def test_a_recipe_that_has_changed_since(capsys, started, monkeypatch):
    changed = dataclasses.replace(recipes.RECIPES["tuned"], peak=0.5)
    monkeypatch.setitem(recipes.RECIPES, "tuned", changed)
    refused(capsys, resumed(), "recipe_peak=0.02. Received: recipe_peak=0.5")


def test_a_recipe_of_another_version(capsys, started):
    config = FOLDER / "config.json"
    config.write_text(config.read_text().replace('"tuned"', '"untaught"'))
    refused(capsys, resumed(), "another version", "untaught")


def test_nothing_to_resume(capsys):
    refused(capsys, resumed(), "there is no run in", str(FOLDER))
    assert os.listdir() == []
    FOLDER.mkdir(parents=True)
    for name in ("config.json", "last.keras"):
        (FOLDER / name).touch()
    refused(capsys, resumed(), "is finished", str(FOLDER))
    assert files(FOLDER) == ["config.json", "last.keras"]


@pytest.fixture
def model():
    keras.utils.set_random_seed(3)
    return compiled(4)


def compiled(units, optimizer="adam"):
    layers = [keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(units)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def fit(model, **options):
    images = np.random.default_rng(0).normal(size=(8, 6))
    model.fit(images, images[:, :4], batch_size=4, shuffle=False, **{"verbose": 0, **options})
    return model.get_weights()


def test_a_backup_holds_weights_optimizer_and_the_seeds_of_dropout(tmp_path, model):
    path = tmp_path / "backup.npz"
    fit(model, callbacks=[resume.Backup(path)])
    expected = fit(model)
    other = compiled(4)
    assert resume.restore(path, other) == 1
    for found, wanted in zip(fit(other), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_backup_holds_the_loss_scale(tmp_path):
    def scaled(scale):
        inner = keras.optimizers.SGD()
        return compiled(4, keras.optimizers.LossScaleOptimizer(inner, initial_scale=scale))

    model, other = scaled(64.0), scaled(2.0)
    fit(model, callbacks=[resume.Backup(tmp_path / "backup.npz")])
    resume.restore(tmp_path / "backup.npz", other)
    assert float(other.optimizer.dynamic_scale) == 64
    assert int(other.optimizer.iterations) == 2


def test_a_backup_is_there_before_the_first_epoch(tmp_path, model):
    path = tmp_path / "backup.npz"
    with pytest.raises(Stop):
        interruption = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
        fit(model, callbacks=[resume.Backup(path), interruption])
    assert resume.restore(path, compiled(4)) == 0


def test_a_backup_that_would_run_code_is_refused(tmp_path, model):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    np.savez(tmp_path / "backup.npz", epochs=1, **{"0": np.array([Hostile()], object)})
    with pytest.raises(resume.BackupError, match="damaged"):
        resume.restore(tmp_path / "backup.npz", model)
    assert not (tmp_path / "executed").exists()


def test_an_error_in_mid_backup_leaves_the_one_before(tmp_path, model, monkeypatch):
    def save_half(path, **arrays):
        path.write_bytes(b"PK")
        raise OSError(28, "No space left on device")

    path = tmp_path / "backup.npz"
    fit(model, callbacks=[resume.Backup(path)])
    monkeypatch.setattr(np, "savez", save_half)
    with pytest.raises(OSError, match="No space"):
        fit(model, callbacks=[resume.Backup(path)])
    assert os.listdir(tmp_path) == ["backup.npz"]
    assert resume.restore(path, model) == 1


def interrupt(*args, **logs):
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_lets_the_epoch_finish(capsys, model):
    done = []
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: batch or interrupt(),
            on_epoch_end=lambda epoch, logs: done.append(epoch),
        )
    ]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), resume.finishing_epochs() as interruption:
        fit(model, epochs=3, callbacks=[*callbacks, interruption])
    assert done == [0] and int(model.optimizer.iterations) == 2
    assert "Stopping after epoch 1. Ctrl-C again stops now" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_in_the_last_epoch_changes_nothing(capsys, model):
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)]
    with resume.finishing_epochs() as interruption:
        fit(model, callbacks=[*callbacks, interruption])
    assert int(model.optimizer.iterations) == 2


def test_an_interrupted_epoch_prints_its_result(capsys, model):
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)]
    with pytest.raises(KeyboardInterrupt), resume.finishing_epochs() as interruption:
        fit(model, epochs=3, verbose=2, callbacks=[*callbacks, interruption])
    assert capsys.readouterr().out.count("loss: ") == 1


def test_a_second_interrupt_stops_at_once(model):
    with pytest.raises(KeyboardInterrupt), resume.finishing_epochs() as interruption:
        twice = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
        fit(model, epochs=3, callbacks=[twice, interruption])
    assert int(model.optimizer.iterations) == 2


def test_cut_takes_whole_and_half_rows_away(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"epoch,loss\r\n0,0.5\r\n1,0.25\r\n2,0.1")
    history.cut(path, 1)
    assert path.read_bytes() == b"epoch,loss\r\n0,0.5\r\n"
    assert history.read(path) == {"epoch": [0], "loss": [0.5]}
