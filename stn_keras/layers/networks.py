"""Inspects and builds the localization network of a spatial transformer, and checks its inputs and
its output."""

import math
import re

import keras
import numpy as np
from keras import layers, ops

from stn_keras.localization import Identity

# Layers that may move the channels to another axis.
MOVE_AXES = (layers.Flatten, layers.Lambda, layers.Permute, layers.Reshape, layers.Wrapper)


def inputs_of(network):
    """The number of inputs of a network; None if it is not known before a call."""
    if getattr(network, "inputs", None):
        return len(network.inputs)
    if isinstance(network, keras.Sequential) and network.layers:
        return inputs_of(network.layers[0])
    return None if network.input_spec is None else len(keras.tree.flatten(network.input_spec))


def is_list(shape):
    """Whether `shape` is a list of shapes rather than one shape."""
    return isinstance(shape, (tuple, list)) and all(isinstance(n, (tuple, list)) for n in shape)


def wanted_by(network):
    """What a layer with this network, or without one, must be called on."""
    count = None if network is None else inputs_of(network)
    several = f"a list of {count} inputs" if count and count > 1 else "images alone"
    wanted = "[images, theta]" if network is None else several
    return f"{wanted}, because localization={network}"


def images_shape(input_shape, network):
    """The images' shape out of the shapes of a layer's inputs.

    Raises:
        ValueError: if the layer must be called on something else.
    """
    given = len(input_shape) if is_list(input_shape) else None  # images alone
    count = 2 if network is None else inputs_of(network)
    if count is not None and given != (None if count == 1 else count):
        raise ValueError(
            f"`SpatialTransformer` must be called on {wanted_by(network)}. "
            f"Received: input_shape={input_shape}"
        )
    return tuple(input_shape[0] if given else input_shape)


def images_of(inputs):
    """The images that are warped, out of the inputs of a layer with a localization network."""
    return inputs[0] if isinstance(inputs, (list, tuple)) else inputs


def check_theta(shape, transform):
    """Raises a ValueError if a shape does not hold the parameters of a transform."""
    fits = None not in shape[1:] and math.prod(shape[1:]) == transform.num_parameters
    if not fits and not transform.glimpses(shape):
        number = transform.num_parameters
        raise ValueError(
            f"`theta` must hold {number} numbers per image, or several glimpses of each, (batch, "
            f"glimpses, {number}), for transform={transform}. Received: theta.shape={tuple(shape)}"
        )


def theta_shape(input_shape, network):
    """The shape of `theta`, out of the shapes of a layer's inputs; builds the network."""
    if network is None:
        return tuple(input_shape[1])
    several = is_list(input_shape)
    return built_for(list(map(tuple, input_shape)) if several else tuple(input_shape), network)


def check_start(network, transform):
    """Raises a ValueError if a network's head starts at the identity of another transform."""
    *_, last = leaves(network)
    bias = getattr(last, "bias_initializer", None)
    if isinstance(bias, Identity) and not np.array_equal(
        bias.transform.identity, transform.identity
    ):
        raise ValueError(
            f"`localization` must start at the identity of transform={transform}: give its head "
            f"or `localization.cnn` the same transform. Received: a head of {bias.transform}"
        )


def scale_gradient(tensor, scale):
    """The same values bit for bit, their gradient multiplied by `scale`."""
    constant = ops.stop_gradient(tensor)
    return constant + scale * (tensor - constant) if scale else constant


def built_for(shape, network):
    """Builds a network for inputs of a shape, or a list of shapes, and returns theta's shape."""
    try:
        build(network, shape)
        return network.compute_output_shape(shape)
    except Exception as error:  # layers raise many types for an unexpected shape
        raise ValueError(
            f"`localization` does not take such inputs: {cause(error)} "
            f"Received: input_shape={shape}"
        ) from error


def cause(error):
    """The message of an error, without the text that Keras puts around it."""
    framed = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    return framed[1] if framed else str(error)


def build(network, shape):
    if isinstance(network, keras.Sequential) and is_list(shape):  # Keras leaves it unbuilt
        for layer in network.layers:
            build(layer, shape)
            shape = layer.compute_output_shape(shape)
    elif not network.built:
        network.build(shape)


def check_format(network, data_format):
    """Raises a ValueError if a network is known to read images in another format."""
    found = format_of(network)
    if found not in (None, data_format):
        raise ValueError(
            "`localization` must read images in the `data_format` of the layer: give its layers "
            f"data_format={data_format!r}, as `localization.cnn` takes it. "
            f"Received: data_format={data_format!r} and a network of {found!r}"
        )


def format_of(network):
    """The `data_format` in which a network reads images; None if its layers do not show it."""
    for layer in leaves(network):
        moves = isinstance(layer, MOVE_AXES) or not isinstance(layer, keras.Layer)
        if moves or not type(layer).__module__.startswith(("keras.", "stn_keras.")):
            return None
        if getattr(layer, "data_format", None):
            return layer.data_format
    return None


def leaves(network):
    """The layers and operations of a functional or sequential model in order, or the layer."""
    sequential = isinstance(network, keras.Sequential)
    parts = network.layers if sequential else getattr(network, "operations", None)
    if parts is None:
        yield network
    else:
        for part in parts:
            yield from leaves(part)
