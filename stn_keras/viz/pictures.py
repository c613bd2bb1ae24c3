"""Pictures of a transformer's input and output, in original colours or as grey feature maps."""

import keras
import numpy as np

from stn_keras.layers import SpatialTransformer

SHOWN = 8  # images in a figure


def pictures(seen, inputs):
    """Adds pictures of the input and output of each transformer to the result of `observe`.

    Returns:
        Dict from names to `(observation, images, warped)`. The images and the warped images are
        uint8 `(batch, *size, 1 or 3)`.
    """
    known, found = originals(inputs), {}
    for name, observation in seen.items():
        picture = original_of(observation, known)
        if picture is None:
            found[name] = observation, *grey_levels(observation)
        else:
            warped = warped_alike(observation, picture)
            known.append(warped)  # another transformer may warp it further
            found[name] = observation, shown(picture), shown(warped)
    return found


def originals(inputs):
    """The inputs of a model that can be shown as pictures, cut to the first `SHOWN` images.

    Returns:
        List of float arrays `(batch, *size, 1, 3 or 4)` in 0 … 255, of images or volumes.
    """
    found = []
    for images in keras.tree.flatten(inputs):
        images = keras.ops.convert_to_numpy(images[:SHOWN])
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


def original_of(observation, known):
    """The picture that has the shape of a transformer's input, or None.

    If several have this shape, it is the one that correlates most with the transformer's input.
    """

    def likeness(picture):
        with np.errstate(all="ignore"):
            correlation = np.corrcoef(picture.ravel(), observation.images.ravel())[0, 1]
        return abs(np.nan_to_num(correlation))

    alike = [picture for picture in known if picture.shape == observation.images.shape]
    return max(alike, key=likeness, default=None)


def warped_alike(observation, pictures):
    """Warps pictures `(batch, *size, channels)` as the transformer does; black outside."""
    layer = observation.layer
    alike = SpatialTransformer(
        transform=layer.warped_by,
        output_size=observation.warped.shape[1:-1],
        interpolation=layer.interpolation,
        fill_mode=layer.fill_mode,
        align_corners=layer.align_corners,
        data_format="channels_last",
        antialias=layer.antialias,
        dtype="float32",
    )
    warped = alike([pictures.astype("float32"), observation.theta])
    return np.clip(keras.ops.convert_to_numpy(warped), 0, 255).astype("float64")


def grey_levels(observation):
    """Input and output scaled to 0 … 255: from black, the least value, to white, the greatest.

    Channels are averaged, except for 3 channels, which are shown as colours.
    """
    images, warped = (
        maps if maps.shape[-1] in (1, 3) else maps.mean(axis=-1, keepdims=True)
        for maps in (observation.images, observation.warped)
    )
    values = images[np.isfinite(images)]
    low, high = (values.min(), values.max()) if values.size else (0, 1)
    scale = 255 / max(high - low, 1e-12)
    return tuple(shown(np.clip(scale * (maps - low), 0, 255)) for maps in (images, warped))


def shown(pixels):
    """Pixels in 0 … 255 as uint8; transparent images are drawn on white."""
    if pixels.shape[-1] == 4:
        opacity = pixels[..., 3:] / 255
        pixels = pixels[..., :3] * opacity + 255 * (1 - opacity)
    return np.round(np.nan_to_num(pixels)).astype("uint8")
