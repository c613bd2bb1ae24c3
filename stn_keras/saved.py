"""Loads saved models from any source without running code that they contain."""

import pathlib
import re
import zipfile

import keras

from stn_keras.serving.tracing import in_float32
from stn_keras.system.files import FileError, replacing

__all__ = ["LoadError", "compact", "load"]


class LoadError(FileError):
    """The file can't be loaded safely; the message gives the cause and the remedy."""


def load(path):
    """Loads the model of a `.keras` file in Keras's safe mode.

    Example:

    >>> model.save("best.keras")
    >>> load("best.keras").count_params() == model.count_params()
    True

    Args:
        path: A file that ends in `.keras`.

    Returns:
        The model, not compiled.

    Raises:
        LoadError: if the file does not exist, is damaged or is not a model, or if it contains code
            (a lambda, or a class that is neither Keras's nor stn_keras's). None of it is run.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise LoadError(f"{path} is a folder; give the .keras file itself")
    if not path.exists():
        raise LoadError(f"there is no file {path}; check the path")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise LoadError(
            f"{path} is not a .keras file, or damaged; give one that `model.save` has written"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # damaged and hostile files raise many types
        first = str(error).rpartition("Exception encountered: ")[2]  # where Keras wraps another
        cause = re.split(r"\n|\. ", first)[0][:100]
        raise LoadError(
            f"{path} can't be loaded, damaged or with Python code, which is not run ({cause}); "
            "save it again"
        ) from error


def compact(source, target):
    """Writes a copy of a saved model for use, not for further training, a third to half its size.

    The copy has neither an optimizer nor its state. It computes in float32 if the model was trained
    in half precision, so that its outputs depend less on the processor.

    Example:

    >>> model.save("best.keras")
    >>> compact("best.keras", "small.keras")
    >>> load("small.keras").count_params() == model.count_params()
    True

    Args:
        source: The `.keras` file, which is loaded as by `load`.
        target: The file to write, which ends in `.keras`. An existing file is replaced.

    Raises:
        LoadError: as for `load`.
        tracing.ExportError: if the model can't be rebuilt in float32.
        OSError: if the file can't be written.
    """
    model = in_float32(load(source))
    with replacing(target) as temporary:
        model.save(temporary)
