"""`python -m stn_keras`."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from stn_keras import SpatialTransformer
from stn_keras.__main__ import main
from stn_keras.data.pictures import read
from stn_keras.serving import predict


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


@pytest.mark.slow
def test_export_in_int8(tmp_path, rng, capsys):
    """The folder holds files that are no pictures, too; a picture may be of any size."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    given = keras.Input((8, 8, 1), name="images")
    model = keras.Model(given, keras.layers.Conv2D(2, 3)(given))
    model.save(tmp_path / "model.keras")
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    for k in range(20):
        picture(tmp_path / "pets" / "cat" / f"{k}.png", rng)
    (tmp_path / "pets" / "bad.png").write_bytes(b"no picture")
    command = ["export", str(tmp_path / "model.keras"), "--format", "litert", "--quantize"]
    assert main([*command, str(tmp_path / "pets")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'model.tflite'}\n" and "bad.png can't" in captured.err
    runner = interpreter.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    images = rng.uniform(0, 255, (5, 8, 8, 1)).astype("float32")
    expected = model(images)
    assert_allclose(runner(images=images)["output_0"], expected, atol=0.05 * np.ptp(expected))

    (tmp_path / "none").mkdir()
    refused(capsys, main([*command, str(tmp_path / "none")]), "none has no picture")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "model.keras")
    refused(capsys, main([*command, str(tmp_path / "pets")]), "fixed size", "(None, 4)")


def test_int8_is_for_litert(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "a.keras", "--format", "onnx", "--quantize", "pets"])
    assert ended.value.code == 2 and "--quantize is for --format litert" in capsys.readouterr().err


def picture(path, rng, size=(20, 30), channels=3):
    Image.fromarray(rng.integers(0, 256, (*size, channels), np.uint8)).save(path)
    return path


@pytest.fixture
def classifier(tmp_path, rng):
    """A run's folder with a model of two transformers and three classes, of known names."""
    folder = tmp_path / "run"
    folder.mkdir()
    images = keras.Input((12, 10, 3))
    x = images
    for name in ("first", "second"):
        bias = keras.initializers.Constant(rng.uniform(-0.5, 0.5, 6))
        head = keras.layers.Dense(6, kernel_initializer="zeros", bias_initializer=bias)
        network = keras.Sequential([keras.layers.Flatten(), head])
        x = SpatialTransformer(network, output_size=(8, 8), name=name)(x)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    keras.Model(images, logits).save(folder / "best.keras")
    (folder / "config.json").write_text('{"classes": ["ant", "bee", "cat"]}')
    return folder / "best.keras"


def predicted(text):
    """The classes' shares, in percent, of each picture's block."""
    return [
        {name: float(share) for share, name in re.findall(r"^ +([\d.]+)%  (\w+)$", block, re.M)}
        for block in re.split(r"^(?=\S)", text, flags=re.M)[1:]
    ]


def test_predict(tmp_path, rng, capsys, uncompiled, classifier):
    images = [picture(tmp_path / "a.png", rng), picture(tmp_path / "b.webp", rng, channels=4)]
    assert main(["predict", str(classifier), *map(str, images)]) == 0
    printed = capsys.readouterr().out
    logits = keras.models.load_model(classifier)(read(images[0], (12, 10))[None])
    wanted = dict(zip(["ant", "bee", "cat"], 100 * keras.ops.softmax(logits)[0].numpy()))
    first, second = predicted(printed)
    assert first == pytest.approx(wanted, abs=0.06) and len(second) == 3
    assert list(first.values()) == sorted(first.values(), reverse=True)
    drawn = {f"{path.name}.{name}.png" for path in images for name in ("first", "second")}
    assert {path.name for path in tmp_path.glob("*.*.png")} == drawn
    for name in drawn:
        assert name in printed and read(tmp_path / name).std() > 10


def test_predict_to_a_folder_past_a_damaged_image(tmp_path, rng, capsys, uncompiled, classifier):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    flags = [str(tmp_path / "bad.png"), str(picture(tmp_path / "good.png", rng))]
    status = main(["predict", str(classifier), *flags, "--output-dir", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert status == 1 and "bad.png can't be read" in captured.err
    assert len(predicted(captured.out)) == 1
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["good.png.first.png", "good.png.second.png"]
    assert main(["predict", str(classifier), flags[1], flags[1], "--output-dir", "x"]) == 1


@pytest.mark.parametrize("config", ["", "[]", '{"classes": 3}', '{"classes": ["a"]}', None])
def test_without_names_classes_are_numbers(tmp_path, rng, capsys, model, config):
    """The model has no transformer: no picture is drawn."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert main(["predict", str(model), str(picture(tmp_path / "a.png", rng))]) == 0
    (found,) = predicted(capsys.readouterr().out)
    assert found.keys() == {"0", "1", "2"} and sum(found.values()) == pytest.approx(100, abs=0.2)
    assert not list(tmp_path.glob("*.*.png"))


@pytest.mark.parametrize(
    "shape, channels, activation",
    [((None, None, 3), 3, "softmax"), ((1, 6, 6), 1, None), ((6, 6, 4), 4, "softmax")],
    ids=["any size", "channels first", "opacity"],
)
def test_other_inputs_and_outputs(tmp_path, rng, shape, channels, activation):
    images = keras.Input(shape)
    axes = (2, 3) if shape[0] == 1 else (1, 2)
    features = keras.ops.mean(images, axis=axes) / 255
    outputs = keras.layers.Dense(4, activation=activation)(features)
    classifier = predict.Classifier(keras.Model(images, outputs))
    image = classifier.read(picture(tmp_path / "a.png", rng))
    assert image.shape[1:] == tuple(n or m for n, m in zip(shape, (20, 30, 3)))
    found = classifier.probabilities(image)
    wanted = classifier.model(image)
    wanted = wanted if activation else keras.ops.softmax(wanted)
    assert_allclose(found, wanted, atol=1e-6)
    assert classifier.warps(image) == {}


def test_predict_refuses(tmp_path, rng, capsys, model):
    image = str(picture(tmp_path / "a.png", rng))
    refused(capsys, main(["predict", str(tmp_path / "a.png"), image]), "not a .keras file")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(model)
    refused(capsys, main(["predict", str(model), image]), "no image classifier", "(None, 4)")
    evil = keras.layers.Lambda(lambda x: x)
    keras.Sequential([keras.Input((4, 4, 3)), evil]).save(model)
    refused(capsys, main(["predict", str(model), image]), "Python code", "not run")


@pytest.mark.slow
def test_as_a_command_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "stn_keras", "predict", str(tmp_path / "a.keras"), "a.png"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "stn_keras: there is no file" in run.stderr
    assert "Traceback" not in run.stderr
