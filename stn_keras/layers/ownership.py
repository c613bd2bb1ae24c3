"""A localization network belongs to one spatial transformer.

Keras's files and clones keep a layer shared if a functional model calls it several times, but not
if several layers hold it.
"""

import gc
import weakref

import keras

_owners: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # layers, by their networks


def claim(network, layer):
    """Records that a network belongs to a layer.

    Raises:
        ValueError: if it belongs to another layer, which is still in use.
    """
    if network is None:
        return
    if owner_of(network) is not None:
        gc.collect()  # models have reference cycles
    owner = owner_of(network)
    if owner is not None:
        raise ValueError(
            "A localization network belongs to one layer, because Keras's files and clones do not "
            "keep it shared. Call it yourself and give its theta to several layers without one: "
            "theta = network(images), SpatialTransformer(...)([images, theta]). "
            f"Received: localization={network}, which layer {owner.name!r} has"
        )
    _owners[network] = weakref.ref(layer)


def owner_of(network):
    reference = _owners.get(network)
    return reference and reference()


def serialize(network):
    """The configuration of a network, marked so that it is shared if it occurs again in a file."""
    keras.saving.serialize_keras_object(network)  # Keras marks a layer at its second occurrence
    return keras.saving.serialize_keras_object(network)


def deserialize(config):
    """The network of a configuration; networks that earlier versions saved shared stay shared."""
    network = keras.saving.deserialize_keras_object(config)
    if network is not None:
        _owners.pop(network, None)
    return network
