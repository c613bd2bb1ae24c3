"""`train.py --resume`: a run that was killed ends as one that was not, bit for bit."""

import os
import pathlib
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import train
from stn_keras import history, resume
from tests.test_train import clean, files, finished, refused, run, tiny  # noqa: F401

ROOT = pathlib.Path(train.__file__).parent
FOLDER = pathlib.Path("saved_models/a")
TIMES = "images_per_second"

# A process that ends itself by `kill -9`: in its batch number `batch`, or when half of the file
# that ends on `name` has been written for the second time.
KILLED = """
import os, signal, sys, zipfile
import keras, numpy, train
from tests import test_train

batch, name = int(sys.argv[1]), sys.argv[2]
train.cifar10.load = test_train.tiny
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

train.callbacks.Throughput.on_train_batch_end = count_batch
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
    assert (folder / "warps.png").read_bytes() == (expected / "warps.png").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of three epochs that nothing interrupted."""
    base = tmp_path_factory.mktemp("whole")
    policy = keras.config.dtype_policy()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr(train.cifar10, "load", tiny)
        assert run(epochs=3) == 0
    keras.config.set_dtype_policy(policy)
    return base / FOLDER


def test_killed_in_mid_epoch_and_again_in_mid_save(whole):
    killed("--validation-images", "40", "--epochs", "3", batch=5)  # of three an epoch
    assert files(FOLDER) == "best.keras config.json history.csv last.keras unfinished.npz".split()
    killed("--resume", name=".npz")
    assert list(FOLDER.glob(".*.part.npz")) and len(history.read(FOLDER / "history.csv")) == 9
    assert resumed() == 0
    assert_same_run(FOLDER, whole)


def test_same_seed_same_machine_same_result_twice(whole):
    assert run(epochs=3) == 0
    assert_same_run(FOLDER, whole)
