"""The example for several machines, as two processes on this one."""

import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import stn_keras  # noqa: F401, so that its layers load

pytestmark = pytest.mark.slow

pytest.importorskip("jax")

ROOT = pathlib.Path(__file__).parent.parent


def start(folder, name, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "examples.several_machines", "--model", name, *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def weights(folder, processes):
    """What each of the processes saves, once all have ended well."""
    try:
        for process in processes.values():
            printed = process.communicate(timeout=240)[0]
            assert process.returncode == 0, printed
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return [keras.models.load_model(folder / name).get_weights() for name in processes]


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    (one,) = weights(tmp_path, {"one.keras": start(tmp_path, "one.keras", "--epochs", "2")})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = ["first.keras", "second.keras"]
    flags = ["--epochs", "2", "--address", address, "--processes", "2", "--process"]
    pair = {name: start(tmp_path, name, *flags, str(k)) for k, name in enumerate(names)}
    first, second = weights(tmp_path, pair)
    for expected, found, other in zip(one, first, second, strict=True):
        np.testing.assert_array_equal(found, other)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--processes", "3"], "--processes must divide 64. Received: 3"),
        (["--processes", "2"], "--address"),
    ],
)
def test_flags_that_make_no_sense(tmp_path, flags, named):
    process = start(tmp_path, "model.keras", *flags)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 2 and named in printed
