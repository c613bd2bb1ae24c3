"""The demo's reader of words."""

import pytest

from examples import read_text
from stn_keras.serving.demo_model import DemoModel
from stn_keras.serving.demo_reader import DemoReader, is_reader

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path):
    read_text.build("spline").save(tmp_path / "last.keras")
    return tmp_path / "last.keras"


def test_a_word_is_bent_and_read_with_and_without_a_transformer(path):
    assert is_reader(path)
    assert "Without transformer" not in DemoReader(path).read("Café", arc=60)
    read_text.build("plain").save(path.with_name("plain.keras"))
    shown = DemoReader(path).read("Café", arc=60, wave=0.2, tilt=-5, perspective=0.3)
    assert "The word cafe as it was bent" in shown
    assert shown.count("wrong</h3>") == 2  # untrained readers


def test_what_is_no_word_is_refused(path):
    shown = DemoReader(path).read("<b>two</b>")
    assert shown.startswith('<p class="alert"') and "<b>" not in shown


def test_a_reader_is_no_classifier(path):
    with pytest.raises(ValueError, match="no image classifier"):
        DemoModel(path)
