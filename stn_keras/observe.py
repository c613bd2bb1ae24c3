"""What a model's spatial transformers do to images, as numbers and figures."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stn_keras import plots
from stn_keras.layers import SpatialTransformer, images_of
from stn_keras.metrics import share_outside
from stn_keras.sampling import to_channels_last

__all__ = ["decompose", "draw"]

SHOWN = 8  # images in a figure


def decompose(theta):
    """Scales, rotation, shear and translation of affine transforms.

    With `theta = [A | t]`, `t = (translation_x, translation_y)` and::

        A = R(rotation) @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y)
        R(r) = [[cos r, -sin r], [sin r, cos r]]

    so that, for `A = [[a, b], [d, e]]`::

        scale_x = hypot(a, d)                scale_y = (a e − b d) / scale_x
        rotation = atan2(d, a)               shear = (a b + d e) / (scale_x scale_y)

    A scale below 1 zooms in: the region looked at is smaller than the image. A positive rotation
    turns that region clockwise as seen on the screen, since y points down. All is in normalised
    coordinates, in which an image that isn't square counts as one.

    Args:
        theta: (batch, 6) or (batch, 2, 3) array, from output to input coordinates.

    Returns:
        dict of float (batch,) arrays: "scale_x" (not negative), "scale_y" (negative for a
        reflection), "rotation" (degrees, above −180, up to 180), "shear", "translation_x" and
        "translation_y" (in halves of the image's width and height). What a singular `A` leaves
        open is NaN or infinite.

    Example:
        >>> decompose([[0, -0.5, 0, 0.5, 0, 0.1]])["rotation"]
        array([90.])
    """
    theta = np.asarray(theta, float).reshape(-1, 2, 3)
    (a, b, x), (d, e, y) = theta.transpose(1, 2, 0) + 0.0  # + 0.0: −0 would turn 180° into −180°
    scale_x = np.hypot(a, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale_y = (a * e - b * d) / scale_x
        shear = (a * b + d * e) / (scale_x * scale_y)
    return {
        "scale_x": scale_x,
        "scale_y": scale_y,
        "rotation": np.degrees(np.arctan2(d, a)),
        "shear": shear,
        "translation_x": x,
        "translation_y": y,
    }


def transformers(model):
    return [layer for layer in model.layers if isinstance(layer, SpatialTransformer)]


def observer(model, layers):
    """A compiled function from images to a dict, by layer name, of what each layer does."""
    features = keras.Model(model.inputs, {layer.name: layer.input for layer in layers})

    @tf.function
    def observe(images):
        received = features(images, training=False)
        return {layer.name: see(layer, received[layer.name]) for layer in layers}

    return observe


def see(layer, inputs):
    """What `layer` does to its inputs, as a dict of float tensors, the batch first in each."""
    images, theta = inputs if layer.localization is None else (inputs, layer.theta(inputs))
    both = images_of(images), layer(inputs, training=False)
    images, warped = (to_channels_last(x, layer.data_format) for x in both)
    grid = layer.grid(theta, tuple(warped.shape[1:3]))
    seen = {
        "images": ops.cast(images[:SHOWN], "float32"),
        "warped": ops.cast(warped[:SHOWN], "float32"),
        "grid": grid[:SHOWN],
        "outside": share_outside(grid),
    }
    if hasattr(layer.warped_by, "matrix"):
        seen["theta"] = layer.warped_by.matrix(theta, images.shape[1:3])[:, :2]
    return seen


def draw(model, images):
    """Figures of what a model's spatial transformers do to images, a dict by layer name.

    Example:
        >>> plots.save(draw(model, images)["transformer"], "warps.png")

    Args:
        model: a functional or sequential model.
        images: (batch, height, width, channels) array that the model can be called on.

    Returns:
        dict from the layers' names to `Figure`s of at most eight images; empty for a model
        without a `SpatialTransformer`.
    """
    layers = transformers(model)
    return figures(layers, observer(model, layers)(images)) if layers else {}


def figures(layers, observed):
    """A dict, by layer name, of drawings of what an `observer` has seen."""
    observed = as_arrays(observed)
    return {layer.name: draw_warps(layer, observed[layer.name]) for layer in layers}


def as_arrays(observed):
    return keras.tree.map_structure(lambda tensor: tensor.numpy(), observed)


def draw_warps(layer, seen):
    low, high = seen["images"].min(), seen["images"].max()
    images, warped = (grey_or_rgb(seen[name], low, high) for name in ("images", "warped"))
    return plots.warps(images, warped, seen["grid"], align_corners=layer.align_corners)


def grey_or_rgb(images, low, high):
    """Images, or feature maps averaged over channels, with `low … high` brought to 0 … 1."""
    if images.shape[-1] not in (1, 3):
        images = images.mean(axis=-1, keepdims=True)
    return np.clip((images - low) / max(high - low, 1e-12), 0, 1)
