"""Pictures as the batches of images that a model takes."""

import random

import numpy as np

from stn_keras.data import pictures

MOST = 200  # pictures of a folder


def channel_axis(shape):
    """The axis of an input's shape that holds 1, 3 or 4 channels: −1, or 1 if they come first; None
    if the shape is not that of images."""
    axes = [axis for axis in (-1, 1) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    return axes[0] if axes else None


def size_of(shape):
    """The `(height, width)` of an input of images; None stands for any length."""
    return tuple(shape[1:3] if channel_axis(shape) == -1 else shape[2:4])


def read(path, shape):
    """A picture as a batch of one float32 image in 0 … 255 for an input of that shape, stretched to
    its size if that is fixed; raises `pictures.PictureError`."""
    axis, size = channel_axis(shape), size_of(shape)
    image = pictures.read(path, None if None in size else size, shape[axis])
    return np.moveaxis(image.astype("float32")[np.newaxis], -1, axis)


def read_folder(folder, shape):
    """The pictures that `pictures.find` finds in a folder, for an input of images of a fixed size.

    If there are more than `MOST`, that many are selected at random, the same ones each time.
    Returns `(n, ...)` float32, as the input takes them, and how many could not be read. Raises a
    `ValueError` if the input is not one of images of a fixed size, or no picture can be read, and a
    `PictureError` if there is no such folder.
    """
    if channel_axis(shape) is None or None in size_of(shape):
        raise ValueError(
            "Pictures suit an input of images of a fixed size, with 1, 3 or 4 channels. "
            f"Received: an input of the shape {tuple(shape)}"
        )
    files = pictures.find(folder)
    found, skipped = [], 0
    for path in random.Random(0).sample(files, len(files)):
        try:
            found.append(read(path, shape))
        except pictures.PictureError:
            skipped += 1
        if len(found) == MOST:
            break
    if not found:
        raise ValueError(f"{folder} has no picture that can be read; name another folder")
    return np.concatenate(found), skipped
