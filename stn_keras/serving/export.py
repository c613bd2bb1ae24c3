"""A trained model as a file that needs neither Keras nor this library: SavedModel, LiteRT, ONNX."""

import contextlib
import json
import logging
import pathlib

import keras
from keras import ops

from stn_keras import layers, sampling, sharing
from stn_keras.coordinates import to_grid
from stn_keras.files import replacing
from stn_keras.warp import mean_of_blocks

__all__ = ["ExportError", "save"]

SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}  # a SavedModel is a folder
ONNX_OPSET = 20  # the first with AffineGrid
TF2ONNX_OPSET = 18  # the last that tf2onnx writes
PADDING_MODES = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
STAND_IN = "stn_keras"  # domain of AffineGrid and GridSample until the opset has them


class ExportError(Exception):
    """The model can't be written in that format here; the message says why."""


def save(model, path, format):
    """Writes a model for another runtime, whole or not at all.

    Example:

    >>> save(model, "exported", "saved_model")

    The batch size stays open. Whatever precision the model was trained in, the file computes in
    float32, as its weights are: what half precision rounds differs from processor to processor.

    Args:
        model: A functional or sequential Keras model.
        path: The file to write, which ends in `.tflite` or `.onnx`. What stands there is
            replaced. A SavedModel is a folder, which must not exist yet.
        format: `"saved_model"` for TensorFlow; there the warp stays compiled. `"litert"` for
            LiteRT, of operations that it has built in. `"onnx"` for ONNX Runtime and others, of
            opset 20, where warps are `AffineGrid` and `GridSample`, or other transforms'
            coordinates and `GridSample`. It needs the packages of `pip install stn-keras[export]`.

    Raises:
        ValueError: if `format` is none of these, `path` does not end in its suffix, or the model
            is not functional.
        FileExistsError: if a SavedModel's folder exists.
        ExportError: if the backend is not TensorFlow, a package is missing, or the format lacks
            an operation of the model.
    """
    if format not in SUFFIXES:
        raise ValueError(f"`format` must be one of {tuple(SUFFIXES)}. Received: format={format!r}")
    if not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a functional or sequential model. Received: {model!r}")
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
    model = in_float32(model)
    with replacing(path) as temporary:
        {"saved_model": _saved_model, "litert": _litert, "onnx": _onnx}[format](model, temporary)


def in_float32(model):
    """The model itself where it computes in float32 or wider, else a copy that does."""
    config = model.get_config()
    if _widened(config) == config:
        return model
    try:
        with sharing.scope():
            copy = type(model).from_config(_widened(model.get_config()))
        copy.set_weights(model.get_weights())
    except ValueError as error:
        raise ExportError(f"The model can't be rebuilt in float32: {error}") from error
    return copy


def _widened(config):
    """A serialised configuration with float32 for every policy and dtype of half precision."""
    if isinstance(config, dict):
        return {key: _widened(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(map(_widened, config))
    half = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
    return "float32" if isinstance(config, str) and config in half else config


def _saved_model(model, path):
    model.export(path, format="tf_saved_model", verbose=False)


def _litert(model, path):
    import tensorflow as tf

    built_in = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    with _warping(layers.warp.__wrapped__, sampling.at_points.__wrapped__):
        try:
            model.export(path, format="litert", verbose=False, target_spec=built_in)
        except OSError:
            raise
        except Exception as error:  # the converter's own class is not public
            raise ExportError(f"LiteRT's converter refuses the model: {error}") from error


@contextlib.contextmanager
def _warping(warp, at_points):
    """Inside, models that are traced warp and sample by these functions."""
    before = layers.warp, sampling.at_points
    layers.warp, sampling.at_points = warp, at_points
    try:
        yield
    finally:
        layers.warp, sampling.at_points = before


def _onnx(model, path):
    """By tf2onnx and not by `model.export`, which makes inputs of a `Normalization`'s constants.

    Warps are traced as stand-ins, which tf2onnx is told to leave alone; they become ONNX's own
    operations once the graph has an opset that knows them.
    """
    try:
        import onnx.version_converter
        import tf2onnx.convert
    except ImportError as error:
        raise ExportError(f"{error}; pip install stn-keras[export]") from error
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
    try:
        proto = onnx.version_converter.convert_version(proto, ONNX_OPSET)
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


def _frozen(model):
    """The graph of `model` with its weights as constants; the new names of inputs and outputs."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if isinstance(model, keras.Sequential):  # its `input` is not always defined
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    signature = keras.tree.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype, name=x.name), model.input
    )
    with _warping(_onnx_warp, _onnx_at_points):
        function = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
        frozen = convert_variables_to_constants_v2(function.get_concrete_function(signature))
    inputs = {x.name: x.op.name for x in frozen.inputs}
    outputs = dict(zip((x.name for x in frozen.outputs), model.output_names, strict=True))
    return frozen.graph.as_graph_def(), inputs, outputs


def _onnx_warp(images, theta, fill, *, transform, output_size, antialias, **options):
    """The counterpart of `warp.warp`."""
    align_corners = options["align_corners"]
    input_size = ops.shape(images)[1:3]
    size = [length * antialias for length in output_size or input_size]
    matrix = transform.affine(theta, input_size, align_corners)
    # ONNX's AffineGrid divides by zero where one pixel has no extent.
    if matrix is not None and not (align_corners and 1 in size):
        images_size = ops.stack([ops.shape(images)[0], images.shape[-1], *size])
        grid = _stand_in(
            "AffineGrid",
            [matrix, ops.cast(images_size, "int64")],
            (None, *size, 2),
            align_corners=int(align_corners),
        )
    else:
        coordinates = transform.pixels(theta, input_size, size, align_corners)
        grid = to_grid(coordinates, input_size, align_corners)
    return mean_of_blocks(_onnx_at_points(images, grid, fill, name="grid", **options), antialias)


def _onnx_at_points(images, points, fill, *, name, interpolation, fill_mode, filled, align_corners):
    """The counterpart of `sampling.at_points`."""
    if fill_mode not in PADDING_MODES:
        raise ExportError(
            f"ONNX's GridSample has the fill modes {tuple(PADDING_MODES)}. "
            f"Received: fill_mode={fill_mode!r}"
        )
    if name == "coordinates":
        axes = [points[..., axis] for axis in range(points.shape[-1])]
        points = to_grid(axes, ops.shape(images)[1:-1], align_corners)
    # ONNX fills with zeros. Weights sum to 1: what is taken off before can be added afterwards.
    shifted = fill_mode == "constant" and filled
    fill = ops.cast(fill, images.dtype)
    samples = _stand_in(
        "GridSample",
        [ops.moveaxis(images - fill if shifted else images, -1, 1), points],
        (images.shape[0], images.shape[-1], *points.shape[1:-1]),
        mode={"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[interpolation],
        padding_mode=PADDING_MODES[fill_mode],
        align_corners=int(align_corners),
    )
    samples = ops.moveaxis(samples, 1, -1)
    return samples + fill if shifted else samples


def _stand_in(op, inputs, shape, **attributes):
    """A node that holds the place of an ONNX operation; TensorFlow could not run it."""
    import tensorflow as tf

    (output,) = tf.raw_ops.PyFuncStateless(
        input=inputs, token=json.dumps([op, attributes]), Tout=[tf.float32]
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
