"""`python -m stn_keras`."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from stn_keras import SpatialTransformer, export, predict, transforms
from stn_keras.__main__ import FORMATS, LOSSES, TRANSFORMS, main
from stn_keras.data.pictures import read
from stn_keras.registration import similarities
from stn_keras.serving import inputs

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="models are exported on TensorFlow"
)


@pytest.fixture(autouse=True)
def current(tmp_path, monkeypatch):
    """The current folder, empty, which drawings go to."""
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    return tmp_path / "current"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential([keras.Input((4, 4, 3)), *layers]).save(path)
    return path


def refused(capsys, status, *words):
    """Asserts a line that ends stderr and holds the words, and no traceback."""
    captured = capsys.readouterr()
    message = captured.err[captured.err.index("stn_keras: ") :]
    assert status == 1 and len(message) < 500 and "Traceback" not in captured.err
    assert message.count("\n") == 1
    for word in words:
        assert word in message


def test_the_formats_of_the_command_are_those_of_the_library():
    assert tuple(export.SUFFIXES) == FORMATS
    assert (*transforms.TRANSFORMS, "displacement") == TRANSFORMS
    assert tuple(similarities.SIMILARITIES) == LOSSES


@pytest.fixture
def two_views(tmp_path, rng):
    """Files of a picture and of a part of it, 3 pixels further right and 2 further down."""
    scene = keras.ops.image.resize(rng.uniform(0, 255, (9, 11, 3)), (56, 64), "bicubic")
    scene = np.clip(keras.ops.convert_to_numpy(scene), 0, 255).astype("uint8")
    Image.fromarray(scene[:48, :56]).save(tmp_path / "moving.png")
    Image.fromarray(scene[2:50, 3:59]).save(tmp_path / "fixed.png")
    return str(tmp_path / "moving.png"), str(tmp_path / "fixed.png")


def test_align(current, capsys, two_views):
    assert main(["align", *two_views, "--transform", "translation"]) == 0
    output = capsys.readouterr().out
    matrix = np.array(eval(output[output.index("[[") : output.index("]]") + 2]))
    assert_allclose(matrix, [[1, 0, -3], [0, 1, -2], [0, 0, 1]], atol=0.1)
    aligned, fixed = read("aligned.png"), read(two_views[1])
    assert np.abs(aligned[:44, :50] - fixed[:44, :50].astype(float)).mean() < 3
    assert "converged" in output and (current / "aligned-drawing.png").exists()


def test_align_ignores_transparent_pixels(tmp_path, capsys, two_views):
    picture = Image.open(two_views[0]).convert("RGBA")
    picture.paste((255, 0, 0, 0), (10, 8, 40, 36))
    picture.save(tmp_path / "holed.png")
    assert main(["align", str(tmp_path / "holed.png"), two_views[1], "--transform", "rigid"]) == 0
    output = capsys.readouterr().out
    matrix = np.array(eval(output[output.index("[[") : output.index("]]") + 2]))
    assert_allclose(matrix, [[1, 0, -3], [0, 1, -2], [0, 0, 1]], atol=0.1)


def test_align_says_what_is_wrong(tmp_path, capsys, two_views):
    Image.new("L", (48, 48), 7).save(tmp_path / "flat.png")
    assert main(["align", str(tmp_path / "flat.png"), two_views[1]]) == 1
    refused(capsys, 1, "`moving` must have structure")
    assert main(["align", str(tmp_path / "none.png"), two_views[1]]) == 1
    refused(capsys, 1, "none.png", "does not exist")


@on_tensorflow
@pytest.mark.parametrize("flags, name", [([], "model.onnx"), (["--output"], "other.onnx")])
def test_export(tmp_path, capsys, model, flags, name):
    pytest.importorskip("tf2onnx")
    flags = [*flags, str(tmp_path / name)] if flags else []
    assert main(["export", str(model), "--format", "onnx", *flags]) == 0
    assert capsys.readouterr().out == f"{tmp_path / name}\n"
    assert (tmp_path / name).stat().st_size > 100


@on_tensorflow
def test_export_refuses(tmp_path, capsys, model):
    status = main(["export", str(tmp_path / "none.keras"), "--format", "onnx"])
    refused(capsys, status, "no file", "none.keras")
    (tmp_path / "model").mkdir()
    refused(capsys, main(["export", str(model), "--format", "saved_model"]), "model exists")
    for output, words in (("none/x.tflite", "none does not exist"), ("dir.tflite", "is a folder")):
        (tmp_path / "dir.tflite").mkdir(exist_ok=True)
        flags = ["--format", "litert", "--output", str(tmp_path / output)]
        refused(capsys, main(["export", str(model), *flags]), words, "; ")
        assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.slow
def test_export_in_int8(tmp_path, rng, capfd):
    """The folder also holds files that are not pictures; pictures have any size."""
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
    printed = capfd.readouterr()
    assert printed.out == f"{tmp_path / 'model.tflite'}\n"
    assert "20 pictures of" in printed.err and "; 1 skipped" in printed.err
    assert "Warning: 100 pictures" in printed.err and "fully_quantize" not in printed.err
    runner = interpreter.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    files = [tmp_path / "pets" / "cat" / f"{k}.png" for k in range(20)]
    images = np.concatenate([inputs.read(path, model.inputs[0].shape) for path in files])
    expected = model(images)
    assert_allclose(runner(images=images)["output_0"], expected, atol=0.05 * np.ptp(expected))

    (tmp_path / "none").mkdir()
    refused(capfd, main([*command, str(tmp_path / "none")]), "none has no picture")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "model.keras")
    refused(capfd, main([*command, str(tmp_path / "pets")]), "fixed size", "(None, 4)")


def test_int8_is_for_litert(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "a.keras", "--format", "onnx", "--quantize", "pets"])
    assert ended.value.code == 2 and "--quantize is for --format litert" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "COMMAND"),
        (["frob"], "frob"),
        (["export", "a.keras"], "--format"),
        (["predict", "a.keras"], "IMAGE"),
    ],
)
def test_commands_that_are_incomplete_take_a_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.count("\n") == 1 and words in message
    assert message.startswith("stn_keras: ") and "--help" in message


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
    """The probabilities of the classes, in percent, in the block of each picture."""
    return [
        {name: float(share) for share, name in re.findall(r"^ +([\d.]+)%  (\w+)$", block, re.M)}
        for block in re.split(r"^(?=\S)", text, flags=re.M)[1:]
    ]


def test_predict(tmp_path, rng, capsys, quick, classifier, current):
    images = [picture(tmp_path / "a.png", rng), picture(tmp_path / "b.webp", rng, channels=4)]
    assert main(["predict", str(classifier), *map(str, images)]) == 0
    printed = capsys.readouterr().out
    logits = keras.models.load_model(classifier)(read(images[0], (12, 10))[None])
    shares = keras.ops.convert_to_numpy(keras.ops.softmax(logits)[0])
    first, second = predicted(printed)
    wanted = dict(zip(["ant", "bee", "cat"], 100 * shares, strict=True))
    assert first == pytest.approx(wanted, abs=0.06) and len(second) == 3
    assert list(first.values()) == sorted(first.values(), reverse=True)
    drawn = {f"{path.name}.{name}.png" for path in images for name in ("first", "second")}
    assert {path.name for path in current.iterdir()} == drawn
    assert not list(tmp_path.glob("*.*.png"))  # beside the pictures
    for name in drawn:
        assert name in printed and read(current / name).std() > 10


def test_predict_to_a_folder_past_a_damaged_image(tmp_path, rng, capsys, quick, classifier):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    flags = [str(tmp_path / "bad.png"), str(picture(tmp_path / "good.png", rng))]
    output = tmp_path / "out" / "deep"
    status = main(["predict", str(classifier), *flags, "--output-dir", str(output)])
    captured = capsys.readouterr()
    assert status == 1 and "bad.png can't be read" in captured.err
    assert len(predicted(captured.out)) == 1
    names = sorted(path.name for path in output.iterdir())
    assert names == ["good.png.first.png", "good.png.second.png"]


def test_predict_a_folder(tmp_path, rng, capsys, quick, classifier, current):
    """All pictures in it, sorted, with names for the drawings that tell them apart; its own
    drawings are none."""
    for name in ("cat/0.png", "dog/0.png", "a.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / "pets" / name, rng)
    (tmp_path / "pets" / "notes.txt").write_text("no picture")
    pets = str(tmp_path / "pets")
    for _ in range(2):
        flags = [str(tmp_path / "pets" / "a.jpg"), "--output-dir", pets]
        assert main(["predict", str(classifier), pets, *flags]) == 0
        captured = capsys.readouterr()
        asked = re.findall(r"^\S.*$", captured.out, re.M)
        assert asked == [f"{pets}/{name}" for name in ("a.jpg", "cat/0.png", "dog/0.png")]
        assert "stn_keras: " not in captured.err
    names = {path.name for path in pathlib.Path(pets).glob("*.first.png")}
    assert names == {"a.jpg.first.png", "cat-0.png.first.png", "dog-0.png.first.png"}
    assert not list(current.iterdir())


def test_a_folder_without_pictures(tmp_path, capsys, classifier):
    (tmp_path / "none").mkdir()
    for content in (None, "no picture"):
        if content:
            (tmp_path / "none" / "a.png").write_text(content)
        status = main(["predict", str(classifier), str(tmp_path / "none")])
        refused(capsys, status, "none has no picture that can be read; ")


def test_a_run_that_fails_leaves_no_folder(tmp_path, rng, capsys, classifier, model):
    image = str(picture(tmp_path / "a.png", rng))
    (tmp_path / "file").write_text("in the way")
    for path, picked, output, words in (
        (classifier, image, tmp_path / "file", "file is a file where a folder is wanted; delete"),
        (classifier, image, tmp_path / "file" / "out", "leads through a file"),
        (classifier, f"{image}.none", tmp_path / "out", "a.png.none does not exist; check"),
        (tmp_path / "none.keras", image, tmp_path / "out", "there is no file"),
    ):
        status = main(["predict", str(path), picked, "--output-dir", str(output)])
        refused(capsys, status, words)
        assert "room" not in words and not (tmp_path / "out").exists()
    assert main(["predict", str(model), image, "--output-dir", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out").exists()  # nothing was drawn: it has no transformer


@pytest.mark.parametrize("config", ["{}", None])
def test_without_names_classes_are_numbers(tmp_path, rng, capsys, model, config, current):
    """The model has no transformer: no picture is drawn."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert main(["predict", str(model), str(picture(tmp_path / "a.png", rng))]) == 0
    (found,) = predicted(capsys.readouterr().out)
    assert found.keys() == {"0", "1", "2"} and sum(found.values()) == pytest.approx(100, abs=0.2)
    assert not os.listdir(current)


@pytest.mark.parametrize("config", ["", "[]", '{"classes": 3}', '{"classes": ["a"]}', '{"cla'])
def test_damaged_settings(tmp_path, rng, capsys, model, config):
    (tmp_path / "config.json").write_text(config)
    status = main(["predict", str(model), str(picture(tmp_path / "a.png", rng))])
    refused(capsys, status, "config.json ", "; ")


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_damaged_models(tmp_path, capsys, model, content):
    model.write_bytes(model.read_bytes()[:-500] if content is None else content)
    refused(capsys, main(["predict", str(model), "a.png"]), "model.keras is not", "damaged; ")
    model.unlink()
    model.mkdir()
    refused(capsys, main(["predict", str(model), "a.png"]), "model.keras is a folder; ")


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
    assert_allclose(found, keras.ops.convert_to_numpy(wanted), atol=1e-6)
    assert classifier.warps(image) == {}


class Subclassed(keras.Model):
    def call(self, images):
        return images


def test_a_subclassed_model_is_no_classifier():
    with pytest.raises(ValueError, match="functional or sequential .*Received: a Subclassed"):
        predict.Classifier(Subclassed())


def test_predict_refuses(tmp_path, rng, capsys, model):
    image = str(picture(tmp_path / "a.png", rng))
    refused(capsys, main(["predict", str(tmp_path / "a.png"), image]), "not a .keras file")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(model)
    refused(capsys, main(["predict", str(model), image]), "no image classifier", "(None, 4)")
    evil = keras.layers.Lambda(lambda x: x)
    keras.Sequential([keras.Input((4, 4, 3)), evil]).save(model)
    refused(capsys, main(["predict", str(model), image]), "Python code", "not run")


@pytest.mark.slow
@pytest.mark.parametrize("image, status", [("a.png", 0), ("none.png", 1)])
def test_as_a_command_it_says_nothing_else(tmp_path, rng, classifier, image, status):
    picture(pathlib.Path("a.png"), rng)
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    command = [sys.executable, "-m", "stn_keras", "predict", str(classifier), image]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == status, run.stderr
    if status:
        assert run.stderr.startswith("stn_keras: none.png does not exist; check")
        assert run.stderr.count("\n") == 1 and not run.stdout
    else:
        assert not run.stderr and "a.png.first.png" in os.listdir()


@pytest.mark.slow
@on_tensorflow
def test_export_to_litert_as_a_command_says_nothing_else(classifier):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    command = [sys.executable, "-m", "stn_keras", "export", str(classifier), "--format", "litert"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and not run.stderr
    assert run.stdout == f"{classifier.with_suffix('.tflite')}\n"
