"""Checks of sizes, numbers and tensors as arguments, and their conversion to one form."""

import math
import numbers
import operator
import re

import keras
import numpy as np
from keras import ops

Size = tuple[int, int] | tuple[int, int, int]


def as_affine(theta, axes):
    """`theta` as a `(batch, axes, axes + 1)` tensor in the dtype of coordinates."""
    theta = as_coordinates(theta)
    check_affine(theta, axes)
    return ops.reshape(theta, (-1, axes, axes + 1))


def check_affine(theta, axes):
    """Raises a ValueError if `theta` does not hold affine transforms in that many axes."""
    matrix, flat = (axes, axes + 1), (axes * (axes + 1),)
    if tuple(theta.shape[1:]) not in (matrix, flat):
        raise ValueError(
            f"`theta` must have shape (batch, {axes}, {axes + 1}) or (batch, {flat[0]}). "
            f"Received: theta.shape={tuple(theta.shape)}"
        )


def as_coordinates(values, name="theta"):
    """A tensor of float64 if `values` are, else of float32."""
    values = as_numbers(values, name)
    return as_type(values, wide_dtype(values))


def as_type(tensor, dtype):
    """A tensor, cast if it has another dtype: Keras's `cast` takes time even if it has the same."""
    return (
        tensor
        if keras.backend.standardize_dtype(tensor.dtype) == dtype
        else ops.cast(tensor, dtype)
    )


def as_numbers(values, name):
    """A tensor of real numbers."""
    wanted = f"`{name}` must be of a floating-point dtype, or integers"
    try:
        tensor = ops.convert_to_tensor(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{wanted}. Received: {name}={values!r}") from error
    check_rank(tensor, name)
    if not re.match("float|bfloat|u?int", keras.backend.standardize_dtype(tensor.dtype)):
        raise ValueError(f"{wanted}. Received: {name}.dtype={tensor.dtype}")
    return tensor


def as_array(values):
    """A NumPy array, empty if `values` are not real numbers or, in traced code, not known."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):  # of TensorFlow, a NotImplementedError
        return np.empty(0)
    return array if array.dtype.kind in "biuf" else np.empty(0)


def as_size(size, name, axes=(2,)):
    """`size` as a tuple of positive integers, one per axis; scalar tensors pass unchecked."""
    try:
        lengths = tuple(n if ops.is_tensor(n) else operator.index(n) for n in size)
    except TypeError:
        lengths = ()
    if len(lengths) not in axes or any(isinstance(n, int) and n < 1 for n in lengths):
        wanted = {
            (2,): "two positive integers (height, width)",
            (3,): "three positive integers (depth, height, width)",
            (2, 3): "two positive integers (height, width) or three (depth, height, width)",
        }[axes]
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={size}")
    return lengths


def check_rank(tensor, name):
    """Raises a ValueError if TensorFlow does not know the rank of a tensor."""
    if getattr(tensor.shape, "rank", 0) is None:
        raise ValueError(
            f"`{name}` must have a known rank: call its `set_shape`. Received: {name}={tensor}"
        )


def is_symbolic(*tensors):
    """Whether one of the tensors is symbolic, as while a functional model is built."""
    return any(isinstance(tensor, keras.KerasTensor) for tensor in tensors)


def wide_dtype(*tensors):
    """float64 if a tensor is, else float32; `result_type` of Keras narrows on JAX and PyTorch."""
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors]
    return "float64" if "float64" in dtypes else "float32"


def as_count(number, name, least=1):
    """`number` as an integer of at least `least`, 0 or 1."""
    try:
        count = -1 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        count = -1
    if count < least:
        wanted = "a positive integer" if least else "an integer, 0 or greater"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={number!r}")
    return count


def as_number(number, name):
    """`number` as a finite float."""
    if not isinstance(number, numbers.Real) or not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number. Received: {name}={number!r}")
    return float(number)


def as_flag(value, name):
    """`value` as a bool; the integers 0 and 1 are accepted."""
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def size_for(transform, size):
    """The size of a grid of output points for a transform; `None` means the default."""
    default = {2: (32, 32), 3: (16, 16, 16)}[transform.axes]
    return default if size is None else as_size(size, "size", axes=(transform.axes,))
