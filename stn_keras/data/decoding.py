"""Reads a file that Pillow knows, of any mode, as an upright array of eight bits."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stn_keras.system.files import FileError, explain

__all__ = ["PictureError", "read"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels


class PictureError(FileError):
    """An image or a folder of images can't be used; the message names it and the cause."""


def read(path, size=None, channels=3):
    """Reads an image as a uint8 array `(height, width, channels)`, rotated upright and resized.

    Example:

    >>> read("pets/cat/0.png", (16, 24)).shape
    (16, 24, 3)

    Transparent parts become white. 16-bit images keep their upper eight bits. 32-bit images, which
    do not define white, are scaled so that their values run from black to white. Animations give
    their first frame.

    Args:
        path: A file that Pillow reads.
        size: `(height, width)` to resize to; `None` keeps the image's size.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.

    Returns:
        The image, with values in 0 … 255.

    Raises:
        PictureError: if the file can't be read or is not an image.
    """
    mode = MODES[channels]
    try:
        with Image.open(path) as file:
            image = _eight_bits(_upright(file))
            if channels != 4 and image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert(mode)
            if size is not None:
                image = image.resize(size[::-1], Image.Resampling.BICUBIC)
            return np.asarray(image).reshape(image.height, image.width, channels)
    except (FileNotFoundError, PermissionError) as error:
        raise PictureError(explain(error)) from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} can't be read as a picture: it has no known format") from error
    except Exception as error:  # Pillow's plugins raise many kinds for damaged files
        raise PictureError(f"{path} can't be read as a picture: {error}") from error


def _upright(image):
    """The image, turned as its metadata say, or as it is stored if they are damaged."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in `read`
        return image


def _eight_bits(image):
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    if image.mode in ("I", "F"):
        pixels = np.nan_to_num(np.asarray(image, "float64"))
        pixels = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-12)
        return Image.fromarray((255 * pixels).round().astype("uint8"))
    return image
