"""What a wheel holds, and that the lists of what to install agree."""

import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

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


@pytest.mark.parametrize("name", stn_keras._ON_DEMAND)
def test_modules_are_imported_on_demand_by_the_name_that_people_write(name):
    module = getattr(stn_keras, name)
    assert module is importlib.import_module(f"stn_keras.{name}")


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
    tests = [line for line in extras["dev"] if line.startswith(("pytest>", "hypothesis>"))]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [re.sub(r"\s*#.*", "", line) for line in lines]
    assert sorted(filter(None, required)) == sorted(
        project["dependencies"] + extras["train"] + tests
    )
