"""Files and folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path beside `path`, renamed to it once the block has succeeded.

    A kill, an error or a full disk leaves what stood at `path` before; an error also removes the
    temporary file. Both paths have the same suffix. A folder may be written, too, but replaces
    nothing that is not empty.

    Example:

    >>> with replacing("model.keras") as path:
    ...     model.save(path)
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def clear(folder):
    """Removes the temporary files and folders that killed processes have left in a folder."""
    for path in pathlib.Path(folder).glob(".*.part*"):
        _remove(path)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
