"""The differentiable image sampler: pixels of an image at coordinates that need not be whole."""

import itertools
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from stn_keras import backend
from stn_keras.geometry import as_coordinates, as_numbers, to_pixels, wide_dtype

__all__ = ["grid_sample"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
FILL_MODES = ("constant", "nearest", "reflect")
DATA_FORMATS = ("channels_last", "channels_first")
FLOATS = ("float16", "bfloat16", "float32", "float64")


def grid_sample(
    images,
    grid,
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float | Sequence[float] = 0.0,
    align_corners: bool = False,
    data_format: str | None = None,
):
    """Samples each image at its grid's points, differentiable in both.

    On JAX in reverse mode, and the gradient in any: `jax.hessian` works, `jax.jvp` does not.

    The sampler of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 5, with
    the numbers of PyTorch's and ONNX's function of the same name.

    Example:

    >>> image = np.arange(4.0, dtype="float32").reshape(1, 1, 4, 1)  # pixels 0 1 2 3
    >>> np.array(grid_sample(image, [[[[0.0, 0.0]]]]))  # the middle, between 1 and 2
    array([[[[1.5]]]], dtype=float32)

    Args:
        images: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if
            `data_format` says so; any floating-point dtype. Volumes have a depth before the
            height.
        grid: `(batch, out_height, out_width, 2)`; normalised `(x, y)`, see `stn_keras.geometry`.
            Of volumes `(batch, out_depth, out_height, out_width, 3)`, `(x, y, z)`. Values that
            are not finite count as outside the image.
        interpolation: `"nearest"` (halves go to the even pixel; no gradient of the grid),
            `"bilinear"`, or `"bicubic"` (Keys's kernel, a = −0.75, which overshoots at edges;
            not for volumes).
        fill_mode: What lies outside the image: `"constant"` for `fill_value`, `"nearest"` to
            repeat the edge pixel, `"reflect"` to mirror the image about its pixels' outer edges
            (`align_corners=False`) or about the edge pixels' centres (`True`).
        fill_value: One number, or one per channel. Unused by the other fill modes.
        align_corners: Whether −1 and 1 are the centres of the corner pixels rather than their
            outer edges.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Returns:
        Images of the grid's size, in the dtype of `images`. Weights are float32 or wider.

    Raises:
        ValueError: if an argument has a wrong rank, shape, dtype or name.
    """
    images = as_numbers(images, "images")
    grid = as_coordinates(grid, "grid")
    data_format = keras.config.image_data_format() if data_format is None else data_format
    fill_value = as_fill(fill_value)
    check_options(interpolation, fill_mode, data_format)
    check_images(tuple(images.shape), fill_value, data_format, ranks=(4, 5))
    axes = len(images.shape) - 2
    if axes == 3 and interpolation == "bicubic":
        raise ValueError(
            "`interpolation` of volumes must be 'nearest' or 'bilinear'. "
            f"Received: interpolation='bicubic' and images.shape={tuple(images.shape)}"
        )
    if keras.backend.standardize_dtype(images.dtype) not in FLOATS:
        raise ValueError(
            f"`images` must be of a floating-point dtype {FLOATS}, cast them first. "
            f"Received: images.dtype={images.dtype}"
        )
    if len(grid.shape) != axes + 2 or grid.shape[-1] != axes:
        wanted = "(batch, height, width, 2)" if axes == 2 else "(batch, depth, height, width, 3)"
        raise ValueError(
            f"`grid` must have shape {wanted} for such images. Received: "
            f"grid.shape={tuple(grid.shape)}, images.shape={tuple(images.shape)}"
        )
    check_batch(images, "grid", grid)
    return _grid_sample(
        images,
        grid,
        interpolation=interpolation,
        fill_mode=fill_mode,
        fill_value=fill_value,
        align_corners=bool(align_corners),
        data_format=data_format,
    )


@backend.compiled
def _grid_sample(images, grid, *, align_corners, data_format, **options):
    images = to_channels_last(images, data_format)
    coordinates = to_pixels(grid, ops.shape(images)[1:-1], align_corners)
    samples = sample(images, coordinates, align_corners=align_corners, **options)
    return ops.cast(from_channels_last(samples, data_format), images.dtype)


def sample(
    images, coordinates, *, interpolation, fill_mode, fill_value, align_corners, to_images=None
):
    """`(batch, *size, channels)` at pixel coordinates `(x, y)` or `(x, y, z)`, `(batch, ...)` each.

    Along each axis a coordinate has one, two or four taps: pairs of a pixel's index and weight. A
    sample is the sum over all combinations of the axes' taps. A tap outside the image has the
    weight 0 where `fill_value` stands for it. Samples are as wide as the wider of pixels and
    coordinates. `to_images` is `backend.blend`'s `to_rows`.
    """
    size = ops.shape(images)[1:-1]
    dtype = wide_dtype(images, coordinates[0])

    def neighbours(*coordinates):
        axes = [
            taps(bounded(coordinate), length, interpolation, fill_mode, align_corners)
            for coordinate, length in zip(reversed(coordinates), size)
        ]
        indices, weights = [], []
        for combination in itertools.product(*axes):
            index, weight = 0, 1
            for (position, share), length in zip(combination, size):
                index, weight = index * length + position, weight * share
            indices.append(index)
            weights.append(ops.cast(weight, dtype))
        return indices, weights

    rows = ops.reshape(images, (-1, math.prod(size), images.shape[-1]))
    samples = backend.blend(rows, neighbours, coordinates, to_images)  # (batch, ..., channels)
    if fill_mode == "constant" and any(fill_value):
        missing = outside_weight(coordinates, size, interpolation)[..., None]
        fill = ops.convert_to_tensor(fill_value, dtype=dtype)
        samples = samples + ops.where(missing != 0, ops.cast(missing, dtype) * fill, 0)
    return samples


def bounded(coordinate):
    """Finite coordinates, so that none is NaN or out of an integer's range; NaN goes far left."""
    far = 2.0**30
    return ops.where(coordinate > -far, ops.where(coordinate < far, coordinate, far), -far)


def taps(coordinate, length, interpolation, fill_mode, align_corners):
    """The pixels that a sample mixes along one axis: a list of `(index, weight)`."""
    if (interpolation, fill_mode) == ("bilinear", "nearest"):
        # The same pixels; and where both are the edge's, a gradient of exactly 0.
        coordinate = ops.clip(coordinate, 0.0, ops.cast(length - 1, coordinate.dtype))
    found = []
    for position, weight in around(coordinate, interpolation):
        index = fold(position, length, fill_mode, align_corners)
        if fill_mode == "constant":
            weight = ops.where(index == position, weight, 0)
        found.append((index, weight))
    return found


def around(coordinate, interpolation):
    """Pixel positions about a coordinate, inside the image or not: a list of
    `(position, weight)`, whose weights add up to 1."""
    if interpolation == "nearest":
        return [(ops.cast(ops.round(coordinate), "int32"), ops.ones_like(coordinate))]
    floor = backend.floor(coordinate)
    after = coordinate - floor
    before = 1 - after
    position = ops.cast(floor, "int32")
    if interpolation == "bilinear":
        return [(position, before), (position + 1, after)]
    weights = far_weight(1 + after), near_weight(after), near_weight(before), far_weight(1 + before)
    return [(position + step, weight) for step, weight in zip((-1, 0, 1, 2), weights)]


def outside_weight(coordinates, size, interpolation):
    """The weights of all taps outside the image together: exactly 0 where none is."""
    inside = 1
    for coordinate, length in zip(reversed(coordinates), size):
        beyond = sum(
            ops.where(into_axis(position, length) == position, 0, weight)
            for position, weight in around(bounded(coordinate), interpolation)
        )
        inside = inside * (1 - beyond)
    return 1 - inside


def near_weight(distance, a=-0.75):
    """Keys's cubic kernel at a distance of 0 … 1."""
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1


def far_weight(distance, a=-0.75):
    """Keys's cubic kernel at a distance of 1 … 2."""
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a


def fold(position, length, fill_mode, align_corners):
    """Pixel positions brought into an axis of `length`."""
    if fill_mode == "reflect":
        return reflect(position, length, align_corners)
    return into_axis(position, length)


def into_axis(position, length):
    """The pixel of an axis that is closest to a pixel position."""
    # Not ops.clip: of one between 0 and 6 LiteRT's converter makes a Relu6, which integers lack.
    return ops.minimum(ops.maximum(position, 0), length - 1)


def reflect(position, length, align_corners):
    """Mirrors positions about the centres of the edge pixels, or about their outer edges."""
    repeated = 1 if align_corners else 0  # how often an edge pixel is passed over on the way back
    period = ops.maximum(2 * (length - repeated), 1)
    phase = ops.mod(position, period)
    return ops.minimum(phase, 2 * length - 1 - repeated - phase)


def to_channels_last(images, data_format):
    return images if data_format == "channels_last" else ops.moveaxis(images, 1, -1)


def from_channels_last(images, data_format):
    return images if data_format == "channels_last" else ops.moveaxis(images, -1, 1)


def as_fill(fill_value):
    """`fill_value` as a tuple of floats, hashable."""
    try:
        values = np.asarray(fill_value)
    except ValueError:  # a ragged sequence
        values = np.empty(0)
    if values.dtype.kind not in "biuf" or values.ndim > 1 or values.size == 0:
        raise ValueError(
            "`fill_value` must be a number, or a sequence of one number per channel. "
            f"Received: fill_value={fill_value!r}"
        )
    return tuple(float(value) for value in values.reshape(-1))


def check_options(interpolation, fill_mode, data_format):
    """Raises a ValueError where a name is not one of those that exist."""
    for name, value, known in (
        ("interpolation", interpolation, INTERPOLATIONS),
        ("fill_mode", fill_mode, FILL_MODES),
        ("data_format", data_format, DATA_FORMATS),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")


def check_batch(images, name, tensor):
    """Raises a ValueError where it is known that a tensor is not of as many images."""
    sizes = images.shape[0], tensor.shape[0]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"`images` and `{name}` must have the same batch size. "
            f"Received: images.shape={tuple(images.shape)}, {name}.shape={tuple(tensor.shape)}"
        )


def check_images(shape, fill_value, data_format, ranks=(4,)):
    """Raises a ValueError where a shape is not that of images, or `fill_value` does not fit it."""
    if len(shape) not in ranks:
        volumes = " Volumes have rank 5, with a depth before the height." if 5 in ranks else ""
        raise ValueError(
            "`images` must have rank 4: (batch, height, width, channels), or "
            f"(batch, channels, height, width) with channels_first.{volumes} "
            f"Received: shape={shape}"
        )
    channels = shape[-1 if data_format == "channels_last" else 1]
    if channels is None:
        raise ValueError(
            f"`images` must have a known number of channels. Received: shape={shape}, "
            f"data_format={data_format!r}"
        )
    if len(fill_value) not in (1, channels):
        raise ValueError(
            "`fill_value` must be one number or one per channel of `images`. "
            f"Received: fill_value={fill_value} for {channels} channels"
        )
