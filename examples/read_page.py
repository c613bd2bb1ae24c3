"""Words of a photographed page, which the paper bends, as the trained reader sees and reads them.

    pip install ".[follow]"
    python -m examples.read_page

cuts words from scikit-image's picture of a page of its own manual (BSD licence), and draws them to
`results/read_text/page.png`. scikit-image's other picture of writing, `text`, holds no words.
"""

import pathlib

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from examples import word_reader
from stn_keras import plots, saved
from stn_keras.data import words

ROOT = pathlib.Path(__file__).parents[1]
WORDS = {  # the middle of each word and the width of its surroundings, in pixels
    "region": (38, 23, 74),
    "first": (67, 57, 34),
    "markers": (194, 58, 58),
    "coins": (302, 57, 40),
    "these": (104, 75, 42),
    "pixels": (235, 75, 46),
    "label": (361, 74, 40),
    "object": (202, 95, 52),
    "found": (133, 110, 42),
    "extreme": (273, 111, 60),
    "parts": (316, 111, 46),
    "grey": (103, 128, 38),
    "values": (144, 129, 52),
}


def cut(page):
    """The words as pictures, uint8 `(n, 48, 128, 1)`."""
    page, (height, width) = Image.fromarray(page), words.SIZE
    found = []
    for x, y, across in WORDS.values():
        down = across * height / width
        box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        found.append(page.resize((width, height), Image.Resampling.BICUBIC, box))
    return np.stack([np.asarray(word) for word in found])[..., None]


def draw(reader, plain, pictures):
    """The words, and below each what the reader sees, with what both readers read."""
    straightened = keras.Model(reader.inputs, reader.get_layer("transformer").output)(pictures)
    read, without = (words.decode(model(pictures)) for model in (reader, plain))
    figure = Figure(figsize=(1.5 * len(pictures), 2.1), dpi=85, layout="constrained")
    panels = figure.subplots(2, len(pictures))
    straightened = np.asarray(straightened, "float32")
    rows = (pictures, without, "camera"), (straightened, read, "straightened")
    for row, (images, found, name) in zip(panels, rows):
        word_reader.draw(row, images, found, WORDS, name)
    return figure


def main():
    from skimage import data

    folder = ROOT / "saved_models" / "read_text"
    reader, plain = (saved.load(folder / f"{name}.keras") for name in ("last", "plain"))
    plots.save(draw(reader, plain, cut(data.page())), ROOT / "results" / "read_text" / "page.png")


if __name__ == "__main__":
    main()
