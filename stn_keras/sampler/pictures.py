"""Pictures sampled by a warp: their format, their batch and their dtype."""

import dataclasses

from stn_keras.checks.images import (
    as_dtype,
    as_floats,
    fill_tensor,
    from_channels_last,
    same_batch,
    to_channels_last,
)
from stn_keras.sampler import sample

EDGES = {  # beyond its edges a field goes on with their values
    "interpolation": "bilinear",
    "fill_mode": "nearest",
    "fill_value": (0.0,),
    "data_format": "channels_last",
}


def warped(images, warp, name, *, interpolation, fill_mode, fill_value, data_format):
    """Checked images of the warp's input size, sampled where it looks.

    `name` is that of the argument which the warp was made from. Integers are sampled as floats and
    rounded back, or only picked.
    """
    images, tensor = same_batch(to_channels_last(images, data_format), warp.tensor, name)
    pixels = images if interpolation == "nearest" else as_floats(images)
    samples = sample(
        pixels,
        dataclasses.replace(warp, tensor=tensor),
        fill_tensor(fill_value, pixels, tensor),
        interpolation=interpolation,
        fill_mode=fill_mode,
        filled=any(fill_value),
    )
    return from_channels_last(as_dtype(samples, images.dtype), data_format)
