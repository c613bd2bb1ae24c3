"""Checks the moving and the fixed pictures and their masks, and converts them to `Side`s."""

import dataclasses

import numpy as np
from keras import ops

from stn_keras.checks.arguments import as_numbers
from stn_keras.checks.images import check_images, to_channels_last

SHORTEST = 8  # pixels along an axis; shorter axes have too few derivatives
FLAT = 1e-6  # standard deviation, as a share of the largest value, of a constant picture


@dataclasses.dataclass
class Side:
    """The moving or the fixed picture of each pair, as NumPy arrays.

    Attributes:
        pixels: float32 `(batch, *size, channels)`.
        weights: float32 `(batch, *size, 1)`, 0 where a pixel is masked out and 1 elsewhere.
    """

    pixels: np.ndarray
    weights: np.ndarray

    @property
    def size(self):
        return self.pixels.shape[1:-1]

    def with_weights(self):
        """The pixels with the weights as last channel."""
        return np.concatenate([self.pixels, self.weights], axis=-1)

    def statistics(self):
        """The mean of each channel, and one standard deviation of all channels.

        Both are computed per picture and broadcast against `pixels`.
        """
        axes = tuple(range(1, self.pixels.ndim - 1))
        total = self.weights.sum(axes, "float64", keepdims=True)
        mean = (self.pixels * self.weights).sum(axes, "float64", keepdims=True) / total
        squares = ((self.pixels - mean) ** 2 * self.weights).sum(axes, "float64", keepdims=True)
        variance = (squares / total).mean(-1, keepdims=True)
        return mean, np.sqrt(variance)

    def scaled(self, mean, deviation):
        pixels = (self.pixels - mean) / deviation
        return Side((pixels * (self.weights > 0)).astype("float32"), self.weights)


def as_sides(moving, fixed, moving_mask, fixed_mask, data_format):
    """Both sides, with the same batch size and the same channels.

    Raises:
        ValueError: if their shapes do not fit together, or a picture is constant.
    """
    sides = [
        as_side(moving, moving_mask, "moving", data_format),
        as_side(fixed, fixed_mask, "fixed", data_format),
    ]
    shapes = [side.pixels.shape for side in sides]
    received = f"Received: moving.shape={shapes[0]}, fixed.shape={shapes[1]}, channels last"
    if len(shapes[0]) != len(shapes[1]):
        raise ValueError(f"`moving` and `fixed` must both be images or both volumes. {received}")
    batch = max(shape[0] for shape in shapes)
    if any(shape[0] not in (1, batch) for shape in shapes):
        raise ValueError(
            f"`moving` and `fixed` must have the same batch size, or one of them 1. {received}"
        )
    channels = {shape[-1] for shape in shapes}
    if len(channels) > 1:
        if channels != {1, 3}:
            raise ValueError(
                "`moving` and `fixed` must have the same number of channels, or 1 and 3. Drop an "
                f"alpha channel, or pass it as the mask. {received}"
            )
        sides = [Side(side.pixels.mean(-1, keepdims=True), side.weights) for side in sides]
    for side, name in zip(sides, ("moving", "fixed")):
        check_structure(side, name)
    return [
        Side(*(np.broadcast_to(x, (batch, *x.shape[1:])) for x in (side.pixels, side.weights)))
        for side in sides
    ]


def as_side(images, mask, name, data_format):
    """The side of pictures and a mask that a user passed to `register`."""
    images = as_numbers(images, name)
    check_images(tuple(images.shape), (0.0,), data_format, name=name)
    pixels = ops.convert_to_numpy(to_channels_last(images, data_format)).astype("float32")
    if min(pixels.shape[1:-1]) < SHORTEST:
        raise ValueError(
            f"`{name}` must have sides of at least {SHORTEST} pixels. "
            f"Received: {name}.shape={tuple(images.shape)}"
        )
    weights = as_weights(mask, pixels.shape, f"{name}_mask")
    if not np.isfinite(pixels[np.broadcast_to(weights > 0, pixels.shape)]).all():
        raise ValueError(
            f"`{name}` must be finite; mask missing pixels by `{name}_mask`. "
            f"Received: NaN or infinite pixels in `{name}`"
        )
    return Side(np.where(weights > 0, pixels, 0), weights)


def as_weights(mask, shape, name):
    """A mask as float32 weights of one channel, 1 where it is True. For None all weights are 1."""
    if mask is None:
        return np.ones((*shape[:-1], 1), "float32")
    mask = ops.convert_to_numpy(mask)
    if mask.ndim == len(shape) - 1:
        mask = mask[..., None]
    if mask.ndim != len(shape) or mask.shape[1:] != (*shape[1:-1], 1):
        raise ValueError(
            f"`{name}` must have shape {('batch', *shape[1:-1])}, without channels or with one in "
            f"the last axis. Received: {name}.shape={mask.shape}"
        )
    if mask.shape[0] not in (1, shape[0]):
        raise ValueError(
            f"`{name}` must have a batch size of 1 or {shape[0]}. "
            f"Received: {name}.shape={mask.shape}"
        )
    return np.broadcast_to(mask != 0, (*shape[:-1], 1)).astype("float32")


def check_structure(side, name):
    """Raises a ValueError if a picture is constant, or if all of it is masked."""
    for number, one in enumerate(side.pixels):
        seen = one[side.weights[number, ..., 0] > 0].astype("float64")
        if not len(seen):
            raise ValueError(f"`{name}_mask` masks all of picture {number}, but must keep some")
        if seen.std(axis=0).max() <= FLAT * np.abs(seen).max():
            raise ValueError(
                f"`{name}` must have structure to align by. Received: picture {number} of "
                f"`{name}` has the same value, {seen.flat[0]:g}, everywhere"
            )
