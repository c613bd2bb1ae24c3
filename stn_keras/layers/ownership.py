"""A localization network belongs to one spatial transformer, as Keras's files and clones need.

They keep a layer shared that a functional model calls several times, not one that several layers
hold.
"""

import gc
import weakref

import keras

_owners: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # layers, by their networks


def claim(network, layer):
    """Makes a network that of a layer.

    Raises:
        ValueError: if it is that of another layer, which is still in use.
    """
    if network is None:
        return
    if owner_of(network) is not None:
        gc.collect()  # models are cycles
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
    """The configuration of a network, by which a file's reader knows it if it occurs elsewhere."""
    keras.saving.serialize_keras_object(network)  # Keras marks what it meets a second time
    return keras.saving.serialize_keras_object(network)


def deserialize(config):
    """The network of a configuration; one that earlier versions saved shared stays so."""
    network = keras.saving.deserialize_keras_object(config)
    if network is not None:
        _owners.pop(network, None)
    return network
