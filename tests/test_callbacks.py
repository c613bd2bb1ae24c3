"""Real event files, read back with TensorBoard's own reader."""

import csv
import io

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)
from tensorboard.util.tensor_util import make_ndarray

from stn_keras import SpatialTransformer
from stn_keras.callbacks import (
    Checkpoint,
    Evaluation,
    MetricsSummary,
    ProgressBar,
    TerminateOnNaNTheta,
    Throughput,
    TransformerSummary,
    literal,
    write_graph,
    write_settings,
)
from stn_keras.observe import decompose

QUANTITIES = (
    "scale_x",
    "scale_y",
    "rotation",
    "shear",
    "translation_x",
    "translation_y",
    "outside",
    "nonfinite",
)
THETA = [0.0, -0.5, 0.25, 0.5, 0.0, 0.0]  # zoomed in twofold, turned by 90 degrees, moved right
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 8, 12, 3)).astype("float32")
LABELS = np.arange(4)


def constant_theta(theta, name):
    """A localization network that returns `theta` for every image until it is trained."""
    bias = keras.initializers.Constant(theta)
    head = keras.layers.Dense(6, kernel_initializer="zeros", bias_initializer=bias)
    return keras.Sequential([keras.layers.GlobalAveragePooling2D(), head], name=name)


def tiny(names=("warp",), learning_rate=0.0, **options):
    """A functional model with a transformer for each name; its learning rate is 0."""
    images = keras.Input((8, 12, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    for name in names:
        x = SpatialTransformer(constant_theta(THETA, f"localize_{name}"), name=name, **options)(x)
    logits = keras.layers.Dense(4, dtype="float32")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, logits)
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=True,  # two steps aren't worth a trace
    )
    return model


def fit(model, callbacks, epochs=1, **options):
    return model.fit(
        IMAGES, LABELS, batch_size=2, epochs=epochs, verbose=0, callbacks=callbacks, **options
    )


def drive(model, summary, epochs):
    """Calls callbacks for these epochs as `fit` does, without training."""
    callbacks = keras.callbacks.CallbackList([summary], model=model)
    callbacks.on_train_begin()
    for epoch in epochs:
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {})
    callbacks.on_train_end()


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def scalars(folder, tag):
    return {e.step: float(make_ndarray(e.tensor_proto)) for e in events(folder).Tensors(tag)}


def compose(scale_x, scale_y, rotation, shear, translation_x, translation_y):
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    linear = (
        np.array([[cos, -sin], [sin, cos]])
        @ np.array([[1, shear], [0, 1]])
        @ np.diag([scale_x, scale_y])
    )
    return np.column_stack([linear, [translation_x, translation_y]]).ravel()


def test_decompose_undoes_composition():
    rng = np.random.default_rng(1)
    parts = {
        "scale_x": rng.uniform(0.1, 3, 100),
        "scale_y": rng.uniform(0.1, 3, 100) * rng.choice([-1, 1], 100),
        "rotation": rng.uniform(-180, 180, 100),
        "shear": rng.uniform(-2, 2, 100),
        "translation_x": rng.uniform(-1, 1, 100),
        "translation_y": rng.uniform(-1, 1, 100),
    }
    theta = np.stack([compose(*numbers) for numbers in zip(*parts.values(), strict=True)])
    found = decompose(theta)
    assert found.keys() == parts.keys()
    for name, values in parts.items():
        assert_allclose(found[name], values, atol=1e-9, err_msg=name)
    assert_allclose(decompose(theta.reshape(-1, 2, 3))["shear"], parts["shear"], atol=1e-9)


def test_decompose_gives_half_a_turn_as_plus_180():
    assert decompose([[-1, 0, 0, -0.0, -1, 0]])["rotation"] == 180


@pytest.mark.parametrize("shape", [(1, 2, 6), (1, 3, 6), (6,), (1, 8)])
def test_decompose_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"`theta` must have shape.*theta.shape=\("):
        decompose(np.ones(shape))


def test_decompose_of_a_singular_matrix_does_not_raise():
    with np.errstate(all="raise"):
        found = decompose(np.zeros((1, 6)))
    assert found["scale_x"] == 0 and np.isnan(found["scale_y"])


def test_summary_writes_the_transform_of_every_epoch(tmp_path):
    fit(tiny(), [TransformerSummary(tmp_path, IMAGES, figure_freq=0)], epochs=2)
    # The region is turned by 90° and spans 0.25 ± 0.5 by ± 0.5, so it stays inside the image.
    expected = dict(zip(QUANTITIES, (0.5, 0.5, 90, 0, 0.25, 0, 0, 0), strict=True))
    for quantity, value in expected.items():
        means = scalars(tmp_path / "transformer", f"warp/{quantity}_mean")
        assert list(means) == [0, 1, 2]
        assert_allclose(list(means.values()), value, atol=1e-5, err_msg=quantity)
        spread = scalars(tmp_path / "transformer", f"warp/{quantity}_std")
        assert_allclose(list(spread.values()), 0, atol=1e-5)


def test_spread_is_over_images_and_follows_the_weights(tmp_path):
    model = tiny(learning_rate=1.0)
    fit(model, [TransformerSummary(tmp_path, IMAGES, figure_freq=0)])
    theta = model.get_layer("warp").theta(IMAGES / 255)
    found = decompose(theta)
    for statistic in ("mean", "std"):
        written = scalars(tmp_path / "transformer", f"warp/shear_{statistic}")
        assert_allclose(written[1], getattr(found["shear"], statistic)(), rtol=1e-3)
        assert abs(written[1] - written[0]) > 1e-5


def test_the_spread_of_the_warps_is_in_pixels_at_the_corners(tmp_path):
    images, theta = keras.Input((8, 12, 3)), keras.Input((2,))
    layer = SpatialTransformer(transform="translation", name="warp")
    model = keras.Model([images, theta], layer([images, theta]))
    moves = np.tile([[0.5, 0.25], [0.5, -0.25]], (2, 1)).astype("float32")
    drive(model, TransformerSummary(tmp_path, [IMAGES, moves], figure_freq=0), epochs=[0])
    for tag, value in (("spread", 1), ("shift", 3)):  # an eighth of the height, a quarter of 12
        written = scalars(tmp_path / "transformer", f"warp/warp_{tag}")
        assert written == pytest.approx({0: value, 1: value}, rel=1e-5)


def test_outside_is_the_share_of_samples_beyond_the_image(tmp_path):
    theta = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]  # half the image's width to the right
    layer = SpatialTransformer(constant_theta(theta, "localize"), name="warp")
    model = keras.Sequential([keras.Input((8, 12, 3)), layer])
    drive(model, TransformerSummary(tmp_path, IMAGES, figure_freq=0), epochs=[0])
    assert scalars(tmp_path / "transformer", "warp/outside_mean") == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize(
    "epochs, drawn",
    [(range(4), [0, 2, 4]), (range(3), [0, 2, 3]), (range(7, 9), [7, 8, 9])],
    ids=["every second", "the last one besides", "resumed after seven"],
)
def test_figures_before_training_every_few_epochs_and_at_the_end(tmp_path, epochs, drawn):
    drive(tiny(), TransformerSummary(tmp_path, IMAGES, figure_freq=2), epochs)
    figures = events(tmp_path / "transformer").Tensors("warp/warps")
    assert [figure.step for figure in figures] == drawn
    means = events(tmp_path / "transformer").Tensors("warp/shear_mean")
    assert [mean.step for mean in means] == [epochs[0], *(epoch + 1 for epoch in epochs)]
    width, height, png = make_ndarray(figures[0].tensor_proto)
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape == (int(height), int(width), 3) and len(np.unique(picture)) > 50


def test_no_figures_where_none_are_asked_for(tmp_path):
    drive(tiny(), TransformerSummary(tmp_path, IMAGES, figure_freq=0), range(2))
    tags = events(tmp_path / "transformer").Tags()["tensors"]
    assert "warp/shear_mean" in tags and "warp/warps" not in tags


def test_each_transformer_has_its_own_tags(tmp_path):
    model = tiny(("first", "second"), output_size=(4, 6))
    drive(model, TransformerSummary(tmp_path, IMAGES), epochs=[0])
    statistics = [f"{quantity}_{s}" for quantity in QUANTITIES for s in ("mean", "std")]
    statistics += ["warp_spread", "warp_shift", "warps"]
    wanted = {f"{name}/{s}" for name in ("first", "second") for s in statistics}
    assert set(events(tmp_path / "transformer").Tags()["tensors"]) == wanted


def test_theta_from_outside_and_feature_maps(tmp_path):
    images, theta = keras.Input((8, 12, 3)), keras.Input((6,))
    maps = keras.layers.Conv2D(5, 1)(images)
    model = keras.Model([images, theta], SpatialTransformer(name="warp")([maps, theta]))
    inputs = [IMAGES, np.tile(THETA, (len(IMAGES), 1)).astype("float32")]
    drive(model, TransformerSummary(tmp_path, inputs), epochs=[0])
    assert_allclose(scalars(tmp_path / "transformer", "warp/rotation_mean")[1], 90, rtol=1e-5)
    assert "warp/warps" in events(tmp_path / "transformer").Tags()["tensors"]


def test_raw_uint8_images_under_mixed_precision(tmp_path):
    images = keras.Input((8, 12, 3))
    layer = SpatialTransformer(constant_theta(THETA, "l"), name="warp", dtype="mixed_bfloat16")
    drive(
        keras.Model(images, layer(keras.layers.Rescaling(1 / 255)(images))),
        TransformerSummary(tmp_path, IMAGES.astype("uint8"), figure_freq=0),
        epochs=[0],
    )
    assert_allclose(scalars(tmp_path / "transformer", "warp/scale_x_mean")[0], 0.5, rtol=1e-2)


def test_a_model_without_transformer_writes_nothing(tmp_path):
    drive(tiny(names=()), TransformerSummary(tmp_path, IMAGES), epochs=range(2))
    assert not list(tmp_path.iterdir())


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.warp = SpatialTransformer(constant_theta(THETA, "localize"), name="warp")
        self.top = keras.layers.GlobalAveragePooling2D()

    def call(self, images):
        return self.top(self.warp(images))


def nested():
    front = keras.Sequential([tiny().get_layer("warp")], name="front")
    return keras.Sequential([keras.Input((8, 12, 3)), front, keras.layers.GlobalAveragePooling2D()])


@pytest.mark.parametrize("model", [nested, Subclassed])
def test_models_within_models_and_subclassed_ones(tmp_path, model):
    model = model()
    model.compile("sgd", "mse")
    callbacks = [TransformerSummary(tmp_path, IMAGES), TerminateOnNaNTheta(IMAGES)]
    model.fit(IMAGES, np.zeros((4, 3)), verbose=0, callbacks=callbacks)
    assert scalars(tmp_path / "transformer", "warp/outside_mean").keys() == {0, 1}
    assert "warp/warps" in events(tmp_path / "transformer").Tags()["tensors"]


def poison(model, value):
    """Sets two of the six parameters of the transformer `warp` to a value."""
    bias = np.array(THETA)
    bias[[1, 3]] = value
    model.get_layer("warp").localization.layers[-1].bias.assign(bias)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_dead_parameters_are_counted(tmp_path, value):
    model = tiny()
    poison(model, value)
    drive(model, TransformerSummary(tmp_path, IMAGES, figure_freq=0), epochs=[0])
    share = scalars(tmp_path / "transformer", "warp/nonfinite_mean")
    assert_allclose(list(share.values()), 1 / 3, rtol=1e-6)


class Poison(keras.callbacks.Callback):
    """After the third epoch theta is NaN, as after a huge gradient, but the loss is finite."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            poison(self.model, np.nan)


def test_a_dead_transformer_ends_training_with_its_name(capsys):
    callbacks = [Poison(), TerminateOnNaNTheta(IMAGES[:2])]
    history = fit(tiny(("first", "warp")), callbacks, epochs=5)
    assert history.epoch == [0, 1, 2] and np.isfinite(history.history["loss"]).all()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "Epoch 3" in said[0] and "'warp'" in said[0]


def test_a_dead_transformer_may_raise():
    with pytest.raises(RuntimeError, match="Epoch 3: .*'warp' is NaN or infinite; lower"):
        fit(tiny(), [Poison(), TerminateOnNaNTheta(IMAGES[:2], raise_error=True)], epochs=5)


def test_throughput_reaches_history_csv_and_tensorboard(tmp_path):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.4, decay_steps=4, end_learning_rate=0)
    callbacks = [
        Throughput(len(IMAGES)),
        keras.callbacks.CSVLogger(tmp_path / "history.csv"),
        MetricsSummary(tmp_path / "logs"),
    ]
    model = tiny(learning_rate=schedule)
    history = fit(model, callbacks, epochs=2, validation_data=(IMAGES, LABELS)).history
    assert_allclose(history["learning_rate"], [0.35, 0.15], atol=1e-7)  # 0.4, 0.3, 0.2, 0.1
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("images_per_second", "learning_rate"):
        assert [float(row[name]) for row in rows] == history[name]
        written = scalars(tmp_path / "logs" / "train", f"epoch_{name}")
        assert_allclose(list(written.values()), history[name], rtol=1e-6)


def test_throughput_times_training_only(monkeypatch):
    now = iter([10.0, 14.0])  # an epoch's begin, its validation's begin; nothing asks after that
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    throughput, logs = Throughput(100), {}
    throughput.set_model(tiny())
    throughput.on_epoch_begin(0)
    throughput.on_test_begin()
    throughput.on_epoch_end(0, logs)
    assert logs["images_per_second"] == 25


def test_learning_rate_under_loss_scaling():
    model = tiny()
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 4, end_learning_rate=0)
    model.optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(schedule))
    assert fit(model, [Throughput(4)]).history["learning_rate"] == [0.4375]  # 0.5 and 0.375


def test_metrics_of_three_sets_are_three_runs_counted_in_epochs_done(tmp_path):
    callbacks = [Evaluation((IMAGES, LABELS), "test"), MetricsSummary(tmp_path)]
    history = fit(tiny(), callbacks, epochs=2, validation_data=(IMAGES, LABELS)).history
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation", "test"}
    for run, prefix in (("train", ""), ("validation", "val_"), ("test", "test_")):
        for name in ("loss", "accuracy"):
            written = scalars(tmp_path / run, f"epoch_{name}")
            assert list(written) == [1, 2]
            assert_allclose(list(written.values()), history[prefix + name], rtol=1e-6)


def test_the_first_batch_is_seen_before_the_epoch_ends(tmp_path):
    def look(epoch, logs):
        seen.append(scalars(tmp_path / "train", "batch_loss"))

    seen = []
    early = keras.callbacks.LambdaCallback(on_epoch_end=look)
    fit(tiny(), [early, MetricsSummary(tmp_path, update_freq=2)], epochs=2)
    assert [list(found) for found in seen] == [[1], [1, 3]]  # two steps an epoch


def test_settings_are_text_and_hparams(tmp_path):
    settings = {"batch_size": 128, "peak": 0.03, "flip": True, "size": (32, 32), "seed": 0}
    write_settings(tmp_path, settings, columns=["batch_size", "peak", "flip", "size"])
    found = events(tmp_path)
    text = make_ndarray(found.Tensors("settings")[0].tensor_proto).item().decode()
    assert "| batch_size | 128 |" in text and text.startswith("| setting | value |\n|---|---|\n")
    assert "| seed | 0 |" in text
    metadata = found.SummaryMetadata("_hparams_/session_start_info")
    info = parse_session_start_info_plugin_data(metadata.plugin_data.content)
    values = info.hparams
    assert values["batch_size"].string_value == "128" and values["peak"].number_value == 0.03
    assert values["flip"].bool_value is True and values["size"].string_value == "(32, 32)"
    assert "seed" not in values and info.group_name == tmp_path.name


def test_hparams_list_the_test_accuracy_first(tmp_path):
    write_settings(tmp_path, {"seed": 0})
    metadata = events(tmp_path).SummaryMetadata("_hparams_/experiment")
    experiment = parse_experiment_plugin_data(metadata.plugin_data.content)
    first = experiment.metric_infos[0]
    assert (first.display_name, first.name.group, first.name.tag) == (
        "test accuracy",
        "test",
        "epoch_accuracy",
    )
    assert [info.name for info in experiment.hparam_infos] == ["seed"]


def test_the_progress_bar_does_not_extrapolate_the_first_step(capsys):
    fit(tiny(), [ProgressBar()])
    model = tiny()
    model.fit(IMAGES, LABELS, batch_size=1, verbose=1, callbacks=[ProgressBar()])
    printed = capsys.readouterr().out
    assert "4/4" in printed and "1/4" not in printed


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has a graph")
def test_other_backends_have_no_graph(tmp_path):
    with pytest.raises(NotImplementedError, match=f"KERAS_BACKEND={keras.backend.backend()}"):
        write_graph(tmp_path, tiny())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph is TensorFlow's")
def test_graph_of_operations_and_of_layers(tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match="functional or sequential model. Received: .*Subclassed"):
        write_graph(tmp_path, Subclassed())
    write_graph(tmp_path, model)
    graph = events(tmp_path).Graph()
    operations = {node.op for node in graph.node} | {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert {"MatMul", "BiasAdd", "Mean"} <= operations
    boxes = {node.name.partition("/")[0] for node in graph.node if "/" in node.name}
    assert len(boxes) > 2 and not any(model.name in box for box in boxes)
    fit(model, [keras.callbacks.TensorBoard(tmp_path)])
    assert "keras" in events(tmp_path / "train").Tags()["tensors"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph is TensorFlow's")
@pytest.mark.parametrize("structure", [dict, list, "sequential"])
def test_graph_of_models_with_other_inputs(tmp_path, structure):
    inputs = {name: keras.Input((3,), name=name) for name in ("a", "b")}
    output = keras.layers.Dense(2)(inputs["a"] + inputs["b"])
    model = {
        dict: keras.Model(inputs, output),
        list: keras.Model([*inputs.values()], output),
        "sequential": keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
    }[structure]
    write_graph(tmp_path, model)
    assert "MatMul" in {node.op for node in events(tmp_path).Graph().node}


@pytest.mark.parametrize("name", ["{3F25-E0}", "lr{0.1}", "a{b}", "{"])
def test_other_braces_of_a_checkpoint_stay(tmp_path, name):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    (tmp_path / name).mkdir()
    for path in (tmp_path / name / "{epoch}.keras", literal(tmp_path / "{epoch}.keras")):
        checkpoint = Checkpoint(path)
        checkpoint.set_model(model)
        checkpoint.on_epoch_end(0, {"loss": 1.0})
    assert (tmp_path / name / "1.keras").exists() and (tmp_path / "{epoch}.keras").exists()
