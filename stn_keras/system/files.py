"""Writes files and folders atomically, and explains the errors of file systems."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil

LONGEST_NAME = 255  # bytes, on most file systems
FIGURE = {"Source": "stn_keras figure"}  # metadata of PNG files written by `plots.save`


class FileError(ValueError):
    """A file can't be used; the message names it and a remedy."""


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path beside `path`, and renames it to `path` if the block succeeds.

    A kill, an error or a full disk leaves the previous file at `path`; an error also removes the
    temporary file. Both paths have the same suffix. The block may also write a folder, which can
    replace only an empty folder.

    An `OSError` is raised before the block, unless the disk fills up in the block. Its `filename`
    is `path`, not the temporary path.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        kind = errno.EEXIST if path.parent.exists() else errno.ENOENT
        raise OSError(kind, os.strerror(kind), str(path.parent))
    ending = f".{os.getpid()}.part{path.suffix}"
    temporary = path.with_name(f".{shorten(path.stem, LONGEST_NAME - 1 - len(ending))}{ending}")
    try:
        temporary.touch()  # fail before there is work to lose
        temporary.unlink()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and str(error.filename or temporary) == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        _remove(temporary)


def shorten(name, most):
    """The name of a file; if it has more than `most` bytes, its start and a hash of the name.

    `shorten("a long name.png", 12)` is `"a l~e1ae8a2a"`.
    """
    encoded = os.fsencode(name)
    if len(encoded) <= most:
        return name
    start = encoded[: most - 9].decode("utf-8", "ignore")
    return f"{start}~{hashlib.sha256(encoded).hexdigest()[:8]}"


def clear(folder):
    """Removes temporary files and folders that killed processes left in a folder."""
    for path in pathlib.Path(folder).glob(".*.part*"):
        _remove(path)


def explain(error):
    """Describes an `OSError` in one sentence with the path, the cause and the remedy.

    Such as "runs/a.csv does not exist; check the path".
    """
    if error.errno is None:
        return str(error)
    unknown = f"can't be used: {error.strerror}", "choose another path"
    cause, remedy = _REASONS.get(error.errno, unknown)
    return f"{error.filename or 'The disk'} {cause}; {remedy}"


_ELSEWHERE = "choose another path"
_REASONS = {
    errno.ENOENT: ("does not exist", "check the path"),
    errno.EEXIST: ("is a file where a folder is wanted", f"delete it or {_ELSEWHERE}"),
    errno.ENOTDIR: ("leads through a file, not a folder", _ELSEWHERE),
    errno.EISDIR: ("is a folder where a file is wanted", f"delete it or {_ELSEWHERE}"),
    errno.ENOTEMPTY: ("is a folder with files in it", f"delete it or {_ELSEWHERE}"),
    errno.EACCES: ("is closed to this user", f"change its permissions or {_ELSEWHERE}"),
    errno.EPERM: ("is closed to this user", f"change its permissions or {_ELSEWHERE}"),
    errno.EROFS: ("is on a read-only disk", _ELSEWHERE),
    errno.ENAMETOOLONG: ("is too long a name", "choose a shorter one"),
    errno.ENOSPC: ("has no room left", f"make room or {_ELSEWHERE}"),
    errno.EDQUOT: ("has no room left", f"make room or {_ELSEWHERE}"),
}


def read_settings(path):
    """Reads a run's `config.json`, a dict; raises a `FileError` if it does not contain one."""
    try:
        settings = json.loads(pathlib.Path(path).read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(explain(error)) from error
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise FileError(f"{path} is damaged, it holds no JSON object; restore it or delete it")
    return settings


def write_settings(path, settings):
    """Writes a run's `config.json`."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
