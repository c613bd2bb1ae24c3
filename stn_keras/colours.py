"""Finds the original colours of images that a network has normalised, for drawing them."""

import dataclasses

import keras
import numpy as np

from stn_keras.layers import SpatialTransformer

UNEXPLAINED = 0.01  # largest unexplained share of the variance for the inputs to count as an image
PIXELS = 10_000  # number of pixels that are compared


def pictures(inputs, most):
    """The inputs of a model that can be shown as images, the first `most` of each.

    Returns:
        List of float arrays (batch, *size, 1, 3 or 4) in 0 … 255, of images or volumes.
    """
    found = []
    for images in keras.tree.flatten(inputs):
        images = keras.ops.convert_to_numpy(images[:most])
        pixels = images.astype("float64")
        if pixels.ndim not in (4, 5) or not (
            pixels.size and pixels.min() >= 0 and pixels.max() <= 255
        ):
            continue
        if images.dtype.kind not in "iu" and pixels.max() <= 1:
            pixels = 255 * pixels
        for axis in (-1, 1):
            if pixels.shape[axis] in (1, 3, 4):
                found.append(np.moveaxis(pixels, axis, -1))
    return found


def in_colour(sight, known):
    """The inputs and outputs of a transformer, in the colours of the images they come from.

    The input comes from an image if each of its pixels is a linear function of the image's colour
    there. Examples are normalised images, grey images, and channels in another order.

    Args:
        sight: An `observe.Sight`.
        known: Images from `pictures`; the warped images are appended.

    Returns:
        `(images, warped)`, uint8 (batch, *size, 1 or 3); None if the input is not an image.
    """
    fits = [(fit(picture, sight.images), picture) for picture in known]
    fits = [(maps, picture) for maps, picture in fits if maps]
    if not fits:
        return None
    maps, picture = min(fits, key=lambda one: one[0].unexplained)
    # Weights add up to 1, so the fill colour can be subtracted before the warp and added after it.
    fill = maps.colour(np.asarray(sight.layer.fill_value))
    fill = fill.reshape(len(fill), *[1] * (picture.ndim - 2), -1)
    warped = np.clip(_warped_alike(sight, picture - fill) + fill, 0, 255)
    known.append(warped)
    return _shown(picture), _shown(warped)


def scaled(sight):
    """The inputs and outputs of a transformer, scaled from black (least) to white (greatest)."""
    images, warped = grey_or_rgb(sight.images), grey_or_rgb(sight.warped)
    values = images[np.isfinite(images)]
    low, high = (values.min(), values.max()) if values.size else (0, 1)
    return tuple(_shown(255 * rescaled(x, low, high)) for x in (images, warped))


def grey_or_rgb(images):
    """Images unchanged; feature maps averaged over their channels."""
    return images if images.shape[-1] in (1, 3) else images.mean(axis=-1, keepdims=True)


def rescaled(images, low, high):
    """`low … high` scaled to 0 … 1, and clipped."""
    return np.clip((images - low) / max(high - low, 1e-12), 0, 1)


@dataclasses.dataclass
class Fit:
    """Linear maps from colours to the inputs of a layer, one per image or one for all images."""

    unexplained: float  # share of the variance, for the worst image
    colours: np.ndarray  # (maps, channels): means
    seen: np.ndarray  # (maps, seen channels): means
    slopes: np.ndarray  # (maps, channels, seen channels)

    def colour(self, seen):
        """The colour of input values, one or one per channel; (maps, channels) in 0 … 255."""
        back = np.linalg.pinv(self.slopes, rcond=1e-3)
        colour = self.colours + ((seen - self.seen)[:, None] @ back)[:, 0]
        return np.clip(colour, 0, 255)


def fit(pictures, seen):
    """The least-squares `Fit` of the inputs `seen`; None if they do not come from the pictures."""
    if pictures.shape[:-1] != seen.shape[:-1] or not np.isfinite(seen).all():
        return None
    for maps in (1, len(seen)):
        flat = [x.reshape(maps, -1, x.shape[-1]) for x in (pictures, seen)]
        flat = [x[:, :: x.shape[1] // PIXELS + 1].astype("float64") for x in flat]
        unexplained, *found = zip(*map(_least_squares, *flat), strict=True)
        if max(unexplained) <= UNEXPLAINED:
            return Fit(max(unexplained), *map(np.stack, found))
    return None


def _least_squares(colours, values):
    """The fields of a `Fit` for one map; both arguments are (pixels, channels)."""
    means = colours.mean(axis=0), values.mean(axis=0)
    known, wanted = colours - means[0], values - means[1]
    slopes = np.zeros((known.shape[1], wanted.shape[1]))
    if known.shape == wanted.shape and known.any():
        # Constant channels tell nothing; they are assumed to be normalised like the others.
        slopes = np.eye(len(slopes)) * np.vdot(known, wanted) / np.vdot(known, known)
    slopes += np.linalg.lstsq(known, wanted - known @ slopes, rcond=None)[0]
    spread = max(wanted.var(axis=0).mean(), 1e-4 * np.mean(values**2), 1e-30)
    return np.mean((wanted - known @ slopes) ** 2) / spread, *means, slopes


def _warped_alike(sight, pictures):
    """Pictures (batch, *size, channels), warped as the transformer warps its inputs."""
    layer = sight.layer
    alike = SpatialTransformer(
        transform=layer.warped_by,
        output_size=sight.warped.shape[1:-1],
        interpolation=layer.interpolation,
        fill_mode=layer.fill_mode,
        align_corners=layer.align_corners,
        data_format="channels_last",
        antialias=layer.antialias,
        dtype="float32",
    )
    warped = alike([pictures.astype("float32"), sight.theta])
    return keras.ops.convert_to_numpy(warped).astype("float64")


def _shown(pixels):
    """Pixels in 0 … 255 as uint8; transparent images on white."""
    if pixels.shape[-1] == 4:
        opacity = pixels[..., 3:] / 255
        pixels = pixels[..., :3] * opacity + 255 * (1 - opacity)
    return np.round(np.nan_to_num(pixels)).astype("uint8")
