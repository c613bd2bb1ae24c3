"""Warps in functional models: the methods of `Warp` as operations on symbolic tensors."""

import functools
from collections.abc import Callable

import keras

from stn_keras.checks.arguments import as_flag, wide_dtype
from stn_keras.checks.images import as_data_format, resized
from stn_keras.sampler.boxes import check_boxes
from stn_keras.sampler.glimpses import check_leading
from stn_keras.sampler.pictures import picture_options
from stn_keras.sampler.points import check_composition, check_points

register = keras.saving.register_keras_serializable("stn_keras")


class Symbolic(keras.KerasTensor):
    """The base class of `SymbolicWarp` and `SymbolicGlimpses`, with the methods of both.

    The methods return symbolic tensors. Keras passes any result of an operation to the next one.
    So when the model runs, the operation `Made` returns a `Warp` or `Glimpses`, and each operation
    `Method` calls a method of it.

    Attributes:
        leading: `(batch,)`; of glimpses `(batch, glimpses)`.
        input_size: Size of the input, with None for unknown lengths.
        output_size: Size of the output, with None for unknown lengths.
        has_matrix: Whether `matrix` is not None.
    """

    def __init__(self, leading, input_size, output_size, has_matrix, dtype):
        super().__init__((*leading, *output_size, len(output_size)), dtype)
        self.leading = tuple(leading)
        self.input_size, self.output_size = tuple(input_size), tuple(output_size)
        self.has_matrix = has_matrix

    @property
    def batch(self):
        return self.shape[0]

    def __call__(self, pictures, *, data_format=None, **options):
        return Method("__call__")(
            self, pictures, data_format=as_data_format(data_format), **options
        )

    def to_input(self, points, normalized=False):
        return Method("to_input")(self, points, normalized=normalized)

    def to_output(self, points, normalized=False):
        return Method("to_output")(self, points, normalized=normalized)

    def boxes(self, boxes, format="xyxy", *, clip=False):
        return Method("boxes")(self, boxes, format=format, clip=clip)

    @property
    def matrix(self):
        return Attribute("matrix")(self) if self.has_matrix else None

    def displacement(self):
        return Method("displacement")(self)

    def jacobian(self):
        return Method("jacobian")(self)

    def grid(self):
        return Method("grid")(self)


class SymbolicWarp(Symbolic):
    """Stands for a `Warp` in a functional model."""

    def inverse(self):
        return Method("inverse")(self)

    def __matmul__(self, second):
        if not isinstance(second, SymbolicWarp):
            raise not_symbolic(second)
        return Method("__matmul__")(self, second)

    def __rmatmul__(self, first):
        raise not_symbolic(first)


class SymbolicGlimpses(Symbolic):
    """Stands for `Glimpses` in a functional model."""

    def __matmul__(self, other):
        return NotImplemented  # a `KerasTensor` multiplies matrices

    __rmatmul__ = __matmul__

    @property
    def warp(self):
        return Attribute("warp")(self)


def symbolic(leading, *known):
    """A `SymbolicWarp`, or `SymbolicGlimpses` if `leading` is `(batch, glimpses)`."""
    return (SymbolicWarp if len(leading) == 1 else SymbolicGlimpses)(leading, *known)


def not_symbolic(warp):
    return ValueError(
        "In a functional model, `first @ second` takes two warps of symbolic tensors. Compose the "
        f"others in a layer of your own. Received: {type(warp).__name__}"
    )


@register
class Made(keras.Operation):
    """`maker.warp(...)` in a functional model, where `maker` is a transform or a layer."""

    def __init__(self, maker, name=None):
        super().__init__(name=name)
        self.maker = maker

    def call(self, *args, **kwargs):
        return self.maker.warp(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return symbolic(*self.maker.warp_spec(*args, **kwargs))

    def get_config(self):
        return {"maker": keras.saving.serialize_keras_object(self.maker), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["maker"]), config["name"])


@register
class Method(keras.Operation):
    """A method of a `Warp` or of `Glimpses` in a functional model."""

    def __init__(self, method, name=None):
        super().__init__(name=name)
        self.method = method

    def call(self, warp, *args, **kwargs):
        return getattr(warp, self.method)(*args, **kwargs)

    def compute_output_spec(self, warp, *args, **kwargs):
        return SPECS[self.method](warp, *args, **kwargs)


@register
class Attribute(Method):
    """An attribute of a `Warp` or of `Glimpses` in a functional model."""

    def call(self, warp):
        return getattr(warp, self.method)


def of_pictures(warp, pictures, **options):
    data_format = picture_options(tuple(pictures.shape), warp.shape[-1], **options)["data_format"]
    shape = (joint_batch(warp, pictures), *pictures.shape[1:])
    batch, *rest = resized(shape, warp.output_size, data_format)
    return keras.KerasTensor((batch, *warp.leading[1:], *rest), pictures.dtype)


def of_points(warp, points, normalized):
    as_flag(normalized, "normalized")
    return of_each(warp, points, "points", check_points)


def of_boxes(warp, boxes, format, clip):
    as_flag(clip, "clip")
    return of_each(warp, boxes, "boxes", functools.partial(check_boxes, format=format))


def of_each(warp, values, name, check):
    """Points or boxes, which `check` checks for a warp of one image each."""
    flat = values
    if len(warp.leading) == 2:
        check_leading(values, warp.leading, name)
        flat = keras.KerasTensor((None, *values.shape[2:]))
    check(flat, warp)
    shape = (joint_batch(warp, values), *warp.leading[1:], *values.shape[-2:])
    return keras.KerasTensor(shape, wide_dtype(warp, values))


def of_composition(first, second):
    check_composition(first, second)
    sizes = first.input_size, second.output_size
    has_matrix = first.has_matrix and second.has_matrix
    dtype = wide_dtype(first, second)
    return SymbolicWarp((joint_batch(first, second),), *sizes, has_matrix, dtype)


def of_inverse(warp):
    sizes = warp.output_size, warp.input_size
    return SymbolicWarp(warp.leading, *sizes, warp.has_matrix, warp.dtype)


def of_all_glimpses(glimpses):
    sizes = glimpses.input_size, glimpses.output_size
    return SymbolicWarp((None,), *sizes, glimpses.has_matrix, glimpses.dtype)


def of_matrix(warp):
    side = warp.shape[-1] + 1
    return keras.KerasTensor((*warp.leading, side, side), warp.dtype)


def per_pixel(warp):
    return keras.KerasTensor(warp.shape, warp.dtype)


def of_jacobian(warp):
    return keras.KerasTensor((*warp.shape, warp.shape[-1]), warp.dtype)


def joint_batch(warp, tensor):
    return tensor.shape[0] if warp.shape[0] == 1 else warp.shape[0]


SPECS: dict[str, Callable] = {
    "__call__": of_pictures,
    "to_input": of_points,
    "to_output": of_points,
    "boxes": of_boxes,
    "inverse": of_inverse,
    "__matmul__": of_composition,
    "matrix": of_matrix,
    "warp": of_all_glimpses,
    "displacement": per_pixel,
    "grid": per_pixel,
    "jacobian": of_jacobian,
}
