"""Samples pictures by a warp; converts their data format, batch size and dtype for it."""

import dataclasses

from stn_keras.checks.images import (
    as_dtype,
    as_floats,
    as_options,
    check_images,
    check_interpolation,
    fill_tensor,
    from_channels_last,
    same_batch,
    to_channels_last,
)
from stn_keras.sampler import sample

EDGES = {  # options for a displacement field, which repeats its edge values outside
    "interpolation": "bilinear",
    "fill_mode": "nearest",
    "fill_value": (0.0,),
    "data_format": "channels_last",
}


def picture_options(
    shape, axes, *, interpolation="bilinear", fill_mode="constant", fill_value=0.0, data_format=None
):
    """The checked options of `warped` for pictures of a shape and a warp of a number of axes."""
    options = as_options(interpolation, fill_mode, fill_value, False, data_format)
    del options["align_corners"]
    check_images(shape, options["fill_value"], options["data_format"], (axes + 2,), "pictures")
    check_interpolation(interpolation, axes, f"pictures.shape={shape}")
    return options


def warped(images, warp, name, *, interpolation, fill_mode, fill_value, data_format):
    """Samples images, which have been checked and have the input size of the warp.

    `name` is the name of the argument that the warp was made from, for error messages. Integers are
    sampled as floats and rounded; with `"nearest"` they keep their dtype throughout.
    """
    images, tensor = same_batch(to_channels_last(images, data_format), warp.tensor, name)
    pixels = images if interpolation == "nearest" else as_floats(images)
    samples = sample(
        pixels,
        dataclasses.replace(warp, tensor=tensor),
        fill_tensor(fill_value, fill_mode, pixels, tensor),
        interpolation=interpolation,
        fill_mode=fill_mode,
    )
    return from_channels_last(as_dtype(samples, images.dtype), data_format)
