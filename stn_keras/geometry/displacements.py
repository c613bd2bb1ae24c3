"""Displacement fields: composition, resizing, and where they fold.

A displacement field maps each pixel `p` of an output to `p + displacement(p)` in an input. It is
`(batch, height, width, 2)`, last axis `(x, y)`, in pixels; for volumes `(batch, depth, height,
width, 3)`, last axis `(x, y, z)`. With `data_format="channels_first"` axis 1 holds `(x, y)`.
`DenseWarp` warps images by such a field.
"""

import keras
from keras import ops

from stn_keras.checks.arguments import Size, as_flag, as_size, is_symbolic, wide_dtype
from stn_keras.checks.fields import as_field, check_field
from stn_keras.checks.images import as_data_format, from_channels_last, resized, size_of
from stn_keras.sampler.axes import pixel_step
from stn_keras.sampler.coordinates import by_axis
from stn_keras.sampler.jacobian import jacobian_rows
from stn_keras.sampler.linear import determinant, vector
from stn_keras.sampler.pictures import EDGES
from stn_keras.sampler.warps import composed
from stn_keras.sampling import sampled

__all__ = ["compose_displacements", "jacobian_determinant", "resize_displacement"]

register = keras.saving.register_keras_serializable("stn_keras")


def compose_displacements(first, second, *, data_format: str | None = None):
    """The displacement of a single warp that replaces two warps, the first one done first.

    It is `second(p) + first(p + second(p))`. Coordinates go from the output of the second warp
    through `second`, then through `first`, as in `stn_keras.geometry.compose`.

    Example:

    >>> first = np.full((1, 3, 3, 2), [1.0, 0.0], "float32")
    >>> second = np.full((1, 3, 3, 2), [0.5, 2.0], "float32")
    >>> np.array(compose_displacements(first, second))[0, 0, 0]
    array([1.5, 2. ], dtype=float32)

    Args:
        first: `(batch, height, width, 2)` or `(batch, depth, height, width, 3)`, in pixels: the
            displacement of the warp done first. Outside it, the vector at its edge is repeated.
        second: The displacement by which the output of the first warp is warped, of the same size.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Returns:
        A displacement of that shape; float64 if one of the two is, else float32. Differentiable.

    Raises:
        ValueError: if a field has a wrong rank, shape or dtype, or their shapes differ.
    """
    data_format = as_data_format(data_format)
    if is_symbolic(first, second):
        return ComposeDisplacements()(first, second, data_format=data_format)
    first = as_field(first, "first", data_format)
    second = as_field(second, "second", data_format)
    check_same_size(first, second)
    return from_channels_last(composed(first, second), data_format)


def resize_displacement(
    displacement, size: Size, *, align_corners: bool = False, data_format: str | None = None
):
    """A displacement field for images of another size: resampled, and its vectors scaled.

    With it, a network may predict a field at half the resolution of its images. The interpolation
    is bilinear without antialiasing, which suits smooth fields.

    Example:

    >>> half = np.full((1, 4, 4, 2), [1.0, 0.5], "float32")
    >>> np.array(resize_displacement(half, (8, 8)))[0, 0, 0]
    array([2., 1.], dtype=float32)

    Args:
        displacement: `(batch, height, width, 2)` or `(batch, depth, height, width, 3)`, in pixels.
        size: `(height, width)` or `(depth, height, width)` of the new field.
        align_corners: Whether the centres of the corner pixels stay where they are, rather than
            the outer edges.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Returns:
        A displacement of that size, in pixels of that size; float64 if `displacement` is, else
        float32. Differentiable.

    Raises:
        ValueError: if the field has a wrong rank, shape or dtype, or `size` has another number of
            lengths.
    """
    data_format = as_data_format(data_format)
    options = {"align_corners": as_flag(align_corners, "align_corners"), "data_format": data_format}
    if is_symbolic(displacement):
        return ResizeDisplacement()(displacement, size, **options)
    field = as_field(displacement, "displacement", data_format)
    size = as_size(size, "size", axes=(field.shape[-1],))
    here = ops.zeros((1, *size, len(size)), field.dtype)
    resampled = sampled(field, here, "displacement", align_corners=align_corners, **EDGES)
    lengths = zip(size[::-1], ops.shape(field)[-2:0:-1])
    factors = [pixel_step(new, old, align_corners, field.dtype) for new, old in lengths]
    return from_channels_last(resampled * vector(factors, field.dtype), data_format)


def jacobian_determinant(displacement, *, data_format: str | None = None):
    """By how much a displacement enlarges what the output samples around each pixel.

    The determinant of the Jacobian of `p + displacement(p)`, from central differences, at the edges
    one-sided ones. It is 1 where nothing is stretched, and 0 or less where the field folds.

    Example:

    >>> x = np.arange(4.0)[None, None, :, None] * [-0.5, 0.0]  # twice as large in x
    >>> np.array(jacobian_determinant(x + np.zeros((1, 3, 1, 1))))[0, 0]
    array([0.5, 0.5, 0.5, 0.5])

    Args:
        displacement: `(batch, height, width, 2)` or `(batch, depth, height, width, 3)`, in pixels.
        data_format: `"channels_last"`, `"channels_first"`, or `None` for Keras's setting.

    Returns:
        `(batch, height, width)` or `(batch, depth, height, width)`; float64 if `displacement` is,
        else float32. Differentiable.

    Raises:
        ValueError: if the field has a wrong rank, shape or dtype.
    """
    data_format = as_data_format(data_format)
    if is_symbolic(displacement):
        return JacobianDeterminant()(displacement, data_format=data_format)
    components = by_axis(as_field(displacement, "displacement", data_format))
    return determinant(jacobian_rows(components))


def check_same_size(first, second):
    """Raises a ValueError if the sizes of two fields are known and different."""
    shapes = tuple(first.shape), tuple(second.shape)
    different = any(
        None not in pair and pair[0] != pair[1] for pair in zip(*(s[1:] for s in shapes))
    )
    if len(shapes[0]) != len(shapes[1]) or different:
        raise ValueError(
            "`first` and `second` must have the same size. "
            f"Received: first.shape={shapes[0]}, second.shape={shapes[1]}"
        )


@register
class ComposeDisplacements(keras.Operation):
    """`compose_displacements` in a functional model."""

    def call(self, first, second, data_format):
        return compose_displacements(first, second, data_format=data_format)

    def compute_output_spec(self, first, second, data_format):
        for field, name in ((first, "first"), (second, "second")):
            check_field(tuple(field.shape), name, data_format)
        check_same_size(first, second)
        batch = first.shape[0] if second.shape[0] == 1 else second.shape[0]
        return keras.KerasTensor((batch, *second.shape[1:]), wide_dtype(first, second))


@register
class ResizeDisplacement(keras.Operation):
    """`resize_displacement` in a functional model."""

    def call(self, displacement, size, align_corners, data_format):
        options = {"align_corners": align_corners, "data_format": data_format}
        return resize_displacement(displacement, size, **options)

    def compute_output_spec(self, displacement, size, align_corners, data_format):
        shape = tuple(displacement.shape)
        check_field(shape, "displacement", data_format)
        size = as_size(size, "size", axes=(len(shape) - 2,))
        return keras.KerasTensor(resized(shape, size, data_format), wide_dtype(displacement))


@register
class JacobianDeterminant(keras.Operation):
    """`jacobian_determinant` in a functional model."""

    def call(self, displacement, data_format):
        return jacobian_determinant(displacement, data_format=data_format)

    def compute_output_spec(self, displacement, data_format):
        shape = tuple(displacement.shape)
        check_field(shape, "displacement", data_format)
        shape = (shape[0], *size_of(shape, data_format))
        return keras.KerasTensor(shape, wide_dtype(displacement))
