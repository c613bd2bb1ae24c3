"""`train.py --distribute mirrored` on two logical CPU devices, in processes that have them."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import train
from stn_keras import history

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(train.__file__).parent

TWO_DEVICES = """
import dataclasses
import tensorflow as tf
import keras, numpy, train
from stn_keras.data import cifar10
from stn_keras import recipes

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

# Smooth images and short steps, because the slope of a bilinear sample jumps at whole pixels, and
# rounding decides on which side of them a coordinate is, above all near the identity.
rng = numpy.random.default_rng(0)
y, x, phase = numpy.arange(32)[:, None, None], numpy.arange(32)[:, None], rng.uniform(0, 6, 3)
tilt = rng.uniform(-0.15, 0.15, (126, 2, 1, 1, 3))
waves = numpy.cos(tilt[:, 0] * x + tilt[:, 1] * y + phase)
data = numpy.uint8(128 + 120 * waves), rng.integers(0, 10, 126)
cifar10.load = lambda data_dir: (data, data)
# Without dropout, which draws other numbers for other parts of a batch.
recipes.RECIPES["published"] = dataclasses.replace(
    recipes.RECIPES["published"], peak=1e-3, flip=True, spatial_dropout=0.0, dropout=0.0
)

def run(name, images, *flags):
    flags = ["--validation-images", images, "--precision", "float32", *flags]
    return train.main(["--run", name, "--epochs", "2", "--recipe", "published", *flags])

assert run("odd", "61", "--distribute", "mirrored") == 1
assert run("one", "60") == 0
assert run("two", "60", "--distribute", "mirrored") == 0
for name in ("one", "two"):
    model = keras.models.load_model(f"saved_models/{name}/last.keras")
    numpy.savez(f"{name}.npz", *model.get_weights())
"""


def weights(folder, name):
    with np.load(folder / f"{name}.npz") as file:
        return [file[key] for key in file.files]


def test_two_devices_end_with_the_weights_and_the_history_of_one(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "a batch of 1 image can't be divided evenly among 2 devices" in process.stderr
    for one, two in zip(weights(tmp_path, "one"), weights(tmp_path, "two"), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
    one, two = (
        history.read(tmp_path / "saved_models" / name / "history.csv") for name in ("one", "two")
    )
    for name in ("loss", "val_loss", "test_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
