"""The one seam between this library and the Keras backend that runs it.

A backend's file has

- `compile(function)`: `function(*tensors)`, compiled where that pays;
- `with_gradient(forward, backward)`: a function of tensors whose gradients are written by hand;
- `gather(rows, indices)`, at a list of indices, and its adjoint
  `scatter(upstream, indices, weights, count)`;
- `weigh(samples, weight)`: samples times their weight, and 0 where that is 0, even for NaN;
- `keep(samples, weight)`: samples, and 0 where their weight is 0, in what `is_fused`;
- `channel_sums(tensors)`: sums over the last axis, in one pass over what they share;
- `is_fused()`: whether what runs or is traced now is compiled as one piece;
- `is_unread()`: whether samples are traced for their gradients alone, which do not need them;
- `has_native(...)`: whether the backend has an `affine_grid` and a sampler, `native`, that do the
  same or give None, and `is_never(mask)`, whether it is known that a mask marks nothing;
- `magnitudes(tensor)`: the smallest and the largest absolute value where they are known, or None;
- `shape(tensor)`, a tuple of integers and, where TensorFlow does not know them yet, of tensors;
- `floor`, which Keras's own rounds to float32 on JAX and PyTorch.

Everything else is written with `keras.ops`.
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
affine_grid = _active.affine_grid
channel_sums = _active.channel_sums
floor = _active.floor
gather = _active.gather
has_native = _active.has_native
is_fused = _active.is_fused
is_never = _active.is_never
is_unread = _active.is_unread
keep = _active.keep
magnitudes = _active.magnitudes
native = _active.native
scatter = _active.scatter
shape = _active.shape
weigh = _active.weigh
with_gradient = _active.with_gradient


def compiled(function):
    """`function(*tensors, **settings)`, compiled once for each set of settings.

    With a setting that may change unseen it runs as it is. `.__wrapped__` is the plain function.
    """

    @functools.lru_cache(maxsize=128)
    def specialized(keys):
        return _active.compile(functools.partial(function, **{k.name: k.value for k in keys}))

    @functools.wraps(function)
    def call(*tensors, **settings):
        if not all(map(is_fixed, settings.values())):
            return function(*tensors, **settings)
        keys = tuple(Setting(name, value) for name, value in sorted(settings.items()))
        return specialized(keys)(*tensors)

    return call


def is_fixed(value):
    """Whether it never changes: of objects only this library's own are known not to."""
    return is_plain(value) or type(value).__module__.startswith("stn_keras.")


def is_plain(value):
    """Whether it is one of Python's own immutable values."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def as_key(value):
    """What tells values apart: objects by identity, as an equality may ignore what counts."""
    return value if is_plain(value) else id(value)


class Setting:
    """A name and a value as a key."""

    def __init__(self, name, value):
        self.name, self.value = name, value
        self.key = name, as_key(value)

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)
