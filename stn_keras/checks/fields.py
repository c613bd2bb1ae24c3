"""Checks of fields, which hold a vector per pixel."""

from stn_keras.checks.arguments import as_coordinates
from stn_keras.checks.images import check_sides, to_channels_last


def as_field(values, name, data_format):
    """A field as a tensor of coordinates' dtype, its vectors in the last axis."""
    field = as_coordinates(values, name)
    check_field(tuple(field.shape), name, data_format)
    return to_channels_last(field, data_format)


def check_field(shape, name, data_format):
    """Raises a ValueError if a shape is not that of vectors per pixel."""
    axes = len(shape) - 2
    if axes not in (2, 3) or shape[-1 if data_format == "channels_last" else 1] != axes:
        wanted = {
            "channels_last": "(batch, height, width, 2) or (batch, depth, height, width, 3)",
            "channels_first": "(batch, 2, height, width) or (batch, 3, depth, height, width)",
        }[data_format]
        raise ValueError(
            f"`{name}` must have shape {wanted} with data_format={data_format!r}. "
            f"Received: {name}.shape={shape}"
        )
    check_sides(shape, data_format, name)
