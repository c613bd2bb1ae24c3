"""ONNX files, in which warps are ONNX's own operations."""

import contextlib
import json
import logging

import keras
from keras import ops

from stn_keras.checks.arguments import wide_dtype
from stn_keras.sampler import sampling_by
from stn_keras.sampler.matrix_warps import Affine
from stn_keras.serving.tracing import ExportError, in_float64, input_names, output_names, unique

OPSET = 20  # the first with AffineGrid
TF2ONNX_OPSET = 18  # the last that tf2onnx writes
PADDING_MODES = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
STAND_IN = "stn_keras"  # domain of AffineGrid and GridSample until the opset has them


def save(model, path):
    """By tf2onnx and not by `model.export`, which makes inputs of a `Normalization`'s constants.

    Warps are traced as stand-ins, which tf2onnx is told to leave alone; they become ONNX's own
    operations once the graph has an opset that knows them.
    """
    try:
        import onnx.version_converter
        import tf2onnx.convert
    except ImportError as error:
        raise ExportError(
            f"{error}; in a checkout of stn_keras: pip install '.[export]'"
        ) from error
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    graph, inputs, outputs = _frozen(model)
    proto, _ = tf2onnx.convert.from_graph_def(
        graph,
        name=model.name,
        input_names=list(inputs),
        output_names=list(outputs),
        tensors_to_rename={**inputs, **outputs},
        opset=TF2ONNX_OPSET,
        extra_opset=[onnx.helper.make_opsetid(STAND_IN, 1)],
        custom_op_handlers={"PyFuncStateless": (_from_stand_in, [])},
    )
    lacking = {
        node.op_type
        for node in proto.graph.node
        if node.domain != STAND_IN and not onnx.defs.has(node.op_type, node.domain)
    }
    if lacking:
        raise ExportError(f"The model has operations that ONNX lacks: {sorted(lacking)}")
    try:
        proto = onnx.version_converter.convert_version(proto, OPSET)
        for node in proto.graph.node:
            if node.domain == STAND_IN:
                node.domain = ""
        used = {node.domain for node in proto.graph.node}
        for opset in [o for o in proto.opset_import if o.domain not in used]:
            proto.opset_import.remove(opset)
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as e:
        raise ExportError(f"The model has an operation that ONNX lacks: {e}") from e
    onnx.save(proto, path)
    if in_float64(model):
        _check_float64(path)


def _check_float64(path):
    """Raises an ExportError if ONNX Runtime lacks an operation of the model in float64."""
    with contextlib.suppress(ImportError):
        import onnxruntime

        try:
            onnxruntime.InferenceSession(path)
        except Exception as error:  # its classes are not public
            raise ExportError(
                "ONNX Runtime lacks an operation of the model in float64; give its inputs and "
                f"layers dtype='float32'. It says: {error}"
            ) from error


def _frozen(model):
    """The graph of `model` with its weights as constants; the new names of inputs and outputs."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    def call(*inputs):
        outputs = model(keras.tree.pack_sequence_as(model.input, inputs), training=False)
        # An input may be an output, and a tensor two of them: ONNX wants a name for each.
        return [tf.identity(x) for x in keras.tree.flatten(outputs)]

    signature = [
        tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in keras.tree.flatten(model.input)
    ]
    with sampling_by(_sample):
        function = tf.function(call, autograph=False).get_concrete_function(*signature)
    names = unique(input_names(model) + output_names(model))
    inputs = dict(zip((x.name for x in function.inputs), names[: len(signature)]))
    outputs = dict(zip((x.name for x in function.outputs), names[len(inputs) :], strict=True))
    return tf_loader.from_function(function, list(inputs), list(outputs)), inputs, outputs


def _sample(generic, images, warp, fill, *, interpolation, fill_mode):
    """The counterpart of `stn_keras.backend.sample`."""
    if fill_mode not in PADDING_MODES:
        raise ExportError(
            f"ONNX's GridSample has the fill modes {tuple(PADDING_MODES)}. "
            f"Received: fill_mode={fill_mode!r}"
        )
    if "int" in keras.backend.standardize_dtype(images.dtype):  # which ONNX Runtime does not sample
        return generic(images, warp, fill, interpolation=interpolation, fill_mode=fill_mode)
    points = _grid(images, warp)
    # ONNX Runtime samples by a grid of the images' dtype only.
    dtype = wide_dtype(images, points)
    images, points = (ops.cast(x, dtype) for x in (images, points))
    # ONNX fills with zeros. Weights sum to 1: what is taken off before can be added afterwards.
    shift = None if fill is None else ops.cast(fill, dtype)
    samples = _stand_in(
        "GridSample",
        [ops.moveaxis(images if shift is None else images - shift, -1, 1), points],
        (images.shape[0], images.shape[-1], *points.shape[1:-1]),
        mode={"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[interpolation],
        padding_mode=PADDING_MODES[fill_mode],
        align_corners=int(warp.align_corners),
    )
    samples = ops.moveaxis(samples, 1, -1)
    return samples if shift is None else samples + shift


def _grid(images, warp):
    """The normalised grid of a warp, by ONNX's AffineGrid if that can compute it."""
    size = warp.output_size
    # AffineGrid divides by zero where one pixel has no extent.
    if not isinstance(warp, Affine) or (warp.align_corners and 1 in size):
        return warp.grid()
    images_size = ops.stack([ops.shape(images)[0], images.shape[-1], *size])
    return _stand_in(
        "AffineGrid",
        [warp.tensor, ops.cast(images_size, "int64")],
        (None, *size, len(size)),
        align_corners=int(warp.align_corners),
    )


def _stand_in(op, inputs, shape, **attributes):
    """A node that stands for an ONNX operation, which TensorFlow cannot run. Its output has the
    dtype of the first input."""
    import tensorflow as tf

    (output,) = tf.raw_ops.PyFuncStateless(
        input=inputs, token=json.dumps([op, attributes]), Tout=[inputs[0].dtype]
    )
    return tf.ensure_shape(output, [n if isinstance(n, int) else None for n in shape])


def _from_stand_in(graph, node, name, args):
    """Called by tf2onnx for every node that `_stand_in` has made, or a model's `numpy_function`."""
    try:
        op, attributes = json.loads(node.get_attr_str("token"))
    except ValueError:
        return
    inputs, outputs = list(node.input), list(node.output)
    graph.remove_node(name)
    graph.make_node(op, inputs, attr=attributes, outputs=outputs, name=name, domain=STAND_IN)
