"""Applies a saved classifier to images: classes, and drawings of its transformers' warps."""

import os
import pathlib

import numpy as np
from keras import ops

from stn_keras import observe, plots, saved
from stn_keras.serving import inputs
from stn_keras.system import files
from stn_keras.system.files import FileError, read_settings

__all__ = ["Classifier", "load"]


class Classifier:
    """A Keras classifier of images, with the names of its classes.

    The model receives pixels in 0 … 255, as in `train.py`, and images resized to its input's size.

    Example:

    >>> classifier = Classifier(model)
    >>> image = classifier.read("pets/cat/0.png")
    >>> classifier.probabilities(image).shape
    (1, 10)
    >>> plots.save(classifier.warps(image)["transformer"], "warps.png")

    Args:
        model: A functional or sequential model, channels last or first, from images of 1, 3 or 4
            channels to probabilities or logits of at least two classes.
        classes: Names of the classes; `None` for numbers from 0.

    Raises:
        ValueError: if the model is not such a model, or has another number of classes.
    """

    def __init__(self, model, classes=None):
        if not getattr(model, "inputs", None):
            raise ValueError(
                "The model must be a functional or sequential one, whose input has a known shape. "
                f"Received: a {type(model).__name__}"
            )
        shapes = [tuple(x.shape) for x in (*model.inputs, *model.outputs)]
        of_images = len(shapes) == 2 and inputs.channel_axis(shapes[0])
        if not of_images or len(shapes[1]) != 2 or (shapes[1][1] or 0) < 2:
            raise ValueError(
                "The model is no image classifier, from (batch, height, width, channels) with 1, "
                f"3 or 4 channels to (batch, classes). Received: a model with the shapes {shapes}"
            )
        self.model, count = model, shapes[1][1]
        self.classes = [str(k) for k in range(count)] if classes is None else list(classes)
        if len(self.classes) != count:
            raise ValueError(
                f"`classes` must be {count} names, as many as the model's outputs. "
                f"Received: {len(self.classes)} names"
            )

    def read(self, path):
        """A picture as a batch of one float32 image; raises `pictures.PictureError`."""
        return inputs.read(path, self.model.inputs[0].shape)

    def probabilities(self, images):
        """Probabilities `(batch, classes)`, float32, of images in the format of `read`."""
        return self.shares(self.model(images, training=False))

    def shares(self, outputs):
        """`probabilities` of the model's outputs."""
        outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        if np.all(outputs >= 0) and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
            return outputs
        return ops.convert_to_numpy(ops.softmax(outputs))

    def warps(self, images):
        """Dict from the name of each transformer to a `Figure` of its warps of images in the format
        of `read`, with the sampled region outlined."""
        pixels = np.clip(np.round(images), 0, 255).astype("uint8")
        return observe.figures(observe.observe(self.model, images), pixels)


def load(path):
    """Loads a saved classifier, with the names of its classes from `config.json` in its folder.

    Example:

    >>> model.save("best.keras")
    >>> load("best.keras").classes[:2]
    ['0', '1']

    Args:
        path: A `.keras` file.

    Returns:
        A `Classifier`.

    Raises:
        ValueError: if the model is no image classifier, or one of the files is damaged.
    """
    classifier = Classifier(saved.load(path))
    classifier.classes = class_names(path, len(classifier.classes)) or classifier.classes
    return classifier


def class_names(model_path, count):
    """The `count` names of classes in `config.json` in a model's folder; None if there are none.

    Raises a `FileError` if the file is damaged, or names another number of classes.
    """
    path = pathlib.Path(model_path).parent / "config.json"
    try:
        classes = read_settings(path).get("classes")
    except FileNotFoundError:
        return None
    if classes is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise FileError(f"{path} is damaged, its `classes` are no names; restore it or delete it")
    if len(classes) != count:
        found = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
        raise FileError(
            f"{path} belongs to another model, with {found} and not {count}; "
            "move the model to a folder of its own"
        )
    return classes


def drawing_names(paths):
    """A unique name for the drawings of each image, if possible the name of its file.

    `["pets/cat/0.png", "pets/dog/0.png"]` give `["cat-0.png", "dog-0.png"]`.
    """
    paths = [pathlib.Path(os.path.abspath(path)) for path in paths]
    names = [path.name for path in paths]
    if len({*names}) == len(names):
        return names
    shared = os.path.commonpath([path.parent for path in paths])
    return ["-".join(path.relative_to(shared).parts) for path in paths]


def describe(classifier, path, output_dir, name):
    """Text with the three most probable classes of an image, and with the paths of its drawings.

    The drawings are `<name>.<transformer>.png` in `output_dir`, which is created if necessary.
    Existing files are replaced. Names too long for a file are shortened.
    """
    image = classifier.read(path)
    (shares,) = classifier.probabilities(image)
    lines = [str(path)]
    for label in np.argsort(-shares)[:3]:
        lines.append(f"  {shares[label]:6.1%}  {classifier.classes[label]}")
    for transformer, figure in classifier.warps(image).items():
        output_dir.mkdir(parents=True, exist_ok=True)
        stem = files.shorten(f"{name}.{transformer}", files.LONGEST_NAME - len(".png"))
        drawing = output_dir / f"{stem}.png"
        plots.save(figure, drawing)
        lines.append(f"  {transformer}: {drawing}")
    return "\n".join(lines)
