"""All code that differs between Keras backends.

The file of a backend has these functions for the sampler:

- `sample(generic, images, warp, fill, **options)` samples all images, by `generic`, the sampler of
  this library, or by a sampler of the backend;
- `gather_sum`, `scatter_sum` and `gather_dots`, see `stn_keras.sampler.sums`; with `finite=True` no
  row is infinite or NaN;
- `with_gradient(forward, backward, *tensors, first=None)` is `forward(*tensors)`, whose gradient is
  written by hand: `backward(upstream, *tensors)`, for each tensor a gradient or None. If `forward`
  returns a list, `upstream` is one. If given, `first(upstream, *tensors)` is the gradient of the
  first tensor, and `backward` returns those of the others;
- `compile(function)` returns the function, compiled if the backend compiles parts of a program;
- `matmul(left, right)` is a matrix product that keeps the precision of its factors;
- `shape(tensor, start, stop)` is a tuple of integers, the lengths of these axes; lengths that
  TensorFlow does not know yet are tensors;
- `floor` keeps float64, which Keras's own rounds to float32 on JAX and PyTorch.

For points, which follow a warp outside of a compiled step:

- `per_warp(function)` returns `function(warp, *tensors, **options)`, compiled for each kind of warp
  on JAX.

And for `register`, which needs a gradient outside of a training step:

- `jit(function)` returns the function, traced and compiled as a whole if the backend does that;
- `value_and_gradient(function)` returns a function of the same tensors, which returns the values
  `(batch,)` of `function` and the gradient of their sum with respect to its first tensor.

Everything else is written once, with `keras.ops`.
"""

import importlib

import keras

BACKENDS = ("tensorflow", "jax", "torch")

if keras.backend.backend() not in BACKENDS:
    raise ImportError(
        f"stn_keras runs on the Keras backends {BACKENDS}. "
        f"Received: KERAS_BACKEND={keras.backend.backend()}"
    )
_active = importlib.import_module(f"stn_keras.backend.{keras.backend.backend()}")
compile = _active.compile
floor = _active.floor
gather_dots = _active.gather_dots
gather_sum = _active.gather_sum
jit = _active.jit
matmul = _active.matmul
per_warp = _active.per_warp
sample = _active.sample
scatter_sum = _active.scatter_sum
shape = _active.shape
value_and_gradient = _active.value_and_gradient
with_gradient = _active.with_gradient
