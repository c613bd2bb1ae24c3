"""Checks and conversions of images as arguments: options, shapes, data formats and dtypes."""

import keras
import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_array, as_flag, as_type, wide_dtype

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
FILL_MODES = ("constant", "nearest", "reflect", "wrap")

DATA_FORMATS = ("channels_last", "channels_first")
IMAGES = (
    "rank 4: (batch, height, width, channels), or (batch, channels, height, width) with "
    "channels_first."
)
VOLUMES = (
    "rank 5: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) "
    "with channels_first."
)
# The expected layout in an error message, by the ranks that are possible.
LAYOUTS = {
    (4,): f"{IMAGES} For volumes take a transform with axes=3, as in transforms.Affine(axes=3).",
    (5,): f"{VOLUMES} For images take a transform of images: this one has axes=3.",
    (4, 5): f"{IMAGES} Volumes have rank 5, with a depth before the height.",
}


def as_options(interpolation, fill_mode, fill_value, align_corners, data_format):
    """Checks the options that all samplers share; a `data_format` of `None` is Keras's."""
    check_option("interpolation", interpolation, INTERPOLATIONS)
    check_option("fill_mode", fill_mode, FILL_MODES)
    return {
        "interpolation": interpolation,
        "fill_mode": fill_mode,
        "fill_value": as_fill(fill_value),
        "align_corners": as_flag(align_corners, "align_corners"),
        "data_format": as_data_format(data_format),
    }


def as_data_format(data_format):
    """`data_format`, or Keras's setting for None."""
    data_format = keras.config.image_data_format() if data_format is None else data_format
    check_option("data_format", data_format, DATA_FORMATS)
    return data_format


def as_fill(fill_value):
    """`fill_value` as a tuple of floats, hashable."""
    values = as_array(fill_value)
    if values.ndim > 1 or values.size == 0:
        raise ValueError(
            "`fill_value` must be a number, or a sequence of one number per channel. Instead of "
            "one that is learned or traced, add it times (1 - the warp of ones) to the output. "
            f"Received: fill_value={fill_value!r}"
        )
    return tuple(float(value) for value in values.reshape(-1))


def fill_tensor(fill_value, fill_mode, images, points):
    """What the sampler fills with: a tensor in the dtype of the samples, for integers rounded and
    clipped, or None with a fill value of 0 and in other modes than `"constant"`.

    As a tensor, its values do not cause a new compilation.
    """
    if fill_mode != "constant" or not any(fill_value):
        return None
    dtype = keras.backend.standardize_dtype(images.dtype)
    if "int" not in dtype:
        return ops.convert_to_tensor(fill_value, dtype=wide_dtype(images, points))
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return ops.convert_to_tensor([round(min(max(v, least), most)) for v in fill_value], dtype)


def check_option(name, value, known):
    """Raises a ValueError if the value of an option is unknown."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")


def check_images(shape, fill_value, data_format, ranks=(4, 5), name="images"):
    """Raises a ValueError if a shape is not that of images, or does not match `fill_value`."""
    if len(shape) not in ranks:
        raise ValueError(f"`{name}` must have {LAYOUTS[ranks]} Received: shape={shape}")
    check_sides(shape, data_format, name)
    channels = shape[-1 if data_format == "channels_last" else 1]
    if channels is None:
        raise ValueError(
            f"`{name}` must have a known number of channels. Received: shape={shape}, "
            f"data_format={data_format!r}"
        )
    if len(fill_value) not in (1, channels):
        raise ValueError(
            f"`fill_value` must be one number or one per channel of `{name}`. "
            f"Received: fill_value={fill_value} for {channels} channels"
        )


def check_sides(shape, data_format, name):
    """Raises a ValueError if images, volumes or a field have no pixels along an axis."""
    if 0 in size_of(shape, data_format):
        raise ValueError(f"`{name}` must have sides of at least one pixel. Received: shape={shape}")


def check_points(images, name, points, interpolation):
    """Raises a ValueError if two shapes do not match, or if volumes lack the interpolation."""
    axes = len(images) - 2
    shapes = f"{name}.shape={tuple(points)}, images.shape={tuple(images)}"
    check_interpolation(interpolation, axes, f"images.shape={tuple(images)}")
    if len(points) != axes + 2 or points[-1] != axes:
        wanted = "(batch, height, width, 2)" if axes == 2 else "(batch, depth, height, width, 3)"
        raise ValueError(f"`{name}` must have shape {wanted} for such images. Received: {shapes}")


def check_interpolation(interpolation, axes, received):
    """Raises a ValueError if images with so many axes lack the interpolation."""
    if axes == 3 and interpolation == "bicubic":
        raise ValueError(
            "`interpolation` of volumes must be 'nearest' or 'bilinear'. "
            f"Received: interpolation='bicubic' and {received}"
        )


def check_batch(images, name, tensor):
    """Raises a ValueError if the batch sizes are known and different."""
    sizes = images.shape[0], tensor.shape[0]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"`images` and `{name}` must have the same batch size. "
            f"Received: images.shape={tuple(images.shape)}, {name}.shape={tuple(tensor.shape)}"
        )


def same_batch(images, tensor, name):
    """Both with the same batch size; a single image or element of `tensor` is repeated."""
    sizes = images.shape[0], tensor.shape[0]
    if sizes[0] == sizes[1] and None not in sizes:
        return images, tensor
    if None not in sizes and 1 not in sizes:
        raise ValueError(
            f"`images` and `{name}` must have the same batch size, or one of them 1. "
            f"Received: images.shape={tuple(images.shape)}, {name}.shape={tuple(tensor.shape)}"
        )
    first, second = backend.shape(images), backend.shape(tensor)
    batch = second[0] if sizes[0] == 1 else first[0]
    if None in sizes and 1 not in sizes:
        batch = ops.where(first[0] == 1, second[0], first[0])
    return (
        ops.broadcast_to(images, (batch, *first[1:])),
        ops.broadcast_to(tensor, (batch, *second[1:])),
    )


def dtype_of_output(images, copied, compute_dtype):
    """The dtype of a layer's output. Integers, such as labels, keep their dtype if pixels are only
    copied."""
    dtype = keras.backend.standardize_dtype(images.dtype)
    return dtype if copied and "int" in dtype else compute_dtype


def as_floats(images):
    """Images as floats; integers become float32, or float64 if float32 is not exact for them."""
    dtype = keras.backend.standardize_dtype(images.dtype)
    if "float" in dtype:
        return images
    return ops.cast(images, "float64" if np.dtype(dtype).itemsize > 2 else "float32")


def as_dtype(samples, dtype):
    """Samples in the dtype of the images; for integers rounded and clipped to its range."""
    dtype, found = map(keras.backend.standardize_dtype, (dtype, samples.dtype))
    if "int" not in dtype or found == dtype:
        return as_type(samples, dtype)
    limits = np.iinfo(dtype)
    most = np.array(limits.max, found)
    if int(most) > limits.max:  # rounded up: a cast would overflow
        most = np.nextafter(most, np.zeros_like(most))
    # As tensors: Keras takes NumPy's numbers for float32 on PyTorch.
    least, most = (ops.convert_to_tensor(limit, found) for limit in (limits.min, most))
    return ops.cast(ops.clip(ops.round(samples), least, most), dtype)


def size_of(shape, data_format):
    """The part of the shape of images that is their size."""
    return shape[1:-1] if data_format == "channels_last" else shape[2:]


def resized(shape, size, data_format):
    """The shape of images after a change of their size."""
    if data_format == "channels_last":
        return (shape[0], *size, shape[-1])
    return (*shape[:2], *size)


def to_channels_last(images, data_format):
    last = len(images.shape) - 1  # of an axis −1 PyTorch's exporter makes faulty ONNX
    return images if data_format == "channels_last" else ops.moveaxis(images, 1, last)


def from_channels_last(images, data_format):
    last = len(images.shape) - 1
    return images if data_format == "channels_last" else ops.moveaxis(images, last, 1)
