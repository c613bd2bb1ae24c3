"""What a model's spatial transformers do to images, as numbers and figures."""

import collections
import contextlib
import dataclasses
import warnings

import keras
import numpy as np
from keras import ops

from stn_keras import plots
from stn_keras.checks.images import to_channels_last
from stn_keras.geometry.decomposition import decompose
from stn_keras.layers import SpatialTransformer
from stn_keras.layers.recording import recording
from stn_keras.metrics.corners import corner_shifts, spread_of
from stn_keras.metrics.theta import nonfinite_share, share_outside
from stn_keras.viz.pictures import SHOWN, pictures

__all__ = ["decompose", "draw", "observe", "transformers"]


def transformers(model):
    """Finds the spatial transformers of a model, including those of nested models and layers.

    Example:
        >>> list(transformers(model))
        ['transformer']

    Args:
        model: Any Keras model.

    Returns:
        Dict from names to layers. If several layers have the same name, each is preceded by the
        names of the models that contain it, as in `"front.transformer"`.
    """
    found = list(_below(model, (), set()))
    alike = collections.Counter(layer.name for _, layer in found)
    named: dict[str, SpatialTransformer] = {}
    for path, layer in found:
        name = layer.name if alike[layer.name] == 1 else ".".join(path)
        named[_unique(name, named)] = layer
    return named


def _below(layer, path, met):
    """Yields `(path, transformer)` for each transformer in a layer, once each."""
    for part in _parts(layer):
        if id(part) not in met:
            met.add(id(part))
            if isinstance(part, SpatialTransformer):
                yield (*path, part.name), part
            else:
                yield from _below(part, (*path, part.name), met)


def _parts(layer):
    """The layers that a model has, or that a layer has as attributes."""
    if isinstance(layer, keras.Model):
        return layer.layers
    attributes = keras.tree.flatten(list(vars(layer).values()))
    return [part for part in attributes if isinstance(part, keras.Layer)]


def _unique(name, taken):
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}.{number}", number + 1
    return candidate


@dataclasses.dataclass
class Observation:
    """What a transformer did in one call, as NumPy arrays whose first axis is the batch.

    `images`, `warped`, `theta` and `grid` hold only the first eight images. `grid` is the
    normalised position in the input that each output pixel samples. `matrix`, `(batch, 2, 3)` or
    for volumes `(batch, 3, 4)`, is the affine transform that approximates the warp at the middle of
    the output; for an affine transform it is the whole warp. It is `None` for transforms that are
    not matrices. `shifts`, `(batch, corners, axes)`, is how far the warp moves the corners of the
    output, in pixels of the input.
    """

    layer: SpatialTransformer
    images: np.ndarray
    warped: np.ndarray
    theta: np.ndarray
    grid: np.ndarray
    outside: np.ndarray
    nonfinite: np.ndarray
    matrix: np.ndarray | None
    shifts: np.ndarray

    @property
    def spread(self) -> tuple[float, float]:
        """`metrics.warp_spread` of all images: `(spread, shift)`, floats in pixels of the input."""
        spread, shift = spread_of(ops.convert_to_tensor(self.shifts))
        return float(spread), float(shift)


def observe(model, images):
    """Calls a model and reports what each of its spatial transformers does.

    The model runs once, in inference mode and uncompiled, on Keras's active backend. Calls inside a
    loop or a vectorized map that the backend compiles are not recorded.

    Example:
        >>> observe(model, images)["transformer"].outside.shape
        (8,)

    Args:
        model: Any Keras model, functional, sequential or subclassed.
        images: What the model is called on, or a dataset of it, whose first batch is taken.

    Returns:
        Dict from the names of `transformers` to an `Observation` for each call, in the order of the
        calls; the second call of a transformer is named `"transformer.2"`. Each of several glimpses
        counts as a call.
    """
    _, calls = record(model, first_batch(images))
    return observations((name, layer, measure(layer, *seen)) for name, layer, *seen in calls)


def first_batch(images):
    """The images themselves, or the first batch of a dataset, without labels.

    Raises:
        ValueError: if the dataset is empty or not in batches.
    """
    if hasattr(images, "shape") or isinstance(images, (list, tuple, dict)):
        return images
    batch = next(iter(images), None)
    found = [] if batch is None else keras.utils.unpack_x_y_sample_weight(batch)[0]
    shapes = [tuple(x.shape) for x in keras.tree.flatten(found)]
    if max(map(len, shapes), default=3) == 3:
        raise ValueError(
            "`images` must be arrays, or a dataset in batches, as by `dataset.batch(8)`. "
            f"Received: a {type(images).__name__} whose first element has the shapes {shapes}"
        )
    return found


def record(model, images):
    """The output of a model, and its transformers' calls `(name, layer, images, theta, output)`.

    In a `tf.function` the tensors are symbolic.
    """
    if not model.built:
        model(images, training=False)  # PyTorch runs the layers once more to build them
    with recording() as calls:
        output = model(images, training=False)
    names = {id(layer): name for name, layer in transformers(model).items()}
    graph = getattr(images, "graph", None)  # of TensorFlow, if its tensors are symbolic
    seen = [
        (names.get(id(layer), layer.name), layer, *tensors)
        for layer, *tensors in calls
        if _has_value(tensors[-1], graph)
    ]
    if names and not seen:
        warnings.warn(
            f"The model calls its spatial transformers {list(names.values())} in a compiled loop "
            "or not at all: there is nothing to see of them",
            stacklevel=3,
        )
    return output, seen


def _has_value(tensor, graph):
    """Whether a tensor has a value here. Tensors of a compiled loop have none outside it."""
    if graph is not None:
        return getattr(tensor, "graph", None) is graph
    with contextlib.suppress(TypeError, RuntimeError):
        ops.convert_to_numpy(tensor)  # raises an error for a tracer
        return True
    return False


def observations(measured):
    """Each `Observation` by its unique name, from `(name, layer, measure(...))` of all calls."""
    seen: dict[str, Observation] = {}
    for name, layer, tensors in measured:
        arrays = {key: ops.convert_to_numpy(x) for key, x in tensors.items()}
        seen[_unique(name, seen)] = Observation(layer, **{"matrix": None, **arrays})
    return seen


def measure(layer, images, theta, warped):
    """The fields of an `Observation`, as tensors."""
    images, warped = (to_channels_last(x, layer.data_format) for x in (images, warped))
    size, transform = tuple(images.shape[1:-1]), layer.warped_by
    grid = transform.warp(theta, size, tuple(warped.shape[1:-1]), layer.align_corners).grid()
    found = {
        "images": ops.cast(images[:SHOWN], "float32"),
        "warped": ops.cast(warped[:SHOWN], "float32"),
        "theta": theta[:SHOWN],
        "grid": grid[:SHOWN],
        "outside": share_outside(grid),
        "nonfinite": nonfinite_share(theta),
        "shifts": corner_shifts(grid, size, layer.align_corners),
    }
    if hasattr(transform, "matrix"):
        found["matrix"] = _at_the_middle(transform.matrix_in(theta, size, layer.align_corners))
    return found


def _at_the_middle(matrices):
    """The affine matrices that approximate projective ones about the middle of the output."""
    matrices = matrices / matrices[:, -1:, -1:]
    top, last = matrices[:, :-1], matrices[:, -1:]
    return ops.concatenate([top[:, :, :-1] - top[:, :, -1:] * last[:, :, :-1], top[:, :, -1:]], -1)


def draw(model, images):
    """Draws what each spatial transformer of a model does to images.

    An input with the size and channels of the images is drawn in their original colours, even if
    the model has normalised it, and even behind another transformer; outside it is black. Other
    inputs are drawn as the mean of their channels, from black for the least value to white for the
    greatest. Volumes are drawn as their three middle slices.

    Example:
        >>> plots.save(draw(model, images)["transformer"], "warps.png")

    Args:
        model: Any Keras model.
        images: What the model is called on: (batch, height, width, channels), uint8 or other
            numbers in 0 … 255, or floats in 0 … 1; or a dataset of it, whose first batch is taken.

    Returns:
        dict from the names of `transformers` to `Figure`s of at most eight images; empty for a
        model without a `SpatialTransformer`.
    """
    images = first_batch(images)
    return figures(observe(model, images), images)


def figures(seen, images):
    """Figures by name, drawn from what `observe(model, images)` returned."""
    return {
        name: plots.warps(shown, warped, one.grid, align_corners=one.layer.align_corners)
        for name, (one, shown, warped) in pictures(seen, images).items()
    }
