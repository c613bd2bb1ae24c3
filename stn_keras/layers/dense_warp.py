"""Keras layers of warps by a displacement per pixel."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from stn_keras import backend
from stn_keras.checks.arguments import as_count, is_symbolic, wide_dtype
from stn_keras.checks.fields import as_field, check_field
from stn_keras.checks.images import (
    as_data_format,
    as_options,
    check_images,
    check_option,
    check_points,
    dtype_of_output,
    from_channels_last,
    resized,
    size_of,
)
from stn_keras.layers import networks
from stn_keras.layers.base import OneArgument
from stn_keras.sampler.axes import extent
from stn_keras.sampler.linear import vector
from stn_keras.sampler.symbolic import Made
from stn_keras.sampler.warps import Displacement, composed
from stn_keras.sampling import sampled

__all__ = ["DenseWarp", "VelocityIntegration"]


@keras.saving.register_keras_serializable("stn_keras")
class DenseWarp(OneArgument):
    """Warps each image or volume by a displacement per pixel.

    `output(p) = input(p + displacement(p))`: a displacement of `(1, 0)` samples the pixel to the
    right, so the content moves to the left. A field of zeros returns images of its size bit for
    bit.

    The output has the size of the field. If the images have another size, `p` is the position that
    the identity transform samples, and the displacement is still in pixels of the input.

    Example:

    >>> image = np.arange(4.0, dtype="float32").reshape(1, 1, 4, 1)  # pixels 0 1 2 3
    >>> displacement = np.array([[[[1, 0], [1, 0], [0.5, 0], [0, 0]]]], "float32")
    >>> np.array(DenseWarp()([image, displacement])).ravel()
    array([1. , 2. , 2.5, 3. ], dtype=float32)

    Args:
        units: `"pixels"` of the input, or `"normalized"`, in which the input is 2 long along each
            axis (with `align_corners=True` between the centres of its first and last pixels).
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`; see `stn_keras.grid_sample`.
        fill_mode: `"constant"`, `"nearest"`, `"reflect"` or `"wrap"`; see `stn_keras.grid_sample`.
        fill_value: One number, or one per channel, for `fill_mode="constant"`.
        align_corners: See `stn_keras.geometry`. With `units="pixels"` it has an effect only if the
            field and the images differ in size, or with `fill_mode="reflect"`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting. It
            applies to the images and the displacement.

    Call arguments:
        inputs: `[images, displacement]`. Images `(batch, height, width, channels)` or volumes
            `(batch, depth, height, width, channels)`; their displacement `(batch, out_height,
            out_width, 2)`, last axis `(x, y)`, or `(batch, out_depth, out_height, out_width, 3)`,
            last axis `(x, y, z)`. With `data_format="channels_first"`, axis 1 holds the channels
            and `(x, y)`, as a convolution gives them. One image or one field applies to the whole
            batch of the other.

    Returns:
        The warped images, of the field's size, in the layer's compute dtype; integers keep their
        dtype with `"nearest"`. Coordinates are float32 or wider under every dtype policy. A layer
        of half precision rounds the field that it predicts: give that layer `dtype="float32"`.
        Pixels whose displacement is NaN or infinite count as outside the image.

    Raises:
        ValueError: if an argument or an input has a wrong rank, shape, dtype or name.
    """

    def __init__(
        self,
        units: str = "pixels",
        *,
        interpolation: str = "bilinear",
        fill_mode: str = "constant",
        fill_value: float | Sequence[float] = 0.0,
        align_corners: bool = False,
        data_format: str | None = None,
        **kwargs,
    ):
        # Otherwise Keras casts the displacement to the compute dtype, with too few digits.
        super().__init__(autocast=False, **kwargs)
        check_option("units", units, ("pixels", "normalized"))
        self.units = units
        self.options = as_options(interpolation, fill_mode, fill_value, align_corners, data_format)

    _wanted = "[images, displacement]"

    def build(self, input_shape):
        self._check(input_shape)

    def call(self, inputs):
        images, displacement = self._in_pixels(inputs)
        images = ops.cast(images, self._dtype_of(images))
        return sampled(images, displacement, "displacement", **self.options)

    def warp(self, inputs):
        """The `stn_keras.Warp` that a call of the layer applies to its images.

        It also warps labels, maps points and boxes, and can be inverted.

        Args:
            inputs: `[images, displacement]`.
        """
        self._check_pair(inputs)
        if is_symbolic(*inputs):
            return Made(self)(inputs)
        images, displacement = self._in_pixels([*map(ops.convert_to_tensor, inputs)])
        size = size_of(backend.shape(images), self.options["data_format"])
        sizes = size, backend.shape(displacement, 1, -1)
        return Displacement(displacement, *sizes, self.options["align_corners"])

    def warp_spec(self, inputs):
        """The arguments of the `SymbolicWarp` for symbolic inputs."""
        images, displacement = self._check([x.shape for x in inputs])
        sizes = [size_of(shape, self.options["data_format"]) for shape in (images, displacement)]
        return displacement[:1], *sizes, False, wide_dtype(inputs[1])

    def _in_pixels(self, inputs):
        """The images, and the displacement in pixels, its vectors in the last axis."""
        self._check(keras.tree.map_structure(lambda x: tuple(x.shape), inputs))
        images, displacement = inputs
        displacement = as_field(displacement, "displacement", self.options["data_format"])
        if self.units == "normalized":
            size = size_of(backend.shape(images), self.options["data_format"])
            align_corners, dtype = self.options["align_corners"], displacement.dtype
            halves = [extent(length, align_corners, dtype) / 2 for length in reversed(size)]
            displacement = displacement * vector(halves, dtype)
        return images, displacement

    def _check(self, input_shape):
        """Checks the shapes of the images and of the field, and returns them."""
        if not networks.is_list(input_shape) or len(input_shape) != 2:
            raise ValueError(
                "`inputs` of a `DenseWarp` must be [images, displacement]. "
                f"Received: input_shape={input_shape}"
            )
        images, displacement = map(tuple, input_shape)
        data_format = self.options["data_format"]
        check_images(images, self.options["fill_value"], data_format)
        check_field(displacement, "displacement", data_format)
        points = (displacement[0], *size_of(displacement, data_format), len(displacement) - 2)
        check_points(images, "displacement", points, self.options["interpolation"])
        return images, displacement

    def _dtype_of(self, images):
        copied = self.options["interpolation"] == "nearest"
        return dtype_of_output(images, copied, self.compute_dtype)

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape([x.shape for x in inputs])
        return keras.KerasTensor(shape, self._dtype_of(inputs[0]))

    def compute_output_shape(self, input_shape):
        images, displacement = self._check(input_shape)
        batch = images[0] if displacement[0] == 1 else displacement[0]
        data_format = self.options["data_format"]
        return resized((batch, *images[1:]), size_of(displacement, data_format), data_format)

    def get_config(self):
        return {**super().get_config(), "units": self.units, **self.options}


@keras.saving.register_keras_serializable("stn_keras")
class VelocityIntegration(OneArgument):
    """Integrates a stationary velocity field over unit time, to a diffeomorphic displacement.

    By scaling and squaring ([Arsigny et al., 2006](https://doi.org/10.1007/11866565_113)), the
    field divided by `2**steps` is composed with itself `steps` times. The displacement of a smooth
    field does not fold. The negated field gives the inverse displacement. Outside the field, the
    value at its edge is repeated.

    Example:

    >>> velocity = np.full((1, 4, 4, 2), [2.0, -1.0], "float32")  # the same everywhere
    >>> np.array(VelocityIntegration()(velocity))[0, 0, 0]
    array([ 2., -1.], dtype=float32)

    Args:
        steps: How many times the field is composed with itself, 0 or more; 0 returns the field.
            Each further step halves the error. Choose `2**steps` several times as large as the
            greatest change of the velocity from pixel to pixel.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Call arguments:
        inputs: Velocity in pixels, `(batch, height, width, 2)`, last axis `(x, y)`, or `(batch,
            depth, height, width, 3)`, last axis `(x, y, z)`; with `data_format="channels_first"`
            in axis 1.

    Returns:
        The displacement in pixels, of the velocity's shape, for `DenseWarp`; float64 if the
        velocity is, else float32, under every dtype policy.

    Raises:
        ValueError: if `steps` is negative, or the velocity has a wrong rank or shape.
    """

    def __init__(self, steps: int = 7, *, data_format: str | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.steps = as_count(steps, "steps", least=0)
        self.data_format = as_data_format(data_format)

    _wanted = "a velocity"

    def build(self, input_shape):
        check_field(tuple(input_shape), "velocity", self.data_format)

    def call(self, inputs):
        displacement = as_field(inputs, "velocity", self.data_format) * math.ldexp(1, -self.steps)
        for _ in range(self.steps):
            displacement = composed(displacement, displacement)
        return from_channels_last(displacement, self.data_format)

    def compute_output_spec(self, inputs):
        check_field(tuple(inputs.shape), "velocity", self.data_format)
        return keras.KerasTensor(inputs.shape, wide_dtype(inputs))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps, "data_format": self.data_format}
