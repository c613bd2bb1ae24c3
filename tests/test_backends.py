"""The library on every backend of Keras: its imports, its errors, and equal warps on all."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from autodiff import float64

from stn_keras import SpatialTransformer, backend, localization

pytestmark = pytest.mark.slow

every_backend = pytest.mark.parametrize("name", backend.BACKENDS)


def run(name, script, *arguments):
    """Runs a script in a Python whose Keras has the backend of that name, if it is installed."""
    if name in backend.BACKENDS and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": name},
        capture_output=True,
        text=True,
    )


def check(finished):
    assert finished.returncode == 0, finished.stderr


IMPORT = """
import sys
import keras
before = set(sys.modules)  # Keras itself imports JAX and Matplotlib where they are installed
import stn_keras
loaded = set(sys.modules) - before
packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
assert packages == {"stn_keras"}, packages
backends = {name.split(".")[2] for name in loaded if name.startswith("stn_keras.backend.")}
assert backends - {"private"} == {keras.backend.backend()}, backends
on_demand = {f"stn_keras.{name}" for name in ("callbacks", "data", "plots", "predict", "serving")}
assert not on_demand & loaded, on_demand & loaded
"""


@every_backend
def test_the_import_loads_nothing_but_the_library_and_the_active_backend(name):
    check(run(name, IMPORT))


def test_a_backend_that_is_not_supported_is_refused():
    pytest.importorskip("scipy")  # Keras's NumPy backend imports it
    finished = run("numpy", "import stn_keras\nimport keras")
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: stn_keras runs on the Keras backends")
    assert last.endswith("Received: KERAS_BACKEND=numpy")


LOAD = """
import sys
import keras
import numpy as np
import stn_keras
folder = sys.argv[1]
data = np.load(f"{folder}/data.npz")
model = keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)
theta = model.get_layer("warp").theta(data["images"])
np.testing.assert_allclose(keras.ops.convert_to_numpy(theta), data["theta"], atol=1e-5)
warped = model(data["images"])
np.testing.assert_allclose(keras.ops.convert_to_numpy(warped), data["warped"], atol=1e-4)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model of random weights, images, and the outputs of this process."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("saved")
    network = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), localization.head("similarity")]
    )
    layer = SpatialTransformer(
        network,
        transform="similarity",
        output_size=(7, 12),
        interpolation="bicubic",
        fill_mode="reflect",
        antialias=2,
        iterations=2,
        name="warp",
    )
    x = keras.Input((9, 14, 3))
    model = keras.Model(x, layer(x))
    for weight in model.trainable_weights:
        weight.assign_add(rng.uniform(-0.5, 0.5, weight.shape))
    images = rng.uniform(-1, 1, (3, 9, 14, 3)).astype("float32")
    warped, theta = float64(model(images)), float64(layer.theta(images))
    assert np.abs(theta - [1, 0, 0, 0, 1, 0]).max() > 0.1
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", images=images, warped=warped, theta=theta)
    return folder


@every_backend
def test_a_saved_model_gives_the_same_warp_on_every_backend(saved, name):
    """And loads in safe mode, with `import stn_keras` alone."""
    check(run(name, LOAD, saved))
