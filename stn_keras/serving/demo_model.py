"""A classifier of the demo, which distorts a picture and classifies it."""

import dataclasses
import math
import pathlib
import zipfile

import numpy as np
import tensorflow as tf

from stn_keras import observe, predict
from stn_keras.data import distortions, pictures, placement
from stn_keras.sampler.boxes import outline
from stn_keras.serving import inputs
from stn_keras.system.files import FileError

__all__ = ["DemoModel", "Distortion", "Result"]

MOST_PIXELS = 256  # along the longer side of pictures for a model of open size
MARGIN = 1 / 7  # between the middle of a picture and its edge: four pixels of 28, as in MNIST


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Amounts by which a picture is distorted; the default leaves it as it is."""

    rotation: float = 0  # in degrees, clockwise
    scale: float = 1
    shift_x: float = 0  # in percent of the canvas's width, to the right
    shift_y: float = 0  # in percent of its height, down
    perspective: float = 0  # above −1 and below 1: the right edge comes nearer
    clutter: int = 0  # patches of other pictures


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a classifier for a distorted picture."""

    image: np.ndarray  # that picture, uint8 (1, height, width, channels)
    points: np.ndarray  # the corners of its middle, (1, 4, 2), in pixels
    seen: dict  # `observe.Observation`s by the names of the transformers
    probabilities: np.ndarray  # (classes,)
    plain: np.ndarray | None  # the same of the classifier without a transformer, if there is one


class DemoModel:
    """A saved classifier with spatial transformers, and the files in its folder.

    In the model's folder there may be `config.json` with the names of the classes, `plain.keras`
    with the same classifier without a transformer, and `test_images.npz` with arrays `images`,
    uint8 `(n, height, width, channels)`, and `labels`, `(n,)`.

    Raises:
        ValueError: if the model is no image classifier, has no `SpatialTransformer`, can't be
            loaded in safe mode, or a file beside it does not fit it.
    """

    def __init__(self, path):
        self.path = path = pathlib.Path(path)
        self.classifier = predict.load(path)
        if not observe.transformers(self.classifier.model):
            raise ValueError(
                f"{path} has no SpatialTransformer layer, so there is no warp to show; give "
                "another model"
            )
        beside = path.with_name("plain.keras")
        self.plain = predict.load(beside) if beside.exists() and beside != path else None
        if self.plain is not None:
            self.call_plain = tf.function(self.plain.model)
        self.shape = tuple(self.classifier.model.inputs[0].shape)
        self.channels = self.shape[inputs.channel_axis(self.shape)]
        self.images, self.labels = images_of(path.with_name("test_images.npz"), self.channels)
        size = inputs.size_of(self.shape)
        self.canvas = None if None in size else size
        # Several times as fast as operation by operation.
        self.placed, self.observe = tf.function(placement.placed), tf.function(self._observe)

    @property
    def picture_size(self):
        """The `(height, width)` of a picture on the canvas; `None` if the model takes any size."""
        return self.images.shape[1:3] if len(self.images) else self.canvas

    def read(self, path):
        """Reads a picture as uint8 `(height, width, channels)`; raises `pictures.PictureError`."""
        if self.picture_size is not None:
            return pictures.read(path, self.picture_size, self.channels)
        picture = pictures.read(path, None, self.channels)
        factor = MOST_PIXELS / max(picture.shape[:2])
        if factor >= 1:
            return picture
        size = tuple(max(1, round(factor * length)) for length in picture.shape[:2])
        return pictures.read(path, size, self.channels)

    def distort(self, picture, distortion=Distortion()):
        """A distorted picture on the model's canvas, uint8 `(height, width, channels)`."""
        canvas, amounts = self._placement(picture, distortion)
        posed = self.placed(tf.constant(picture[np.newaxis]), canvas, **amounts)
        if distortion.clutter:
            others = self.images[:16] if len(self.images) else picture[np.newaxis]
            sources = np.concatenate([picture[np.newaxis], others]).astype("float32")
            seeds = [(seed, 0) for seed in range(3)]
            patch = max(1, min(canvas) // 7)
            posed = distortions.clutter(posed, sources, seeds, distortion.clutter, patch)
        return np.clip(np.round(posed[0]), 0, 255).astype("uint8")

    def points(self, picture, distortion):
        """The places of the corners of a picture's middle in the distorted picture, `(1, 4, 2)`."""
        size = picture.shape[:2]
        canvas, amounts = self._placement(picture, distortion)
        corners = (MARGIN + (1 - 2 * MARGIN) * outline(1)) * size[::-1] - 0.5
        warp = placement.placing(size, canvas, **amounts)
        return np.array(warp.to_output(corners[np.newaxis].astype("float32")))

    def _placement(self, picture, distortion):
        """The size of the canvas, and the amounts of `placement.placing`, as tensors."""
        canvas = self.canvas or picture.shape[:2]
        shift = (distortion.shift_x * canvas[1] / 100, distortion.shift_y * canvas[0] / 100)
        amounts = {
            "angle": math.radians(distortion.rotation),
            "scale": distortion.scale,
            "shift": shift,
            "tilt": distortion.perspective,
        }
        return canvas, {name: tf.constant(x, "float32") for name, x in amounts.items()}

    def classify(self, picture, distortion=Distortion()):
        """Distorts a picture, uint8 `(height, width, channels)`; returns a `Result`."""
        image = self.distort(picture, distortion)[np.newaxis]
        batch = np.moveaxis(image.astype("float32"), -1, inputs.channel_axis(self.shape))
        outputs, measured = self.observe(tf.constant(batch))
        seen = observe.observations(
            (name, layer, tensors) for (name, layer), tensors in zip(self.calls, measured)
        )
        plain = None if self.plain is None else self.plain.shares(self.call_plain(batch))[0]
        points = self.points(picture, distortion)
        return Result(image, points, seen, self.classifier.shares(outputs)[0], plain)

    def _observe(self, batch):
        """The model's output, and what `observe.measure` returns for each of its `calls`."""
        output, calls = observe.record(self.classifier.model, batch)
        self.calls = [(name, layer) for name, layer, *_ in calls]
        return output, [observe.measure(layer, *seen) for _, layer, *seen in calls]


def images_of(path, channels):
    """The arrays `images` and `labels` of a file; empty if it does not exist."""
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except FileNotFoundError:
        return np.zeros((0, 1, 1, channels), "uint8"), np.zeros(0, int)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} is damaged; restore it or delete it") from error
    if images.dtype != np.uint8 or images.shape[3:] != (channels,) or len(images) != len(labels):
        raise FileError(f"{path} has no test images for the model beside it; move it away")
    return images, labels
