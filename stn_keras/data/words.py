"""Pictures of words along arcs and waves, tilted and in perspective, with the true curves.

A word is drawn on a straight strip. A `Bend` maps positions on the strip to positions in the
picture, and back, in closed form.
"""

import dataclasses
import string
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stn_keras.sampling import pixel_sample

__all__ = ["ALPHABET", "SIZE", "Bend", "decode", "encode", "light", "picture", "spell", "strip"]

ALPHABET = string.ascii_lowercase
LONGEST = 8  # letters
SIZE = (48, 128)  # height and width of a picture
STRIP = (64, 384)  # of a strip
FONT_SIZE, BASELINE = 36, 44  # pixels; the baseline's y on the strip
FINE = 2  # samples along each axis that a picture's pixel averages


def encode(words):
    """Words as labels for `keras.losses.CTC`, int32 `(n, 8)`: 1 for a, 2 for b, 0 at the end.

    Letters lose their case and accents. Raises a `ValueError` for other characters, and for words
    of no letters or more than 8.

    Example:

    >>> encode(["Cab"])
    array([[3, 1, 2, 0, 0, 0, 0, 0]], dtype=int32)
    """
    labels = np.zeros((len(words), LONGEST), "int32")
    for row, word in zip(labels, words):
        plain = unicodedata.normalize("NFKD", word).lower()
        letters = [c for c in plain if not unicodedata.combining(c)]
        if not 0 < len(letters) <= LONGEST or not set(letters) <= set(ALPHABET):
            raise ValueError(f"A word must be 1 to {LONGEST} letters, a to z. Received: {word!r}")
        row[: len(letters)] = [ALPHABET.index(letter) + 1 for letter in letters]
    return labels


def spell(labels):
    """The words that labels stand for, an array of strings."""
    return np.array(["".join(ALPHABET[k - 1] for k in row[row > 0]) for row in labels])


def decode(scores):
    """The words that a reader's output, `(n, columns, 27)`, stands for, an array of strings.

    In each column the class with the highest score counts. Equal neighbours are one letter, and
    class 0 is no letter ([Graves et al., 2006](https://doi.org/10.1145/1143844.1143891), best path
    decoding).

    Example:

    >>> decode(np.eye(27)[[[3, 3, 0, 1, 2, 0, 2]]]).tolist()
    ['cabb']
    """
    best = np.asarray(scores).argmax(axis=-1)
    first = np.diff(best, axis=1, prepend=0) != 0
    return spell(np.where(first, best, 0))


@dataclasses.dataclass(frozen=True)
class Strip:
    """A word on a straight strip."""

    ink: np.ndarray  # float32 `STRIP`, 0 … 1
    width: float  # of the word, in pixels
    letter_height: float  # of a letter x

    @property
    def outline(self):
        """Left, top, right and bottom of the word, from the strip's middle on the baseline."""
        return -self.width / 2, -1.6 * self.letter_height, self.width / 2, 0.6 * self.letter_height


def strip(word, font):
    """Draws a word with a Pillow font onto the middle of a `Strip`."""
    left, _, right, _ = font.getbbox(word)
    width = right - left
    image = Image.new("L", STRIP[::-1])
    start = ((STRIP[1] - width) / 2 - left, BASELINE)
    ImageDraw.Draw(image).text(start, word, fill=255, font=font, anchor="ls")
    _, top, _, bottom = font.getbbox("x")
    return Strip(np.asarray(image, "float32") / 255, width, bottom - top)


def load_font(file):
    """A Pillow font from a path or a binary file, of the size that `strip` needs."""
    return ImageFont.truetype(file, FONT_SIZE)


@dataclasses.dataclass(frozen=True)
class Bend:
    """A map between a strip and a picture: a wave, an arc, a tilt, a perspective, then placement.

    Positions are `(n, 2)` arrays `(x, y)` in pixels: on the strip from its middle on the baseline,
    in the picture from the centre of its first pixel.

    Args:
        strip: The `Strip`.
        arc: Angle in degrees between the directions of the word's ends; with a positive angle the
            ends point down.
        wave: Height of a sine wave along the word, in letter heights.
        period: Its period, as a share of the word's width.
        phase: Its phase in degrees.
        tilt: Angle in degrees, clockwise.
        perspective: Relative distances `(x, y)`: with a positive x the right end is further away.
        zoom: Size of the word relative to the largest that fits the picture.
        place: Position `(x, y)` in the space that is left, 0 … 1.
    """

    strip: Strip
    arc: float = 0
    wave: float = 0
    period: float = 1
    phase: float = 0
    tilt: float = 0
    perspective: tuple[float, float] = (0, 0)
    zoom: float = 0.9
    place: tuple[float, float] = (0.5, 0.5)

    def to_picture(self, points):
        """Maps positions on the strip to positions in the picture."""
        scale, shift = self._placement()
        return self._bent(points) * scale + shift

    def to_strip(self, points):
        """The inverse of `to_picture`."""
        scale, shift = self._placement()
        x, y = ((points - shift) / scale).T
        depth = 1 - self._nearness(x, y)
        tilt = np.radians(-self.tilt)
        x, y = turned(x / depth, y / depth, tilt)
        radius = self._radius()
        side = np.sign(radius)
        angle = np.arctan2(side * x, side * (radius - y))
        along = radius * angle
        return np.stack([along, radius - side * np.hypot(x, radius - y) - self._wave(along)], -1)

    def _bent(self, points):
        along, y = points.T
        radius = self._radius()
        angle = along / radius
        reach = radius - y - self._wave(along)
        x, y = reach * np.sin(angle), radius - reach * np.cos(angle)
        x, y = turned(x, y, np.radians(self.tilt))
        return np.stack([x, y], -1) / (1 + self._nearness(x, y))[:, None]

    def _radius(self):
        """Of the arc that the baseline follows; its centre is below the word if positive."""
        angle = np.radians(self.arc)
        return self.strip.width / (angle if abs(angle) > 1e-3 else 1e-3)

    def _wave(self, along):
        turns = along / (self.period * self.strip.width)
        height = self.wave * self.strip.letter_height
        return height * np.sin(2 * np.pi * turns + np.radians(self.phase))

    def _nearness(self, x, y):
        right, down = self.perspective
        return (right * x + down * y) / self.strip.width

    def _placement(self):
        """Scale and shift that put the bent word into the picture."""
        left, top, right, bottom = self.strip.outline
        across, down = np.linspace(left, right, 33), np.linspace(top, bottom, 5)
        bent = self._bent(np.stack(np.meshgrid(across, down), -1).reshape(-1, 2))
        low, high = bent.min(axis=0), bent.max(axis=0)
        size = np.array(SIZE[::-1])
        scale = self.zoom * np.min(size / (high - low))
        room = size - scale * (high - low)
        return scale, room * np.array(self.place) - 0.5 - scale * low

    def lines(self):
        """The baseline and the line at the height of a letter x, `(2, 33, 2)`, in the picture."""
        left, _, right, _ = self.strip.outline
        across = np.linspace(left, right, 33)
        heights = 0, -self.strip.letter_height
        lines = [np.stack([across, np.full(33, height)], -1) for height in heights]
        return np.stack([self.to_picture(line) for line in lines]).astype("float32")

    def straightening(self, size):
        """Positions in the picture, float32 `(*size, 2)`, at which to sample the word straight."""
        left, top, right, bottom = self.strip.outline
        down, across = (
            low + (high - low) * (np.arange(length) + 0.5) / length
            for low, high, length in ((top, bottom, size[0]), (left, right, size[1]))
        )
        points = np.stack(np.meshgrid(across, down), -1)
        return self.to_picture(points.reshape(-1, 2)).reshape(points.shape).astype("float32")


def turned(x, y, angle):
    """Positions turned clockwise by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def picture(bends):
    """The ink of bent words, float32 `(n, 48, 128, 1)`, 0 … 1."""
    height, width = (FINE * length for length in SIZE)
    down, across = ((np.arange(length) + 0.5) / FINE - 0.5 for length in (height, width))
    pixels = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
    middle = (STRIP[1] - 1) / 2, BASELINE - 0.5
    coordinates = np.stack([bend.to_strip(pixels) + middle for bend in bends])
    coordinates = coordinates.reshape(-1, height, width, 2).astype("float32")
    strips = np.stack([bend.strip.ink for bend in bends])[..., None]
    fine = np.asarray(pixel_sample(strips, coordinates, data_format="channels_last"))
    return fine.reshape(-1, SIZE[0], FINE, SIZE[1], FINE, 1).mean(axis=(2, 4))


def light(ink, rng):
    """Photographs of ink on paper, uint8: both of random brightness, blurred, unevenly lit, with
    noise."""

    def uniform(low, high):
        return rng.uniform(low, high, (len(ink), 1, 1, 1)).astype("float32")

    blurred = ink
    for axis in (1, 2):
        sides = np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)
        share = uniform(0, 0.33)
        blurred = (1 - 2 * share) * blurred + share * sides
    dark, bright = uniform(0, 0.4), uniform(0.6, 1)
    swap = uniform(0, 1) < 0.5
    paper, pen = np.where(swap, dark, bright), np.where(swap, bright, dark)
    y, x = (np.linspace(-1, 1, length, dtype="float32") for length in SIZE)
    slope = uniform(-0.25, 0.25) * y[:, None, None] + uniform(-0.25, 0.25) * x[:, None]
    noise = uniform(0.01, 0.06) * rng.standard_normal(ink.shape, "float32")
    photo = (paper + (pen - paper) * blurred) * (1 + slope) + noise
    return np.round(255 * np.clip(photo, 0, 1)).astype("uint8")
