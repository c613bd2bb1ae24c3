"""Words of photographs, as the trained reader sees and reads them.

    pip install ".[follow]"
    apt-get install opencv-doc
    python -m examples.read_photos

cuts words from scikit-image's picture of a page of its manual (BSD licence), which the paper bends,
and from the street signs of OpenCV's examples (Apache License 2.0, by Debian), and draws them to
`results/read_text/page.png` and `signs.png`. scikit-image's other picture of writing, `text`, holds
no words.
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
SIGNS = pathlib.Path("/usr/share/doc/opencv-doc/examples/text")
# Each word, its middle in the picture and the width of its surroundings, in pixels.
PAGE = [
    ("region", 38, 23, 74),
    ("first", 67, 57, 34),
    ("markers", 194, 58, 58),
    ("coins", 302, 57, 40),
    ("these", 104, 75, 42),
    ("pixels", 235, 75, 46),
    ("label", 361, 74, 40),
    ("object", 202, 95, 52),
    ("found", 133, 110, 42),
    ("extreme", 273, 111, 60),
    ("parts", 316, 111, 46),
    ("grey", 103, 128, 38),
    ("values", 144, 129, 52),
]
ON_SIGNS = {
    "scenetext02.jpg": [
        ("sports", 512, 650, 208),
        ("centre", 692, 667, 178),
        ("centre", 818, 809, 178),
        ("parks", 609, 868, 190),
    ],
    "scenetext03.jpg": [("copy", 286, 586, 210), ("centre", 510, 580, 250)],
    "scenetext06.jpg": [("priory", 278, 300, 90), ("ship", 562, 309, 70)],
}


def cut(picture, places):
    """The words of a grey picture as pictures, uint8 `(n, 48, 128, 1)`."""
    height, width = words.SIZE
    found = []
    for _, x, y, across in places:
        down = across * height / width
        box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        found.append(picture.resize((width, height), Image.Resampling.BICUBIC, box))
    return np.stack([np.asarray(word) for word in found])[..., None]


def draw(reader, plain, pictures, true):
    """The words, and below each what the reader sees, with what both readers read."""
    straightened = keras.Model(reader.inputs, reader.get_layer("transformer").output)(pictures)
    read, without = (words.decode(model(pictures)) for model in (reader, plain))
    figure = Figure(figsize=(1.5 * len(pictures), 2.1), dpi=85, layout="constrained")
    panels = figure.subplots(2, len(pictures))
    straightened = np.asarray(straightened, "float32")
    rows = (pictures, without, "camera"), (straightened, read, "straightened")
    for row, (images, found, name) in zip(panels, rows):
        word_reader.draw(row, images, found, true, name)
    return figure


def main():
    from skimage import data

    folder = ROOT / "saved_models" / "read_text"
    readers = [saved.load(folder / f"{name}.keras") for name in ("last", "plain")]
    photos = {
        "page": [(Image.fromarray(data.page()), PAGE)],
        "signs": [(Image.open(SIGNS / n).convert("L"), places) for n, places in ON_SIGNS.items()],
    }
    for name, parts in photos.items():
        pictures = np.concatenate([cut(*part) for part in parts])
        true = [word for _, places in parts for word, *_ in places]
        plots.save(draw(*readers, pictures, true), ROOT / "results" / "read_text" / f"{name}.png")


if __name__ == "__main__":
    main()
