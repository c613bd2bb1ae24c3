"""The callbacks `Checkpoint` and `Evaluation`."""

import os

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from stn_keras.callbacks import Checkpoint, Evaluation
from stn_keras.data.pipeline import evaluation_batches

IMAGES = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
LABELS = np.arange(6) % 3
BATCHES = evaluation_batches(IMAGES, LABELS, batch_size=4)


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False)])
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=True,
    )
    return model


def epochs(model, checkpoint, values, metric="val_accuracy"):
    """Ends one epoch for each value of the metric, with the epoch's number, from 0, as weights."""
    model.evaluate(IMAGES, LABELS, verbose=0)  # builds the metrics, as an epoch does
    checkpoint.set_model(model)
    for epoch, value in enumerate(values):
        model.set_weights([np.full((4, 3), epoch, "float32")])
        checkpoint.on_epoch_end(epoch, {metric: value})


def saved_epoch(path):
    return keras.models.load_model(path).get_weights()[0][0, 0]


@pytest.mark.parametrize(
    "values, best",
    [
        ([0.2, 0.6, 0.4], 1),
        ([0.2, 0.4, 0.6], 2),
        ([0.6, 0.4, 0.2], 0),
        ([0.4, 0.4], 0),
        ([-3.0, -2.0], 1),
        ([float("nan"), 0.4, 0.6, float("nan"), 0.5], 2),
    ],
    ids=["in the middle", "at the end", "first", "a tie", "negative", "among NaN"],
)
def test_best_is_the_first_of_the_best_epochs(tmp_path, model, values, best):
    epochs(model, Checkpoint(tmp_path / "best.keras", monitor="val_accuracy"), values)
    assert saved_epoch(tmp_path / "best.keras") == best


@pytest.mark.parametrize(
    "metric, mode, best",
    [
        ("val_loss", "auto", 1),
        ("loss", "auto", 1),
        ("val_accuracy", "auto", 0),
        ("test_accuracy", "max", 0),
        ("val_accuracy", "min", 1),
        ("val_loss", "max", 0),
    ],
)
def test_which_is_better_is_known_as_by_keras(tmp_path, model, metric, mode, best):
    path = tmp_path / "best.keras"
    epochs(model, Checkpoint(path, monitor=metric, mode=mode), [3.0, 1.0, 2.0], metric)
    assert saved_epoch(path) == best
    judge = keras.callbacks.ModelCheckpoint(path, metric, save_best_only=True, mode=mode)
    epochs(model, judge, [3.0, 1.0, 2.0], metric)
    assert saved_epoch(path) == best


def test_a_metric_of_which_nobody_knows_the_better_end(tmp_path, model):
    with pytest.raises(ValueError, match="monitor=test_accuracy.*mode='max'"):
        epochs(model, Checkpoint(tmp_path / "a.keras", "test_accuracy"), [1.0], "test_accuracy")


@pytest.mark.parametrize("options, kept", [({}, 2), ({"save_best_only": True}, 1)])
def test_without_a_metric_named_it_does_as_keras_does(tmp_path, model, options, kept):
    for kind in (Checkpoint, keras.callbacks.ModelCheckpoint):
        epochs(model, kind(tmp_path / "a.keras", **options), [3.0, 1.0, 2.0], "val_loss")
        assert saved_epoch(tmp_path / "a.keras") == kept


def test_every_epoch_is_saved_where_one_says_so(tmp_path, model):
    checkpoint = Checkpoint(tmp_path / "a.keras", "val_loss", save_best_only=False)
    epochs(model, checkpoint, [1.0, 2.0], "val_loss")
    assert saved_epoch(tmp_path / "a.keras") == 1


def test_training_that_goes_on_has_a_best_already(tmp_path, model):
    checkpoint = Checkpoint(tmp_path / "a.keras", "val_loss", initial_value_threshold=1.5)
    epochs(model, checkpoint, [2.0, 1.7], "val_loss")
    assert not (tmp_path / "a.keras").exists()
    epochs(model, checkpoint, [2.0, 1.4], "val_loss")
    assert saved_epoch(tmp_path / "a.keras") == 1


def test_the_name_may_have_the_epoch_and_the_metrics(tmp_path, model):
    epochs(model, Checkpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.keras"), [3.0, 1.0], "val_loss")
    assert sorted(os.listdir(tmp_path)) == ["01-3.0.keras", "02-1.0.keras"]


def test_last_is_the_last_whatever_the_metric(tmp_path, model):
    epochs(model, Checkpoint(tmp_path / "last.keras"), [0.9, 0.1, float("nan")])
    assert saved_epoch(tmp_path / "last.keras") == 2


def test_what_is_saved_is_the_whole_model_with_its_optimizer(tmp_path, model):
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[Checkpoint(tmp_path / "last.keras")])
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert loaded.optimizer.iterations == model.optimizer.iterations == 1
    assert_allclose(
        loaded.evaluate(IMAGES, LABELS, verbose=0), model.evaluate(IMAGES, LABELS, verbose=0)
    )


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_in_mid_save_leaves_the_model_saved_before(tmp_path, model, monkeypatch, error):
    checkpoint = Checkpoint(tmp_path / "last.keras")
    epochs(model, checkpoint, [0.5])

    def save_half(model, path):
        path.write_bytes((tmp_path / "last.keras").read_bytes()[:1000])
        raise error

    monkeypatch.setattr(keras.Model, "save", save_half)
    with pytest.raises(type(error)):
        epochs(model, checkpoint, [0.5])
    assert os.listdir(tmp_path) == ["last.keras"]
    assert saved_epoch(tmp_path / "last.keras") == 0


def test_a_metric_that_is_not_there_is_an_error(tmp_path, model):
    with pytest.raises(KeyError, match="val_acuracy.*val_accuracy"):
        epochs(model, Checkpoint(tmp_path / "best.keras", monitor="val_acuracy"), [0.5])


def test_evaluation_reports_the_weights_at_the_end_of_each_epoch(model):
    history = model.fit(
        IMAGES[:3],
        LABELS[:3],
        validation_data=(IMAGES[3:], LABELS[3:]),
        epochs=2,
        verbose=0,
        callbacks=[Evaluation(BATCHES, "test")],
    ).history
    expected = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    for name in ("loss", "accuracy"):
        assert len(history[f"test_{name}"]) == 2
        assert_allclose(history[f"test_{name}"][-1], expected[name], rtol=1e-6)
    assert history["test_loss"][0] != history["test_loss"][1]
    assert history["val_loss"] != history["test_loss"]


def test_evaluation_takes_arrays_as_validation_does(model):
    halves = [1.0] * 3 + [0.0] * 3
    for data in ((IMAGES, LABELS), (IMAGES, LABELS, np.array(halves))):
        history = model.fit(
            IMAGES, LABELS, validation_data=data, verbose=0, callbacks=[Evaluation(data, "test")]
        ).history
        for name in ("loss", "accuracy"):
            assert_allclose(history[f"test_{name}"], history[f"val_{name}"], rtol=1e-6)


def test_evaluation_trains_nothing(model):
    def weights(*callbacks):
        model.set_weights([np.ones((4, 3), "float32")])
        model.fit(IMAGES, LABELS, batch_size=3, shuffle=False, verbose=0, callbacks=callbacks)
        return model.get_weights()[0]

    assert_allclose(weights(Evaluation(BATCHES, "test")), weights(), rtol=1e-6)
