"""TensorBoard itself, with the logs of a run, in a headless Chromium.

Skipped where Chromium or Playwright is missing: `apt install chromium`, `pip install ".[dev]"`.
"""

import csv

import keras
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import tiny

import train
from docs import screenshot
from stn_keras.data import cifar10

pytest.importorskip("playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(screenshot.CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder in which a run named `a` has written."""
    folder, policy = tmp_path_factory.mktemp("run"), keras.config.dtype_policy()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(cifar10, "load", tiny)
        flags = ["--run", "a", "--validation-images", "40", "--epochs", "2"]
        assert train.main(flags) == 0
    keras.config.set_dtype_policy(policy)
    return folder


@pytest.fixture(scope="module")
def page(run):
    with screenshot.serving(run / "logs") as address, screenshot.browsing() as page:
        page.goto(f"{address}?tagFilter=epoch_accuracy|scale_x_mean|warps#timeseries")
        yield page


def test_curves_end_where_the_history_does(run, page):
    with open(run / "saved_models" / "a" / "history.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    text = screenshot.card(page, "epoch_accuracy").inner_text().split()
    for row, column in (
        ("a/train", "accuracy"),
        ("a/validation", "val_accuracy"),
        ("a/test", "test_accuracy"),
    ):
        smoothed, value = text[text.index(row) + 1 :][:2]
        assert float(value) == pytest.approx(float(last[column]), abs=1e-4)


def coloured_pixels(chart):
    """Everything else on a chart is grey."""
    pixels = tf.cast(tf.io.decode_png(chart.screenshot())[..., :3], tf.int32)
    spread = tf.reduce_max(pixels, axis=-1) - tf.reduce_min(pixels, axis=-1)
    return int(tf.math.count_nonzero(spread > 64))


def test_a_curve_is_drawn(page):
    chart = screenshot.card(page, "scale_x_mean").locator("line-chart")
    tries = 0
    while coloured_pixels(chart) <= 100 and tries < 60:  # it is drawn some time after its axes
        page.wait_for_timeout(500)
        tries += 1
    assert coloured_pixels(chart) > 100


def test_the_picture_of_the_warps_is_the_one_written(run, page):
    written = EventAccumulator(str(run / "logs" / "a" / "transformer")).Reload()
    width, height, _ = tf.make_ndarray(written.Tensors("transformer/warps")[-1].tensor_proto)
    image = screenshot.card(page, "warps").locator("img")
    page.wait_for_function("image => image.naturalWidth", arg=image.element_handle())
    shown = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert shown == [int(width), int(height)]
