"""`python -m stn_keras`."""

import keras
import pytest

from stn_keras.__main__ import main


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential([keras.Input((4, 4, 3)), *layers]).save(path)
    return path


def refused(capsys, status, *words):
    """Asserts a short message that holds the words, and no traceback."""
    captured = capsys.readouterr()
    message = captured.err[captured.err.index("stn_keras: ") :]
    assert status == 1 and len(message) < 400 and "Traceback" not in captured.err
    for word in words:
        assert word in message


@pytest.mark.parametrize("flags, name", [([], "model.onnx"), (["--output"], "other.onnx")])
def test_export(tmp_path, capsys, model, flags, name):
    pytest.importorskip("tf2onnx")
    flags = [*flags, str(tmp_path / name)] if flags else []
    assert main(["export", str(model), "--format", "onnx", *flags]) == 0
    assert capsys.readouterr().out == f"{tmp_path / name}\n"
    assert (tmp_path / name).stat().st_size > 100


def test_export_refuses(tmp_path, capsys, model):
    status = main(["export", str(tmp_path / "none.keras"), "--format", "onnx"])
    refused(capsys, status, "no file", "none.keras")
    (tmp_path / "model").mkdir()
    refused(capsys, main(["export", str(model), "--format", "saved_model"]), "model exists")
