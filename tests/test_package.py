"""The content of a wheel, and the agreement of all lists of requirements."""

import importlib
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import keras
import pytest

import stn_keras

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"


def test_a_wheel_holds_the_library_and_its_licence_alone(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source, built = tmp_path / "source", tmp_path / "built"
    outputs = ".*", "__pycache__", "build", "*.egg-info", "venv", "logs", "saved_models"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*outputs))
    command = [sys.executable, "-c", BUILD, str(built)]
    finished = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = built.iterdir()
    held = set(zipfile.ZipFile(wheel).namelist())
    library = {str(path.relative_to(ROOT)) for path in ROOT.glob("stn_keras/**/*.py")}
    information = {name for name in held if ".dist-info/" in name}
    assert held - information == library | {"stn_keras/py.typed"}
    assert any(name.endswith("/LICENSE") for name in information)


@pytest.mark.parametrize("name", sorted({*dir(stn_keras)} - {"importlib", "pkgutil"}))
def test_modules_are_imported_on_demand_by_the_name_that_people_write(name):
    found = getattr(stn_keras, name)
    if inspect.ismodule(found):
        assert found is importlib.import_module(f"stn_keras.{name}")


@pytest.mark.parametrize(
    "imports",
    [
        "import keras, stn_keras",
        "import stn_keras, tensorflow, keras",  # TensorFlow looks for Keras, without importing it
        "import stn_keras.layers.networks, keras",
    ],
)
def test_a_saved_model_loads_with_an_import_of_the_library_alone(tmp_path, imports):
    images = keras.Input((8, 8, 1))
    theta = keras.layers.Dense(6)(keras.layers.Flatten()(images))
    warped = stn_keras.SpatialTransformer()([images, theta])
    keras.Model(images, warped).save(tmp_path / "a.keras")
    code = f"{imports}\nkeras.saving.load_model('a.keras')\nassert keras.__spec__.loader"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_the_import_reads_no_command_line_and_waits_for_no_keras():
    code = "import sys, stn_keras; dir(stn_keras); sys.exit('keras' in sys.modules)"
    for words in (["-c", code], ["-c", code, "-m", "stn_keras"]):
        assert subprocess.run([sys.executable, *words], cwd=ROOT).returncode == 0


def test_importing_the_library_loads_nothing_for_figures_data_or_other_backends():
    code = "import keras, sys; of_keras = {*sys.modules}; import stn_keras; "
    code += "print(*{*sys.modules} - of_keras)"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    loaded = set(finished.stdout.split())
    assert "stn_keras.layers" in loaded
    assert not loaded & {
        "matplotlib",
        "tensorflow_datasets",
        "torch",
        "jax",
        "stn_keras.backend.jax",
    }


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="'stn_keras' has no attribute 'wrap'"):
        stn_keras.wrap


def test_requirements_are_those_of_the_package_its_training_and_its_tests():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    tests = [line for line in extras["dev"] if line.startswith(("pytest", "hypothesis>"))]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [re.sub(r"\s*#.*", "", line) for line in lines]
    assert sorted(filter(None, required)) == sorted(
        project["dependencies"] + extras["train"] + tests
    )
