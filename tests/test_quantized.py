"""LiteRT files in int8, run by LiteRT, against Keras."""

import importlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import stn_keras
from stn_keras import SpatialTransformer, export, localization, transforms

pytestmark = pytest.mark.slow

SIZE = (32, 24)


def waves(rng, count=40):
    """Smooth images in 0 … 1."""
    rows, columns = (axis[..., None] / 32 for axis in np.mgrid[: SIZE[0], : SIZE[1]])
    a, b, c = rng.uniform(0.5, 2, (3, count, 1, 1, 3))
    return (0.5 + 0.5 * np.sin(2 * np.pi * (a * columns + b * rows + c))).astype("float32")


def looking(rng, transform="affine", **options):
    """A transformer whose warps differ from image to image."""
    transform = transforms.get(transform)
    head = localization.head(transform)
    network = keras.Sequential([keras.layers.AveragePooling2D(4), keras.layers.Flatten(), head])
    layer = SpatialTransformer(network, transform=transform, **options)
    layer.build((None, *SIZE, 3))
    kernel, bias = head.get_weights()
    small = 0.1 if transform.num_parameters > 6 else 1
    head.set_weights(
        [
            rng.normal(0, 0.02 * small, kernel.shape),
            bias + rng.uniform(-0.2, 0.2, bias.shape) * small,
        ]
    )
    return layer


def quantized(model, path, examples):
    export.save(model, path, "litert", quantize=examples)
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    return interpreter.get_signature_runner()


def close(found, expected, spread, share=0.99):
    """The goal is an error of 0.05 of the range over many images; one image may have twice that."""
    errors = np.abs(found - np.asarray(expected)) / spread
    assert errors.mean() < 0.02 and np.quantile(errors, share) < (0.05 if len(found) > 1 else 0.1)


def check(model, path, share=0.99, **inputs):
    """Quantizes by 32 examples and asserts that all outputs are close, for two sizes of batch."""
    several = isinstance(model.input, dict)
    runner = quantized(
        model, path, {k: x[:32] for k, x in inputs.items()} if several else inputs["images"][:32]
    )
    assert runner.get_input_details().keys() == inputs.keys()
    expected = keras.tree.flatten(model(inputs if several else inputs["images"]))
    for count in (40, 1):
        found = runner(**{name: x[:count] for name, x in inputs.items()})
        for (_, output), wanted in zip(sorted(found.items()), expected, strict=True):
            close(output, wanted[:count], np.ptp(wanted), share)


@pytest.mark.parametrize("transform", transforms.TRANSFORMS)
def test_every_transform(rng, tmp_path, quick, transform):
    images = keras.Input((*SIZE, 3), name="images")
    model = keras.Model(images, looking(rng, transform)(images))
    check(model, tmp_path / "model.tflite", images=waves(rng))


@pytest.mark.parametrize("transform", ["affine", "projective", "thin_plate_spline"])
def test_the_ordinary_conversion_keeps_warps(rng, transform):
    """TensorFlow's own converter, which computes coordinates in eight bits too."""
    images = keras.Input((*SIZE, 3), batch_size=1, name="images")
    model, data = keras.Model(images, looking(rng, transform)(images)), waves(rng)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in data[:32])
    content = converter.convert()
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(model_content=content).get_signature_runner()
    batches = data[::4, None]
    expected = np.concatenate([model(images) for images in batches])
    found = np.concatenate([next(iter(runner(images=x).values())) for x in batches])
    assert np.abs(found - expected).mean() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize(
    "interpolation, fill_mode",
    [
        ("nearest", "reflect"),
        ("bilinear", "wrap"),
        ("bilinear", "nearest"),
        ("bicubic", "constant"),
    ],
)
def test_every_sampler(rng, tmp_path, quick, interpolation, fill_mode):
    images = keras.Input((*SIZE, 3), name="images")
    options = {"fill_value": 0.5, "align_corners": bool(rng.integers(2))}
    layer = looking(rng, interpolation=interpolation, fill_mode=fill_mode, **options)
    # Where a rounded theta moves the border between two pixels, the nearest one is another.
    share = 0.95 if interpolation == "nearest" else 0.99
    model = keras.Model(images, layer(images))
    check(model, tmp_path / "model.tflite", share, images=waves(rng))


def test_theta_is_as_exact_as_an_output_between_convolutions(rng, tmp_path, quick):
    """A network that is applied twice, last in one model and first in another."""
    images = keras.Input((*SIZE, 3), name="images")
    layer = looking(rng, iterations=2, gradient_scale=0.1)
    features = keras.layers.Conv2D(3, 3, padding="same")(images)
    warped = keras.layers.Conv2D(4, 3, activation="relu")(layer(features))
    theta = keras.layers.Lambda(layer.theta, output_shape=(6,))(features)
    model = keras.Model(images, {"theta": theta, "warped": warped})
    check(model, tmp_path / "model.tflite", images=waves(rng))


class Sample(keras.Layer):
    def call(self, images, grid):
        return stn_keras.grid_sample(images, grid)


def test_models_in_which_nothing_is_left_to_quantize(rng, tmp_path, quick):
    images = keras.Input((*SIZE, 3), name="images")
    theta, grid = keras.Input((6,), name="theta"), keras.Input((5, 4, 2), name="a-grid")
    model = keras.Model(
        {"images": images, "theta": theta, "a-grid": grid},
        [SpatialTransformer()([images, theta]), Sample()(images, grid)],
    )
    thetas = np.float32([1, 0, 0, 0, 1, 0] + rng.uniform(-0.3, 0.3, (40, 6)))
    grids = rng.uniform(-1.2, 1.2, (40, 5, 4, 2)).astype("float32")
    path = tmp_path / "model.tflite"
    check(model, path, **{"images": waves(rng), "theta": thetas, "a-grid": grids})


def test_a_trained_classifier_is_a_third_of_the_size(rng, tmp_path, quick):
    """With random weights, the errors would depend on how sensitive the network happens to be."""
    folder = pathlib.Path(__file__).parents[1] / "saved_models" / "cifar10"
    model = keras.models.load_model(folder / "best.keras")
    with np.load(folder / "test_images.npz") as file:
        images = rng.permutation(file["images"])[:40].astype("float32")
    check(model, tmp_path / "model.tflite", images=images)
    export.save(model, tmp_path / "float.tflite", "litert")
    sizes = [(tmp_path / f"{name}.tflite").stat().st_size for name in ("model", "float")]
    assert sizes[0] < sizes[1] / 3


@pytest.mark.parametrize(
    "format, data, words",
    [
        ("onnx", np.ones((3, 4)), "`quantize` is for.*onnx"),
        ("litert", np.ones((3, 5)), r"\(None, 4\).*\(3, 5\)"),
        ("litert", np.ones(4), r"\(None, 4\).*\(4,\)"),
        ("litert", np.ones((0, 4)), r"\(0, 4\)"),
        ("litert", [np.ones((3, 4))], "structured like them.*list"),
    ],
    ids=["format", "shape", "one example", "none", "structure"],
)
def test_examples_that_cannot_be_meant(tmp_path, format, data, words):
    model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    path = tmp_path / f"model{export.SUFFIXES[format]}"
    with pytest.raises(ValueError, match=words):
        export.save(model, path, format, quantize=data)
    assert not list(tmp_path.iterdir())


def test_examples_must_be_equally_many(tmp_path):
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], a + b)
    with pytest.raises(ValueError, match="equally many"):
        export.save(
            model, tmp_path / "a.tflite", "litert", quantize=[np.ones((3, 4)), np.ones((2, 4))]
        )


def test_nothing_is_printed(rng, tmp_path, capfd):
    model = keras.Sequential([keras.Input((*SIZE, 3)), looking(rng)])
    export.save(model, tmp_path / "model.tflite", "litert", quantize=waves(rng, 2))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lacking", ["quantizer", "setting"])
def test_without_tensorflows_private_names_a_sentence_says_so(rng, tmp_path, monkeypatch, lacking):
    if lacking == "quantizer":
        convert = importlib.import_module("tensorflow.lite.python.convert")
        monkeypatch.delattr(convert, "mlir_quantize")
    else:
        monkeypatch.setattr(tf.lite, "TFLiteConverter", lambda functions: object())
    model = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Flatten()])
    with pytest.raises(export.ExportError, match="without `quantize`"):
        export.save(model, tmp_path / "model.tflite", "litert", quantize=waves(rng))
    assert not list(tmp_path.iterdir())
