"""The one seam between this library and the Keras backend that runs it.

A backend's file has `mix(rows, indices, weights)`, which gathers and mixes pixels; `blend`, which
does so at coordinates and has a gradient; `compile(function)`, its compiler around a function of
tensors; `floor(tensor)`, which Keras's own rounds to float32 on JAX and PyTorch; and
`convolve(images, kernel)`, a convolution behind a warp. Everything else is written with
`keras.ops`.
"""

import functools
import importlib

import keras

BACKENDS = ("tensorflow", "jax", "torch")

if keras.backend.backend() not in BACKENDS:
    raise ImportError(
        f"stn_keras runs on the Keras backends {BACKENDS}. "
        f"Received: KERAS_BACKEND={keras.backend.backend()}"
    )
_active = importlib.import_module(f"stn_keras.backend.{keras.backend.backend()}")
blend = _active.blend
mix = _active.mix
floor = _active.floor
convolve = _active.convolve


def compiled(function):
    """`function(*tensors, **settings)` compiled once for each set of settings, all hashable.

    `.__wrapped__` is the plain function.
    """

    @functools.cache
    def specialized(**settings):
        return _active.compile(functools.partial(function, **settings))

    @functools.wraps(function)
    def call(*tensors, **settings):
        return specialized(**settings)(*tensors)

    return call
