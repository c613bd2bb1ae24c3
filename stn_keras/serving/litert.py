"""LiteRT files, in float32, or in int8 except for the warps."""

import warnings
from typing import Any

import keras
import numpy as np

from stn_keras import backend
from stn_keras.backend import private
from stn_keras.sampler import sampling_by
from stn_keras.serving.tracing import ExportError, in_float64

WARP = "stn_keras_warp"  # in the names of a warp's operations
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")


def save(model, path, arrays=None):
    """Writes a LiteRT file; in int8 if there are `arrays`, examples of each of the inputs."""
    import tensorflow as tf

    settings: dict[str, Any] = {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}}
    if arrays is not None:
        calibration, quantize = _quantizer()
        settings["optimizations"] = [tf.lite.Optimize.DEFAULT]
        settings["representative_dataset"] = lambda: _one_by_one(model, arrays)
        settings |= calibration
    with sampling_by(_named), warnings.catch_warnings():
        # The converter itself uses what it advises against.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
        try:
            model.export(str(path), format="litert", verbose=False, **settings)
            if arrays is not None:
                path.write_bytes(quantize(_measured(path.read_bytes())))
        except OSError:
            raise
        except Exception as error:  # the converter's own class is not public
            if in_float64(model):
                raise ExportError(
                    "The model computes in float64, which LiteRT's operations lack; give its "
                    "inputs and layers dtype='float32'"
                ) from error
            raise ExportError(f"LiteRT's converter refuses the model: {error}") from error


def as_examples(model, data):
    """`data`, structured like the inputs of `model`, as arrays `(n, ...)` in flat order."""
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), model.input)
    wanted = f"`quantize` must hold an array of examples for each input, of the shapes {shapes}"
    try:
        keras.tree.assert_same_structure(model.input, data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{wanted}, structured like them. Received: {type(data)}") from error
    inputs = keras.tree.flatten(model.input)
    arrays = [np.asarray(array) for array in keras.tree.flatten(data)]
    received = [array.shape for array in arrays]
    fit = all(
        len(x.shape) == len(shape) and all(n in (None, m) for n, m in zip(x.shape[1:], shape[1:]))
        for x, shape in zip(inputs, received)
    )
    if not fit or len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        raise ValueError(f"{wanted}, equally many of each. Received: the shapes {received}")
    return [array.astype(x.dtype) for x, array in zip(inputs, arrays)]


def _named(*args, **options):
    """`stn_keras.backend.sample`, with `WARP` in the names of the operations that it makes."""
    import tensorflow as tf

    with tf.name_scope(WARP):
        return backend.sample(*args, **options)


def _one_by_one(model, arrays):
    """Examples as the converter takes them, a batch of one at a time, by name."""
    names = [x.name for x in keras.tree.flatten(model.input)]
    for k in range(len(arrays[0])):
        yield {name: array[k : k + 1] for name, array in zip(names, arrays)}


def _quantizer():
    """`private.lite_quantizer`, if it and the package that reads LiteRT files are installed."""
    found = private.lite_quantizer()
    if found is None:
        raise ExportError(
            "This version of TensorFlow can't quantize a model without its warps; export it in "
            "float32, without `quantize`, or install another version"
        )
    try:
        import ai_edge_litert.tools.flatbuffer_utils  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error}; in a checkout of stn_keras: pip install '.[export]'"
        ) from error
    return found


def _measured(calibrated):
    """A file with measured ranges, without those of the tensors that remain in float32."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(calibrated)
    for graph in model.subgraphs:
        for index in _kept_in_float(graph, model.operatorCodes):
            graph.tensors[index].quantization = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _kept_in_float(graph, operators):
    """Indices of the tensors of warps, and of those from which their coordinates are computed.

    These stay in float32: eight bits cannot place a sample more exactly than a 256th of the image's
    width, and the error of a parameter moves all samples of an image. The search starts at the
    coordinates, which a warp casts to integers. It goes back to the last operation with weights,
    which is the head of a localization network.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.BuiltinOperator
    weighted = {getattr(kinds, name) for name in WEIGHTED}
    made_by = {index: op for op in graph.operators for index in op.outputs}
    kind = {index: operators[op.opcodeIndex].builtinCode for index, op in made_by.items()}
    kept = {index for index, tensor in enumerate(graph.tensors) if WARP in tensor.name.decode()}
    todo = [made_by[index].inputs[0] for index in kept if kind.get(index) == kinds.CAST]
    seen = set()
    while todo:
        index = todo.pop()
        if index not in seen and graph.tensors[index].type == schema.TensorType.FLOAT32:
            seen.add(index)
            if index in made_by and kind[index] not in weighted:
                todo.extend(made_by[index].inputs)
    return kept | seen
