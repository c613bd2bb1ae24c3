"""The demo's reader: a typed word is drawn, bent, straightened by the transformer and read."""

import html
import pathlib

import matplotlib
import numpy as np

from stn_keras import observe, saved
from stn_keras.data import words
from stn_keras.serving.demo_result import address_of

__all__ = ["SLIDERS", "DemoReader", "is_reader"]

SLIDERS = {  # of each argument of `DemoReader.read`: minimum, maximum, start, step, label
    "arc": (-120, 120, 90, 1, "Arc (°)"),
    "wave": (0, 0.8, 0, 0.05, "Wave (letter heights)"),
    "tilt": (-20, 20, 8, 1, "Tilt (°)"),
    "perspective": (-0.6, 0.6, 0.2, 0.02, "Perspective"),
}


def is_reader(path):
    """Whether a saved model reads words: its output has a row of scores for each column."""
    outputs = getattr(saved.load(path), "outputs", None) or []
    return [len(output.shape) for output in outputs] == [3]


class DemoReader:
    """A saved reader of words, such as those of `examples/read_text.py`.

    In its folder there may be `plain.keras`, a reader without a transformer.
    """

    def __init__(self, path):
        path = pathlib.Path(path)
        self.model, beside = saved.load(path), path.with_name("plain.keras")
        self.plain = saved.load(beside) if beside.exists() else None
        fonts = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
        self.font = words.load_font(fonts / "DejaVuSans.ttf")

    def read(self, word, arc=0, wave=0, tilt=0, perspective=0):
        """HTML of the bent word, of what the transformer makes of it, and of what is read."""
        try:
            (letters,) = words.spell(words.encode([word]))
        except ValueError as error:
            return f'<p class="alert" role="alert">{html.escape(str(error))}</p>'
        bend = words.Bend(
            words.strip(letters, self.font), arc, wave, tilt=tilt, perspective=(perspective, 0)
        )
        photo = words.light(words.picture([bend]), np.random.default_rng(0))
        readers = {"With transformer": self.model, "Without transformer": self.plain}
        rows = "".join(
            _row(name, words.decode(model(photo, training=False))[0], letters)
            for name, model in readers.items()
            if model is not None
        )
        (figure,) = observe.draw(self.model, photo).values()
        return (
            f'<div class="result"><figure><img src="{address_of(figure)}" alt="The word {letters} '
            "as it was bent; outlined, the region sampled. Below it, the word as the reader sees "
            f'it"></figure><div>{rows}</div></div>'
        )


def _row(title, read, true):
    verdict = "right" if read == true else "wrong"
    return f"<section><h3><span>{title}</span>{read or '(nothing)'}, {verdict}</h3></section>"
