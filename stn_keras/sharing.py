"""Keeps localization networks shared between layers in saved files and in copies of a model.

Keras keeps a layer shared if one functional model calls it several times. If other objects hold the
layer, Keras does not: when it meets the layer a second time, it marks the configuration of the
first occurrence, but by then that configuration has been copied. `clone_model` makes a new copy of
whatever a layer holds.
"""

import inspect

import keras
from keras.src.backend.common import global_state
from keras.src.saving.serialization_lib import ObjectSharingScope

MARK = "shared_object_id"  # the key that Keras uses
scope = ObjectSharingScope  # within it a configuration is written and read as in a file


def serialize(network, layer):
    """The configuration of a layer's network, with a mark if Keras is saving or cloning a model.

    Raises:
        ValueError: if the network would not stay shared in the file.
    """
    seen = global_state.get_global_attribute("shared_objects/id_to_config_map")
    if network is not None and seen is not None:
        check_places(network, layer, seen)
        # Keras marks what it has seen before: in a second pass, everything.
        keras.saving.serialize_keras_object(network)
    config = keras.saving.serialize_keras_object(network)
    if network is not None and seen is None and clones() is not None:
        config[MARK] = id(network)
    return config


def deserialize(config):
    """The network of a configuration: a new one, or the one made from it before."""
    mark = None if config is None else config.get(MARK)
    loading = global_state.get_global_attribute("shared_objects/id_to_obj_map") is not None
    cloned = None if mark is None or loading else clones()
    if cloned is None:
        return keras.saving.deserialize_keras_object(config)
    if mark not in cloned:
        cloned[mark] = keras.saving.deserialize_keras_object(config)
    return cloned[mark]


def callers():
    """The frames of all running functions, innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def clones():
    """`clone_model`'s dict of cloned objects by `id`; None if it is not running."""
    for frame in callers():
        of_keras = frame.f_globals.get("__name__") == "keras.src.models.cloning"
        if of_keras and frame.f_code.co_name == "wrapped_clone_function":
            return frame.f_locals.get("cache")
    return None


def check_places(network, layer, seen):
    """Raises a ValueError if Keras has written the network, or a part of it, without a mark.

    Keras can still mark the layers of a model whose configuration is not complete yet.
    """
    markable = {
        id(part)
        for frame in callers()
        if frame.f_code.co_name == "get_config"
        for owner in [frame.f_locals.get("self")]
        if isinstance(owner, keras.Layer) and owner is not layer
        for part in parts(owner)
    }
    for part in unmarked(network, seen):
        if id(part) not in markable:
            raise ValueError(
                f"Keras's files do not keep {part.name!r} shared: {layer.name!r} has it in its "
                "localization network, and so has a nested model or another layer. Use it in one "
                "of them only, or save the weights alone with `model.save_weights`. "
                f"Received: localization={network}"
            )


def unmarked(part, seen):
    """The outermost layers that Keras has written without a mark."""
    if id(part) not in seen:
        for inner in parts(part):
            yield from unmarked(inner, seen)
    elif MARK not in seen[id(part)]:
        yield part


def parts(layer):
    """The layers that a layer or model holds directly."""
    return layer._flatten_layers(include_self=False, recursive=False)
