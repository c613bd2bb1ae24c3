"""A trained model as a file that needs neither Keras nor this library: SavedModel, LiteRT, ONNX."""

import pathlib

import keras

from stn_keras.serving import litert, onnx
from stn_keras.serving.tracing import ExportError, functional, in_float32, with_flat_names
from stn_keras.system.files import replacing
from stn_keras.system.terminal import quiet

__all__ = ["ExportError", "save"]

SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}  # a SavedModel is a folder


def save(model, path, format, *, quantize=None):
    """Writes a model for another runtime, whole or not at all.

    Example:

    >>> save(model, "exported", "saved_model")
    >>> save(model, "exported.tflite", "litert", quantize=images)  # in int8

    The batch size stays open. Inputs and outputs keep the keys of dictionaries; those of nested
    outputs are joined, as in `"scores_0"`. Inputs without a key have the name of their `Input`.
    Outputs without one are called `output_0`, `output_1` … in SavedModel and LiteRT, after their
    layers in ONNX, where a name that is taken gets a number.

    A model of half precision is written in float32, in which its weights are stored, because the
    rounding of half precision differs from processor to processor. A model of float64 is written in
    float64, which LiteRT lacks, and ONNX Runtime in some operations.

    Args:
        model: A functional or sequential Keras model.
        path: The file to write, which ends in `.tflite` or `.onnx`. An existing file is replaced.
            A SavedModel is a folder, which must not exist yet.
        format: `"saved_model"` for TensorFlow, in which the warp stays compiled. `"litert"` for
            LiteRT, with built-in operations only. `"onnx"` for ONNX Runtime and others, with opset
            20. In ONNX an affine warp is `AffineGrid` and `GridSample`; other warps are ordinary
            operations for the coordinates, and `GridSample`. ONNX needs the packages of
            `pip install ".[export]"` in a checkout of this library.
        quantize: For LiteRT, examples of the inputs: an array `(n, ...)`, or arrays structured
            like `model.input`. Weights and activations become int8 then, in the ranges that are
            measured on the examples. Take a hundred or more that are like the inputs in use.
            Inputs, outputs, warps and the last layer of localization networks remain float32.

    Raises:
        ValueError: if `format` is none of these, `path` does not end in its suffix, the model
            is not functional, or `quantize` does not fit the model or the format.
        FileExistsError: if a SavedModel's folder exists.
        ExportError: if the backend is not TensorFlow, a package is missing, or the format lacks
            an operation of the model, in float64 for instance.
    """
    if format not in SUFFIXES:
        raise ValueError(f"`format` must be one of {tuple(SUFFIXES)}. Received: format={format!r}")
    if not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a functional or sequential model. Received: {model!r}")
    if quantize is not None and format != "litert":
        raise ValueError(f"`quantize` is for format='litert'. Received: format={format!r}")
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Models are exported on the TensorFlow backend; `.keras` files of the others load "
            f"there. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    path = pathlib.Path(path)
    if format == "saved_model" and path.exists():
        raise FileExistsError(f"{path} exists; delete it or choose another path")
    if format != "saved_model" and path.suffix != SUFFIXES[format]:
        raise ValueError(f"`path` must end in {SUFFIXES[format]!r}. Received: path={path}")
    model = functional(in_float32(model))
    examples = None if quantize is None else litert.as_examples(model, quantize)
    with replacing(path) as temporary, quiet():
        if format == "onnx":
            onnx.save(model, temporary)
        elif format == "litert":
            litert.save(with_flat_names(model), temporary, examples)
        else:
            with_flat_names(model).export(temporary, format="tf_saved_model", verbose=False)
