"""What a model's spatial transformers do to images, as numbers and figures."""

import collections
import contextlib
import dataclasses
import warnings

import numpy as np
from keras import ops

from stn_keras import colours, plots
from stn_keras.checks.images import to_channels_last
from stn_keras.geometry.decomposition import decompose
from stn_keras.layers import SpatialTransformer
from stn_keras.metrics import nonfinite_share, share_outside
from stn_keras.networks import images_of
from stn_keras.spread import corner_shifts, spread_of

__all__ = ["decompose", "draw", "observe", "transformers"]

SHOWN = 8  # images in a figure


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
    for part in layer._flatten_layers(include_self=False, recursive=False):
        if id(part) not in met:
            met.add(id(part))
            if isinstance(part, SpatialTransformer):
                yield (*path, part.name), part
            else:
                yield from _below(part, (*path, part.name), met)


def _unique(name, taken):
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}.{number}", number + 1
    return candidate


@dataclasses.dataclass
class Sight:
    """What a transformer did in one call, as NumPy arrays whose first axis is the batch.

    `images`, `warped`, `theta` and `grid` hold the first eight images only. `matrix`,
    `(batch, 2, 3)`, of volumes `(batch, 3, 4)`, is `None` for transforms that are not matrices.
    `shifts`, `(batch, corners, axes)`, are how far the warp moves the corners of the output, in
    pixels of the input.
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
        images: What the model is called on.

    Returns:
        Dict from the names of `transformers` to a `Sight` for each call, in the order of the calls;
        the second call of a transformer is named `"transformer.2"`.
    """
    _, calls = record(model, images)
    return sights((name, layer, measure(layer, *seen)) for name, layer, *seen in calls)


def record(model, images):
    """The output of a model, and its transformers' calls `(name, layer, images, theta, output)`.

    In a `tf.function` the tensors are symbolic.
    """
    if not model.built:
        model(images, training=False)  # PyTorch runs the layers once more to build them
    layers = transformers(model)
    with _recording(layers, _graph(images)) as calls:
        output = model(images, training=False)
    if layers and not calls:
        warnings.warn(
            f"The model calls its spatial transformers {list(layers)} in a compiled loop or not at "
            "all: there is nothing to see of them",
            stacklevel=3,
        )
    return output, calls


def sights(measured):
    """Dict of each `Sight` by its unique name, from `(name, layer, measure(...))` of all calls."""
    seen: dict[str, Sight] = {}
    for name, layer, tensors in measured:
        arrays = {key: ops.convert_to_numpy(x) for key, x in tensors.items()}
        seen[_unique(name, seen)] = Sight(layer, **{"matrix": None, **arrays})
    return seen


@contextlib.contextmanager
def _recording(layers, graph):
    """Yields a list to which each call of a layer adds `(name, layer, images, theta, output)`.

    Tensors of a compiled loop inside the model are left out, as they have no value outside it.
    """
    calls: list[tuple] = []
    thetas: list = []

    def listener(name, layer, call):
        def listen(inputs, *args, **kwargs):
            thetas.clear()
            output = call(inputs, *args, **kwargs)
            with contextlib.suppress(TypeError, RuntimeError):
                if graph is None:
                    ops.convert_to_numpy(output)  # raises an error for a tracer
                elif _graph(output) is not graph:
                    return output
                theta = inputs[1] if layer.localization is None else thetas[-1]
                calls.append((name, layer, images_of(inputs), theta, output))
            return output

        return listen

    def keeping(regress):
        def keep(inputs):
            thetas.append(regress(inputs))
            return thetas[-1]

        return keep

    for name, layer in layers.items():
        layer.call, layer.theta = listener(name, layer, layer.call), keeping(layer.theta)
    try:
        yield calls
    finally:
        for layer in layers.values():
            del layer.call, layer.theta


def _graph(tensor):
    """The `tf.Graph` that a symbolic tensor of TensorFlow belongs to; `None` for others."""
    return getattr(tensor, "graph", None)


def measure(layer, images, theta, warped):
    """The fields of a `Sight`, as tensors."""
    images, warped = (to_channels_last(x, layer.data_format) for x in (images, warped))
    size = tuple(images.shape[1:-1])
    grid = layer.grid(theta, tuple(warped.shape[1:-1]))
    found = {
        "images": ops.cast(images[:SHOWN], "float32"),
        "warped": ops.cast(warped[:SHOWN], "float32"),
        "theta": theta[:SHOWN],
        "grid": grid[:SHOWN],
        "outside": share_outside(grid),
        "nonfinite": nonfinite_share(theta),
        "shifts": corner_shifts(grid, size, layer.align_corners),
    }
    if hasattr(layer.warped_by, "matrix"):
        found["matrix"] = layer.warped_by.matrix(theta, size)[:, :-1]
    return found


def draw(model, images):
    """Draws what each spatial transformer of a model does to images.

    Images, normalised or not, are drawn in their original colours, also behind another transformer.
    Feature maps are drawn as the mean of their channels, from black for the least value to white
    for the greatest. Of volumes the three middle slices are drawn.

    Example:
        >>> plots.save(draw(model, images)["transformer"], "warps.png")

    Args:
        model: Any Keras model.
        images: What the model is called on: (batch, height, width, channels), uint8 or other
            numbers in 0 … 255, or floats in 0 … 1.

    Returns:
        dict from the names of `transformers` to `Figure`s of at most eight images; empty for a
        model without a `SpatialTransformer`.
    """
    return figures(observe(model, images), images)


def figures(seen, images):
    """Figures by name, drawn from what `observe(model, images)` returned."""
    return {
        name: plots.warps(shown, warped, sight.grid, align_corners=sight.layer.align_corners)
        for name, (sight, shown, warped) in pictures(seen, images).items()
    }


def pictures(seen, images):
    """What `observe(model, images)` returned, each `Sight` with its images and its warped images in
    the colours of `images`, uint8 `(batch, height, width, 1 or 3)`."""
    known = colours.pictures(images, SHOWN)
    return {
        name: (sight, *(colours.in_colour(sight, known) or colours.scaled(sight)))
        for name, sight in seen.items()
    }
