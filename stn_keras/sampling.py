"""The differentiable image sampler: values of an image at arbitrary coordinates."""

from collections.abc import Sequence

import keras

from stn_keras import backend
from stn_keras.checks.arguments import as_coordinates, as_numbers, is_symbolic
from stn_keras.checks.images import as_options, check_images, check_points, size_of
from stn_keras.sampler.pictures import warped
from stn_keras.sampler.warps import Displacement, Grid, Pixels

__all__ = ["grid_sample", "pixel_sample"]

register = keras.saving.register_keras_serializable("stn_keras")


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
    """Samples each image at the points of its grid, differentiable with respect to both.

    It is the sampler of [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 5, and
    computes the same values as the functions of the same name in PyTorch and ONNX. On JAX it is
    differentiable in reverse mode: `jax.grad` and `jax.hessian` work, `jax.jvp` does not.

    A batch of one image or of one grid applies to the whole batch of the other.

    Example:

    >>> image = np.arange(4.0, dtype="float32").reshape(1, 1, 4, 1)  # pixels 0 1 2 3
    >>> np.array(grid_sample(image, [[[[0.0, 0.0]]]]))  # the middle, between 1 and 2
    array([[[[1.5]]]], dtype=float32)

    Args:
        images: `(batch, height, width, channels)`, or `(batch, channels, height, width)` with
            `data_format="channels_first"`. Volumes have a depth before the height. Integers are
            sampled as floats and rounded; with `"nearest"` they are copied unchanged.
        grid: Normalised `(x, y)`, `(batch, out_height, out_width, 2)`, see `stn_keras.geometry`;
            for volumes `(x, y, z)`, `(batch, out_depth, out_height, out_width, 3)`. Values that are
            NaN or infinite count as outside the image.
        interpolation: `"nearest"` (halves round to the even pixel; no gradient with respect to the
            grid), `"bilinear"`, or `"bicubic"` (Keys's kernel, a = −0.75, which overshoots at
            edges; not for volumes).
        fill_mode: Values outside the image: `"constant"` for `fill_value`, `"nearest"` to repeat
            the edge pixel, `"reflect"` to mirror the image about the outer edges of its pixels
            (`align_corners=False`) or about the centres of the edge pixels (`True`), `"wrap"` to
            repeat the image.
        fill_value: One number, or one per channel. The other fill modes ignore it.
        align_corners: Whether −1 and 1 are the centres of the corner pixels rather than their
            outer edges.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Returns:
        Images of the grid's size, in the dtype of `images`. Weights are float32 or wider. Pixels
        with a weight of 0 do not count, even if they are infinite or NaN.

    Raises:
        ValueError: if an argument has a wrong rank, shape, dtype or name.
    """
    options = as_options(interpolation, fill_mode, fill_value, align_corners, data_format)
    if is_symbolic(images, grid):
        return GridSample()(images, grid, **options)
    return sampled(images, grid, "grid", **options)


def pixel_sample(
    images,
    coordinates,
    *,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float | Sequence[float] = 0.0,
    align_corners: bool = False,
    data_format: str | None = None,
):
    """Samples each image at pixel coordinates, differentiable with respect to both.

    It is `grid_sample` with coordinates in pixels instead of a normalised grid.

    Example:

    >>> image = np.arange(4.0, dtype="float32").reshape(1, 1, 4, 1)  # pixels 0 1 2 3
    >>> np.array(pixel_sample(image, [[[[2.5, 0.0]]]]))  # (x, y), between 2 and 3
    array([[[[2.5]]]], dtype=float32)

    Args:
        images: As in `grid_sample`.
        coordinates: `(x, y)` in pixels, where 0 is the centre of the first pixel, `(batch,
            out_height, out_width, 2)`; for volumes `(x, y, z)`, `(batch, out_depth, out_height,
            out_width, 3)`.
        interpolation: As in `grid_sample`.
        fill_mode: As in `grid_sample`.
        fill_value: As in `grid_sample`.
        align_corners: Determines only the axis about which `fill_mode="reflect"` mirrors.
        data_format: As in `grid_sample`.

    Returns:
        Images of the coordinates' size, in the dtype of `images`.

    Raises:
        ValueError: as for `grid_sample`.
    """
    options = as_options(interpolation, fill_mode, fill_value, align_corners, data_format)
    if is_symbolic(images, coordinates):
        return PixelSample()(images, coordinates, **options)
    return sampled(images, coordinates, "coordinates", **options)


KINDS = {"grid": Grid, "coordinates": Pixels, "displacement": Displacement}


def sampled(images, points, name, *, align_corners, **options):
    """The common part of both functions and of `DenseWarp`, in which the argument `points` is
    called `name`."""
    images, points = as_numbers(images, "images"), as_coordinates(points, name)
    check_images(tuple(images.shape), options["fill_value"], options["data_format"])
    check_points(images.shape, name, points.shape, options["interpolation"])
    input_size = size_of(backend.shape(images), options["data_format"])
    warp = KINDS[name](points, input_size, backend.shape(points, 1, -1), align_corners)
    return warped(images, warp, name, **options)


@register
class GridSample(keras.Operation):
    """`grid_sample` in a functional model."""

    def call(self, images, points, **options):
        return grid_sample(images, points, **options)

    name_of_points = "grid"

    def compute_output_spec(self, images, points, **options):
        check_images(images.shape, options["fill_value"], options["data_format"])
        check_points(images.shape, self.name_of_points, points.shape, options["interpolation"])
        channels_first = options["data_format"] == "channels_first"
        channels = images.shape[1 if channels_first else -1]
        batch, *size = points.shape[:-1]
        batch = images.shape[0] if batch == 1 else batch
        shape = (batch, channels, *size) if channels_first else (batch, *size, channels)
        return keras.KerasTensor(shape, images.dtype)


@register
class PixelSample(GridSample):
    """`pixel_sample` in a functional model."""

    name_of_points = "coordinates"

    def call(self, images, points, **options):
        return pixel_sample(images, points, **options)
