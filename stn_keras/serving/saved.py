"""Saved models from anywhere: loaded without running what they bring along."""

import pathlib
import re
import zipfile

import keras

from stn_keras.files import FileError

__all__ = ["LoadError", "load"]


class LoadError(FileError):
    """The file can't be loaded, or must not be; the message says why and what to do."""


def load(path):
    """The model of a `.keras` file, in Keras's safe mode.

    Example:

    >>> model.save("best.keras")
    >>> load("best.keras").count_params() == model.count_params()
    True

    Args:
        path: A file that ends in `.keras`.

    Returns:
        The model, not compiled.

    Raises:
        LoadError: if there is no such file, it is damaged or something else, or it brings code
            (a lambda, a class that neither Keras nor `stn_keras` has): none of it is run.
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
    except Exception as error:  # what a damaged or hostile file provokes is beyond listing
        raise LoadError(f"{path} {_cause(str(error))}") from error


def _cause(message):
    if "lambda" in message:
        return "brings Python code (a lambda), which is not run; save the model without it"
    unknown = re.search(r"Could not locate \w+ '([^']*)'", message)
    if unknown:
        return (
            f"needs {unknown[1]!r}, which is neither Keras's nor stn_keras's; nothing was run; "
            "save the model without it"
        )
    first = message.partition("\n")[0][:200]
    return f"can't be loaded, damaged or of another version of Keras ({first}); save it again"
