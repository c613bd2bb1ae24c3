"""Exported models, run by TensorFlow, LiteRT and ONNX Runtime, against Keras on fresh images."""

import itertools
import os
import sys
from collections import Counter
from concurrent import futures

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numpy.testing import assert_allclose

import stn_keras
from stn_keras import SpatialTransformer, export, localization, transforms
from stn_keras.checks.images import INTERPOLATIONS
from stn_keras.models import cifar10_stn
from stn_keras.serving import onnx

pytestmark = pytest.mark.slow

SIZE = (9, 7, 2)


def onnx_outputs(path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    assert {x.name for x in session.get_inputs()} == inputs.keys()
    return dict(zip((x.name for x in session.get_outputs()), session.run(None, inputs)))


def litert_outputs(path, inputs):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    return interpreter.get_signature_runner()(**inputs)


def saved_model_outputs(path, inputs):
    model = tf.saved_model.load(str(path))
    inputs = {name: tf.constant(x) for name, x in inputs.items()}
    outputs = model.signatures["serving_default"](**inputs)
    return {name: x.numpy() for name, x in outputs.items()}


OUTPUTS = {"onnx": onnx_outputs, "litert": litert_outputs, "saved_model": saved_model_outputs}


def agree(model, inputs, path, format):
    """Exports a model and asserts that the runtime and Keras agree, for two batch sizes."""
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    export.save(model, path, format)
    for count in (len(next(iter(inputs.values()))), 1):
        batch = {name: x[:count] for name, x in inputs.items()}
        received = batch if len(batch) > 1 else next(iter(batch.values()))
        (output,) = OUTPUTS[format](path, batch).values()
        assert_allclose(output, model(received), rtol=0, atol=1e-5)


def warp_and_inputs(rng, transform="affine", shape=SIZE, **options):
    """A model that is a warp, with images and theta; most warps also sample outside the image."""
    start = transforms.get(transform).identity
    images, theta = keras.Input(shape, name="images"), keras.Input(start.shape, name="theta")
    warp = SpatialTransformer(transform=transform, **options)
    model = keras.Model({"images": images, "theta": theta}, warp([images, theta]))
    inputs = {
        "images": rng.random((3, *SIZE), "float32"),
        "theta": np.float32(start + rng.uniform(-0.4, 0.4, (3, len(start)))),
    }
    return model, inputs


def trained(rng):
    """The CIFAR-10 network as if trained: its warps differ from image to image."""
    model = cifar10_stn()
    for weight in model.trainable_weights:
        weight.assign_add(rng.normal(0, 0.01, weight.shape))
    return model, {"images": rng.uniform(0, 255, (5, 32, 32, 3)).astype("float32")}


def operations(path):
    import onnx

    model = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("format", OUTPUTS)
def test_the_cifar10_network(rng, tmp_path, format):
    path = tmp_path / f"model{export.SUFFIXES[format]}"
    agree(*trained(rng), path, format)
    assert os.listdir(tmp_path) == [path.name]
    if format == "onnx":
        found = operations(path)
        assert found["AffineGrid"] == found["GridSample"] == 1 and not found["GatherND"]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_exported_as_float32(rng, tmp_path, set_policy, policy):
    pytest.importorskip("tf2onnx")
    set_policy(policy)
    half, inputs = trained(rng)
    set_policy("float32")
    full = cifar10_stn()
    full.set_weights(half.get_weights())
    path = tmp_path / "model.onnx"
    export.save(half, path, "onnx")
    (found,) = onnx_outputs(path, inputs).values()
    assert_allclose(found, full(inputs["images"]), rtol=0, atol=1e-5)
    assert np.abs(found - ops.cast(half(inputs["images"]), "float32")).max() > 1e-5
    assert half.get_layer("transformer").compute_dtype == policy.removeprefix("mixed_")


def shared_network():
    """A model with one network that feeds both its transformer and one of its outputs."""
    images = keras.Input(SIZE, name="images")
    network = keras.Sequential([keras.layers.Flatten(), localization.head()])
    features = keras.layers.Flatten()(SpatialTransformer(network, name="image")(images))
    theta = network(images)
    return keras.Model(images, keras.layers.Concatenate(dtype="float32")([features, theta]))


@pytest.mark.parametrize(
    "policy, format", [*(("float32", format) for format in OUTPUTS), ("mixed_float16", "onnx")]
)
def test_a_shared_network_is_exported_once(rng, tmp_path, quick, set_policy, policy, format):
    set_policy(policy)
    model = shared_network()
    for weight in model.weights:
        weight.assign_add(rng.uniform(-0.02, 0.02, weight.shape))
    wide = export.in_float32(model)
    assert wide.count_params() == model.count_params()
    images = {"images": rng.random((3, *SIZE), "float32")}
    path = tmp_path / f"model{export.SUFFIXES[format]}"
    export.save(model, path, format)
    (found,) = OUTPUTS[format](path, images).values()
    assert_allclose(found, wide(images["images"]), rtol=0, atol=1e-5)


def test_a_model_that_can_t_be_rebuilt_in_float32_says_why(tmp_path, set_policy):
    set_policy("mixed_float16")
    x, images = keras.Input(SIZE), keras.Input(SIZE)
    network = keras.Sequential([keras.layers.Flatten(), localization.head()], name="localize")
    theta = keras.Model(x, network(x), name="nested")(images)
    model = keras.Model(images, [theta, SpatialTransformer(network, name="warp")(images)])
    with pytest.raises(export.ExportError, match="float32: "):
        export.save(model, tmp_path / "model.onnx", "onnx")


def test_keras_s_own_export_of_a_shared_network(rng, tmp_path):
    model, images = shared_network(), {"images": rng.random((2, *SIZE), "float32")}
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    (found,) = saved_model_outputs(tmp_path / "model", images).values()
    assert_allclose(found, model(images["images"]), rtol=0, atol=1e-5)


def test_onnx_carries_a_network_of_several_inputs(rng, tmp_path, quick):
    x = {name: keras.Input(SIZE, name=name) for name in ("moving", "fixed")}
    inputs = [keras.Input(SIZE), keras.Input(SIZE)]
    features = keras.layers.Flatten()(keras.layers.Concatenate()(inputs))
    network = keras.Model(inputs, localization.head()(features))
    model = keras.Model(x, SpatialTransformer(network, iterations=2)([x["moving"], x["fixed"]]))
    for weight in model.weights:
        weight.assign_add(rng.uniform(-0.02, 0.02, weight.shape))
    inputs = {name: rng.random((3, *SIZE), "float32") for name in x}
    agree(model, inputs, tmp_path / "warp.onnx", "onnx")


@pytest.mark.parametrize("transform", transforms.TRANSFORMS)
def test_onnx_carries_every_transform(rng, tmp_path, quick, transform):
    agree(*warp_and_inputs(rng, transform), tmp_path / "warp.onnx", "onnx")
    found = operations(tmp_path / "warp.onnx")
    affine = transform not in ("projective", "thin_plate_spline")
    assert (found["AffineGrid"], found["GridSample"]) == (affine, 1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    "interpolation, fill_mode",
    [*itertools.product(INTERPOLATIONS, onnx.PADDING_MODES)],
)
def test_onnx_carries_every_sampler(rng, tmp_path, quick, interpolation, fill_mode, align_corners):
    model, inputs = warp_and_inputs(
        rng,
        interpolation=interpolation,
        fill_mode=fill_mode,
        fill_value=(0.5, -2.0),
        align_corners=align_corners,
    )
    agree(model, inputs, tmp_path / "warp.onnx", "onnx")


@pytest.mark.parametrize(
    "options",
    [
        {"output_size": (4, 6), "antialias": 3},
        {"output_size": (1, 5), "align_corners": True},
        {"data_format": "channels_first", "antialias": 2},
    ],
    ids=["antialias", "one row", "channels first"],
)
def test_onnx_carries_every_size_and_layout(rng, tmp_path, quick, options):
    agree(*warp_and_inputs(rng, **options), tmp_path / "warp.onnx", "onnx")


def test_litert_carries_other_options(rng, tmp_path, quick):
    options = {"interpolation": "nearest", "fill_mode": "reflect"}
    agree(*warp_and_inputs(rng, "projective", **options), tmp_path / "warp.tflite", "litert")


class Sample(keras.Layer):
    def call(self, images, grid):
        return stn_keras.grid_sample(images, grid)


@pytest.mark.parametrize("size", [(9, 7), (3, 9, 7)], ids=["images", "volumes"])
def test_onnx_carries_grid_sample_in_a_layer_of_ones_own(rng, tmp_path, quick, size):
    images = keras.Input((*size, 2), name="images")
    grid = keras.Input((*(4,) * len(size), len(size)), name="grid")
    model = keras.Model({"images": images, "grid": grid}, Sample()(images, grid))
    inputs = {
        "images": rng.random((2, *images.shape[1:]), "float32"),
        "grid": rng.uniform(-1.3, 1.3, (2, *grid.shape[1:])).astype("float32"),
    }
    agree(model, inputs, tmp_path / "sample.onnx", "onnx")
    assert operations(tmp_path / "sample.onnx")["GridSample"] == 1


@pytest.mark.parametrize("format", OUTPUTS)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_volumes_are_exported(rng, tmp_path, quick, format, interpolation):
    rigid = transforms.Rigid(axes=3)
    x = {
        "images": keras.Input((3, 5, 4, 2), name="images"),
        "theta": keras.Input((6,), name="theta"),
    }
    layer = SpatialTransformer(
        transform=rigid, interpolation=interpolation, antialias=2, fill_value=0.5
    )
    model = keras.Model(x, layer([x["images"], x["theta"]]))
    inputs = {
        "images": rng.random((2, 3, 5, 4, 2), "float32"),
        "theta": rng.uniform(-0.4, 0.4, (2, 6)).astype("float32"),
    }
    path = tmp_path / f"warp{export.SUFFIXES[format]}"
    agree(model, inputs, path, format)
    if format == "onnx":
        found = operations(path)
        assert found["AffineGrid"] == found["GridSample"] == 1 and not found["GatherND"]


@pytest.mark.parametrize("format", OUTPUTS)
@pytest.mark.parametrize("transform", ["box", "projective"])
def test_glimpses_are_exported(rng, tmp_path, quick, format, transform):
    identity = transforms.get(transform).identity
    x = {
        "images": keras.Input(SIZE, name="images"),
        "theta": keras.Input((3, len(identity)), name="theta"),
    }
    layer = SpatialTransformer(transform=transform, output_size=(4, 5), antialias=2)
    model = keras.Model(x, layer([x["images"], x["theta"]]))
    theta = identity + rng.uniform(-0.4, 0.4, (2, 3, len(identity)))
    inputs = {"images": rng.random((2, *SIZE), "float32"), "theta": np.float32(theta)}
    path = tmp_path / f"warp{export.SUFFIXES[format]}"
    agree(model, inputs, path, format)
    if format == "onnx":
        found = operations(path)
        assert found["GridSample"] == 1 and not found["GatherND"]


def test_images_of_any_size(rng, tmp_path, quick):
    model, inputs = warp_and_inputs(rng, "similarity", shape=(None, None, 2))
    agree(model, inputs, tmp_path / "warp.onnx", "onnx")


def dense(name):
    return keras.layers.Dense(3, name=name)


def named(case):
    """A model, its inputs, and the names of its inputs and outputs."""
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    x, y = np.eye(2, 4, dtype="float32"), np.ones((2, 4), "float32")
    theta, logits = dense("head")(first), dense("classes")(second)
    if case == "dictionaries":
        model = keras.Model({"first": first, "second": second}, {"theta": theta, "logits": logits})
        return model, {"first": x, "second": y}, {"first": x, "second": y}, ("logits", "theta")
    if case == "keys that are not the inputs' names":
        model = keras.Model({"b": first, "a": second}, {"z": theta, "y": logits})
        return model, {"b": x, "a": y}, {"b": x, "a": y}, ("y", "z")
    if case == "nested":
        model = keras.Model([first, second], {"scores": [theta, logits], "deep": {"er": theta}})
        return model, [x, y], {"first": x, "second": y}, ("deep_er", "scores_0", "scores_1")
    if case == "an input and a tensor twice":
        model = keras.Model(first, {"given": first, "a": theta, "b": theta})
        return model, x, {"first": x}, ("a", "b", "given")
    model = keras.Model([second, first], [theta, logits])
    names = ("head", "classes")
    return model, [y, x], {"first": x, "second": y}, names


@pytest.mark.parametrize("format", OUTPUTS)
@pytest.mark.parametrize(
    "case",
    [
        "dictionaries",
        "keys that are not the inputs' names",
        "nested",
        "an input and a tensor twice",
        "lists",
    ],
)
def test_names_are_kept(tmp_path, case, format):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    model, structure, inputs, names = named(case)
    if case == "lists" and format != "onnx":
        names = ("output_0", "output_1")
    path = tmp_path / f"model{export.SUFFIXES[format]}"
    export.save(model, path, format)
    found = OUTPUTS[format](path, inputs)
    assert found.keys() == {*names}
    for name, expected in zip(names, keras.tree.flatten(model(structure))):
        assert_allclose(found[name], expected, rtol=0, atol=1e-6, err_msg=name)


class Halves(keras.Layer):
    def call(self, x):
        return x[:, :1], x[:, 1:]


def test_onnx_numbers_names_that_are_taken(tmp_path):
    pytest.importorskip("tf2onnx")
    x, image = np.eye(2, 4, dtype="float32"), keras.Input((4,), name="image")
    for outputs, names in (
        (Halves(name="halves")(image), ["halves", "halves_1"]),
        ({"image": dense("a")(image)}, ["image_1"]),
    ):
        model = keras.Model(image, outputs)
        export.save(model, tmp_path / "model.onnx", "onnx")
        found = onnx_outputs(tmp_path / "model.onnx", {"image": x})
        assert list(found) == names
        for output, expected in zip(found.values(), keras.tree.flatten(model(x))):
            assert_allclose(output, expected, rtol=0, atol=1e-6)


def wide_model(rng, case):
    """A model with float64 in it, and its inputs."""
    images = keras.Input(SIZE, name="images")
    inputs = {"images": rng.random((3, *SIZE), "float32")}
    if case == "theta":
        theta = keras.Input((6,), name="theta", dtype="float64")
        inputs["theta"] = np.array([1, 0.1, 0, 0, 0.9, 0.1]) + rng.uniform(-0.3, 0.3, (3, 6))
        warp = SpatialTransformer(interpolation="bicubic", fill_value=0.5)
        return keras.Model({"images": images, "theta": theta}, warp([images, theta])), inputs
    bias = keras.initializers.Constant(rng.uniform(-0.4, 0.4, 8))
    head = keras.layers.Dense(8, "tanh", bias_initializer=bias, dtype="float64")
    network = keras.Sequential([keras.layers.Flatten(dtype="float64"), head])
    layer = SpatialTransformer(network, transform="projective", dtype="float64")
    return keras.Model({"images": images}, keras.layers.Flatten()(layer(images))), inputs


@pytest.mark.parametrize("case", ["theta", "layer"])
def test_float64_in_onnx_and_saved_models(rng, tmp_path, case):
    model, inputs = wide_model(rng, case)
    agree(model, inputs, tmp_path / "warp.onnx", "onnx")
    if case == "layer":
        agree(model, inputs, tmp_path / "warp", "saved_model")


def test_float64_that_a_runtime_lacks_is_refused(rng, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(export.ExportError, match="LiteRT.*float64.*|float64.*LiteRT"):
        export.save(wide_model(rng, "theta")[0], tmp_path / "model.tflite", "litert")
    images = keras.Input(SIZE, dtype="float64")
    convolved = keras.layers.Conv2D(2, 3, dtype="float64")(images)
    with pytest.raises(export.ExportError, match="ONNX Runtime.*float64"):
        export.save(keras.Model(images, convolved), tmp_path / "model.onnx", "onnx")
    assert not os.listdir(tmp_path)


class Unknown(keras.Layer):
    """An operation that neither LiteRT nor ONNX has."""

    def call(self, images):
        return tf.image.rgb_to_hsv(tf.image.adjust_jpeg_quality(images[0], 50))[None]


@pytest.mark.parametrize("format, words", [("onnx", "AdjustJpeg|Decode"), ("litert", "converter")])
def test_an_operation_that_the_format_lacks_leaves_the_old_file(tmp_path, format, words):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    inputs = keras.Input((8, 8, 3))
    path = tmp_path / f"model{export.SUFFIXES[format]}"
    path.write_text("before")
    with pytest.raises(export.ExportError, match=words):
        export.save(keras.Model(inputs, Unknown()(inputs)), path, format)
    assert path.read_text() == "before" and os.listdir(tmp_path) == [path.name]


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(export.ExportError, match=r"tf2onnx.*pip install '\.\[export\]'"):
        export.save(built(), tmp_path / "model.onnx", "onnx")


def built():
    return keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])


def test_a_saved_model_replaces_no_folder(tmp_path):
    with pytest.raises(FileExistsError, match="choose another"):
        export.save(built(), tmp_path, "saved_model")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "model, name, format, words",
    [
        (built(), "a.onnx", "onyx", "`format`.*onyx"),
        (built(), "a.keras", "onnx", r"`path`.*\.onnx"),
        (keras.Sequential(), "a.onnx", "onnx", "`model`.*functional"),
    ],
)
def test_arguments_that_cannot_be_meant(tmp_path, model, name, format, words):
    with pytest.raises(ValueError, match=words):
        export.save(model, tmp_path / name, format)


def test_models_are_exported_and_called_in_several_threads_at_once(rng, tmp_path, capfd):
    """stderr is that of all threads, and is still there afterwards."""
    pytest.importorskip("tf2onnx")
    model, inputs = warp_and_inputs(rng, "similarity")
    expected = model(inputs)

    def work(k):
        format = ("onnx", "litert", "called")[k % 3]
        if format == "called":
            return float(np.abs(model(inputs) - expected).max())
        path = tmp_path / f"{k}{export.SUFFIXES[format]}"
        export.save(model, path, format)
        (output,) = OUTPUTS[format](path, inputs).values()
        return float(np.abs(output - expected).max())

    with futures.ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(6))) < 1e-5
    os.write(2, b"here\n")
    assert capfd.readouterr().err.endswith("here\n")
