"""What a saved classifier makes of pictures: classes, and what its transformers look at."""

import os
import pathlib

import numpy as np
from keras import ops

from stn_keras import observe, plots
from stn_keras.files import FileError, read_settings
from stn_keras.serving import inputs

__all__ = ["Classifier", "class_names", "describe", "drawing_names"]


class Classifier:
    """A Keras classifier of images, with the names of its classes.

    Pixels reach it as 0 … 255, as `train.py` trains, and pictures stretched to its input's size.

    Example:

    >>> classifier = Classifier(model)
    >>> image = classifier.read("pets/cat/0.png")
    >>> classifier.probabilities(image).shape
    (1, 10)
    >>> plots.save(classifier.warps(image)["transformer"], "warps.png")

    Args:
        model: A functional or sequential model, channels last or first, from images of 1, 3 or 4
            channels to a number per class: probabilities, or logits.
        classes: Their names; None for numbers from 0.

    Raises:
        ValueError: if the model is no such model, or has another number of classes.
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
        """`(batch, classes)` float32 shares that add up to 1, of images as `read` gives them."""
        outputs = ops.cast(self.model(images, training=False), "float32")
        outputs = ops.convert_to_numpy(outputs)
        if np.all(outputs >= 0) and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
            return outputs
        return ops.convert_to_numpy(ops.softmax(outputs))

    def warps(self, images):
        """A `Figure` for each transformer, by its name: images as `read` gives them and their
        warps, the sampled region drawn on the images."""
        pixels = np.clip(np.round(images), 0, 255).astype("uint8")
        return observe.figures(observe.observe(self.model, images), pixels)


def class_names(model_path, count):
    """What `config.json` beside a saved model calls its classes.

    Example:

    >>> class_names("run/best.keras", 2)  # run/config.json: {"classes": ["cat", "dog"]}
    ['cat', 'dog']

    Args:
        model_path: The model's file; it is not opened.
        count: How many classes the model has.

    Returns:
        List of `count` names; None where there is no such file, or it says nothing of classes.

    Raises:
        FileError: if the file is damaged, or names another number of classes.
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
    """A name for the drawings of each picture, no two alike: the file's own where that will do.

    Example:

    >>> drawing_names(["pets/cat/0.png", "pets/dog/1.png"])
    ['0.png', '1.png']
    >>> drawing_names(["pets/cat/0.png", "pets/dog/0.png"])
    ['cat-0.png', 'dog-0.png']

    Args:
        paths: Paths of different pictures.

    Returns:
        List of strings.
    """
    paths = [pathlib.Path(os.path.abspath(path)) for path in paths]
    names = [path.name for path in paths]
    if len({*names}) == len(names):
        return names
    shared = os.path.commonpath([path.parent for path in paths])
    return ["-".join(path.relative_to(shared).parts) for path in paths]


def describe(classifier, path, output_dir=".", name=None, most=3):
    """A picture's likeliest classes as text; draws what each transformer makes of it.

    Example:

    >>> print(describe(Classifier(model), "pets/cat/0.png", most=1))  # doctest: +ELLIPSIS
    pets/cat/0.png
      ...%  ...
      transformer: 0.png.transformer.png

    Args:
        classifier: A `Classifier`.
        path: The picture.
        output_dir: Folder for the drawings, `<name>.<transformer>.png` each; made if need be.
            What stands there is replaced.
        name: What the drawings' names begin with; by default the picture's file name.
        most: How many classes.

    Returns:
        Lines without a newline at the end: the path, shares in percent, the drawings' paths.

    Raises:
        pictures.PictureError: if the picture can't be read.
        OSError: if a drawing can't be written.
    """
    path, output_dir = pathlib.Path(path), pathlib.Path(output_dir)
    image = classifier.read(path)
    (shares,) = classifier.probabilities(image)
    lines = [str(path)]
    for label in np.argsort(-shares)[:most]:
        lines.append(f"  {shares[label]:6.1%}  {classifier.classes[label]}")
    for transformer, figure in classifier.warps(image).items():
        output_dir.mkdir(parents=True, exist_ok=True)
        drawing = output_dir / f"{name or path.name}.{transformer}.png"
        plots.save(figure, drawing)
        lines.append(f"  {transformer}: {drawing}")
    return "\n".join(lines)
