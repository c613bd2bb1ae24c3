"""The sampler: a warp says where each output pixel looks, three sums are the arithmetic."""

import contextlib
import threading

from stn_keras import backend
from stn_keras.sampler.interpolation import interpolate

_thread = threading.local()  # PyTorch's compiler does not know context variables


def sample(images, warp, fill, **options):
    """Images sampled where a warp looks: the only door to the pixels.

    Takes the arguments of `stn_keras.sampler.interpolation.interpolate`, and returns what it does.
    """
    door = getattr(_thread, "door", backend.sample)
    return door(interpolate, images, warp, fill, **options)


@contextlib.contextmanager
def sampling_by(function):
    """Inside, in this thread alone, `function` takes the place of `backend.sample`."""
    outer = getattr(_thread, "door", backend.sample)
    _thread.door = function
    try:
        yield
    finally:
        _thread.door = outer
