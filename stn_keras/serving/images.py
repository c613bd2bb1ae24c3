"""Pictures as the batches of images that a model takes."""

import pathlib
import random

import numpy as np

from stn_keras.data import pictures


def channel_axis(shape):
    """Which axis of an input's shape holds 1, 3 or 4 channels, the last or the one behind the
    batch: −1 or 1; None where the shape is not one of images."""
    axes = [axis for axis in (-1, 1) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    return axes[0] if axes else None


def size_of(shape):
    """The `(height, width)` of an input's shape, of None where it is open."""
    return tuple(shape[1:3] if channel_axis(shape) == -1 else shape[2:4])


def read(path, shape):
    """A picture as a batch of one float32 image for an input of that shape, in 0 … 255, stretched
    to its size where that is known; raises `pictures.PictureError`."""
    axis, size = channel_axis(shape), size_of(shape)
    image = pictures.read(path, None if None in size else size, shape[axis])
    return np.moveaxis(image.astype("float32")[np.newaxis], -1, axis)


def read_folder(folder, shape, most=200):
    """The pictures of a folder and of those below it, for an input of images of one size.

    Where there are more than `most`, so many of them, drawn at random but the same each time.

    Returns:
        `images, unreadable`: `(n, ...)` as the input takes them; why each file that was skipped
        could not be read.

    Raises:
        ValueError: if the input is not one of images of one size, or no picture can be read.
    """
    folder = pathlib.Path(folder)
    if channel_axis(shape) is None or None in size_of(shape):
        raise ValueError(
            "Pictures suit an input of images of a fixed size, with 1, 3 or 4 channels. "
            f"Received: an input of the shape {tuple(shape)}"
        )
    files = sorted(path for path in pictures.visible(folder.rglob("*"), folder) if path.is_file())
    found, unreadable = [], []
    for path in random.Random(0).sample(files, min(most, len(files))):
        try:
            found.append(read(path, shape))
        except pictures.PictureError as error:
            unreadable.append(str(error))
    if not found:
        raise ValueError("\n".join([f"{folder} has no picture that can be read", *unreadable[:5]]))
    return np.concatenate(found), unreadable
