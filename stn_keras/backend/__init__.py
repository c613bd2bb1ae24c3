"""The one seam between this library and the Keras backend that runs it.

`gather(rows, indices)` picks pixels, `compiled(function)` is the backend's compiler around a
function of tensors. Everything else is written with `keras.ops`.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from stn_keras.backend.tensorflow import compiled, gather
else:
    raise ImportError(
        "stn_keras runs on the TensorFlow backend of Keras so far. "
        f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow"
    )

__all__ = ["compiled", "gather"]
