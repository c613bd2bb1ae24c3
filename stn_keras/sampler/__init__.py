"""The sampler: a warp says where each output pixel looks, three sums are the arithmetic."""

import contextlib
import contextvars

from stn_keras import backend
from stn_keras.sampler.interpolation import interpolate

_sample = contextvars.ContextVar("sample", default=backend.sample)


def sample(images, warp, fill, **options):
    """Images sampled where a warp looks: the only door to the pixels.

    Takes the arguments of `stn_keras.sampler.interpolation.interpolate`, and returns what it does.
    """
    return _sample.get()(interpolate, images, warp, fill, **options)


@contextlib.contextmanager
def sampling_by(function):
    """Inside, in this thread alone, `function` takes the place of `backend.sample`."""
    token = _sample.set(function)
    try:
        yield
    finally:
        _sample.reset(token)
