"""What a saved classifier makes of pictures: classes, and what its transformers look at."""

import json
import pathlib

import numpy as np
from keras import ops

from stn_keras import observe, plots
from stn_keras.serving import images

__all__ = ["Classifier", "class_names", "describe"]


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
        shapes = [tuple(x.shape) for x in (*model.inputs, *model.outputs)]
        of_images = len(shapes) == 2 and images.channel_axis(shapes[0])
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
        self.transformers = observe.transformers(model)
        self._observe = self.transformers and observe.observer(model, self.transformers)

    def read(self, path):
        """A picture as a batch of one float32 image; raises `pictures.PictureError`."""
        return images.read(path, self.model.inputs[0].shape)

    def probabilities(self, images):
        """`(batch, classes)` float32 shares that add up to 1, of images as `read` gives them."""
        outputs = ops.cast(self.model(images, training=False), "float32")
        outputs = ops.convert_to_numpy(outputs)
        if np.all(outputs >= 0) and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
            return outputs
        return ops.convert_to_numpy(ops.softmax(outputs))

    def warps(self, images):
        """A `Figure` for each transformer, by its name: images and warps, the sampled region drawn
        on the images."""
        if not self.transformers:
            return {}
        return observe.figures(self.transformers, self._observe(images))


def class_names(model_path, count):
    """What `config.json` beside a saved model calls its classes.

    Example:

    >>> class_names("run/best.keras", 2)  # run/config.json: {"classes": ["cat", "dog"]}
    ['cat', 'dog']

    Args:
        model_path: The model's file; it is not opened.
        count: How many classes the model has.

    Returns:
        List of `count` names; None where the file does not name so many.
    """
    try:
        settings = json.loads((pathlib.Path(model_path).parent / "config.json").read_text())
        classes = settings["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return classes if named and len(classes) == count else None


def describe(classifier, path, output_dir=None, most=3):
    """A picture's likeliest classes as text; draws what each transformer makes of it.

    Example:

    >>> print(describe(Classifier(model), "pets/cat/0.png", most=1))  # doctest: +ELLIPSIS
    pets/cat/0.png
      ...%  ...
      transformer: pets/cat/0.png.transformer.png

    Args:
        classifier: A `Classifier`.
        path: The picture.
        output_dir: An existing folder for the drawings, `<picture>.<layer>.png` each; None for the
            picture's own. What stands there is replaced.
        most: How many classes.

    Returns:
        Lines without a newline at the end: the path, shares in percent, the drawings' paths.

    Raises:
        pictures.PictureError: if the picture can't be read.
        OSError: if a drawing can't be written.
    """
    path = pathlib.Path(path)
    image = classifier.read(path)
    (shares,) = classifier.probabilities(image)
    lines = [str(path)]
    for label in np.argsort(-shares)[:most]:
        lines.append(f"  {shares[label]:6.1%}  {classifier.classes[label]}")
    for name, figure in classifier.warps(image).items():
        picture = (output_dir or path.parent) / f"{path.name}.{name}.png"
        plots.save(figure, picture)
        lines.append(f"  {name}: {picture}")
    return "\n".join(lines)
