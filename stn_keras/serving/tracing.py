"""Models prepared for export: in float32, with flat names of inputs and outputs."""

import itertools
import json
import pathlib
import tempfile
import zipfile

import keras


class ExportError(ValueError):
    """The model can't be written in that format here; the message says why."""


def in_float32(model):
    """The model itself if it computes in float32 or wider, else a copy that does."""
    config = model.get_config()
    if _widened(config) == config:
        return model
    try:
        with tempfile.TemporaryDirectory() as folder:
            saved, wide = pathlib.Path(folder, "saved.keras"), pathlib.Path(folder, "wide.keras")
            model.save(saved)  # which keeps shared layers shared
            with zipfile.ZipFile(saved) as source, zipfile.ZipFile(wide, "w") as target:
                for name in source.namelist():
                    content = source.read(name)
                    if name == "config.json":
                        content = json.dumps(_widened(json.loads(content))).encode()
                    target.writestr(name, content)
            return keras.saving.load_model(wide, compile=False, safe_mode=False)
    except ValueError as error:
        raise ExportError(f"The model can't be rebuilt in float32: {error}") from error


def _widened(config):
    """A serialised configuration with float32 for every policy and dtype of half precision."""
    if isinstance(config, dict):
        return {key: _widened(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(map(_widened, config))
    half = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
    return "float32" if isinstance(config, str) and config in half else config


def in_float64(model):
    """Whether a layer or an input of the model is of float64."""
    return "'float64'" in str(model.get_config())


def functional(model):
    """A functional model of the layers of a sequential one, or the model itself."""
    if not isinstance(model, keras.Sequential):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def input_names(model):
    """The keys if the inputs are a dictionary, else the names of the `Input`s, in flat order."""
    paths = keras.tree.flatten_with_path(model.input)
    return [str(path[0]) if _is_key(path) else x.name for path, x in paths]


def output_names(model):
    """The keys, joined if nested, if the outputs are a dictionary, else the names of the layers."""
    paths = [path for path, _ in keras.tree.flatten_with_path(model.output)]
    if _is_nested(model.output):
        start = () if isinstance(model.output, dict) else ("output",)
        return ["_".join(map(str, (*start, *path))) for path in paths]
    return [str(path[0]) for path in paths] if _is_key(paths[0]) else list(model.output_names)


def unique(names):
    """Unique names: a name that is taken gets a number."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{count}" for count in itertools.count(1))
        found.append(next(n for n in itertools.chain([name], numbered) if n not in found))
    return found


def with_flat_names(model):
    """The model, or one around it that Keras exports with `input_names` and, if outputs are nested,
    `output_names`."""
    names = input_names(model)
    nested = _is_nested(model.output)
    if names == [x.name for x in keras.tree.flatten(model.input)] and not nested:
        return model
    inputs = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name.replace("/", "_"))
        for name, x in zip(names, keras.tree.flatten(model.input))
    ]
    inputs = keras.tree.pack_sequence_as(model.input, inputs)
    outputs = model(inputs)
    if nested:
        outputs = dict(zip(unique(output_names(model)), keras.tree.flatten(outputs)))
    return keras.Model(inputs, outputs, name=model.name)


def _is_key(path):
    return len(path) == 1 and isinstance(path[0], str)


def _is_nested(structure):
    return any(len(path) > 1 for path, _ in keras.tree.flatten_with_path(structure))
