"""Tables computed cell by cell: each cell is trained once, by whichever process comes first.

A cell is named by its parts, `cnn-R-0`. `<folder>/<cell>.csv`, one row, holds what came of it; a
cell whose file is there is skipped, so a command that was cut off is simply run again. Processes
side by side never train the same cell: each holds a lock on the one it works on, which the
operating system takes from it if it dies.
"""

import contextlib
import csv
import fcntl
import fnmatch
import pathlib
import platform
import shlex
import sys
import time
from importlib import metadata

import stn_keras
from stn_keras import files


def run(cells, train, folder, patterns=("*",)):
    """Trains the cells that match a pattern and are not in the folder yet, in order.

    Args:
        cells: Dictionary from a cell's name to its settings, a dictionary.
        train: Function from a name and the settings to a dictionary of results. It saves by
            itself whatever else is to be kept.
        folder: Where the CSV files go.
        patterns: Which cells: names with wildcards, as in a shell.

    Raises:
        ValueError: if a pattern matches no cell.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in choose(cells, patterns):
        with claim(folder / f"{name}.csv") as path:
            if path is None:
                continue
            print(name, flush=True)
            start = time.perf_counter()
            results = train(name, cells[name])
            seconds = round(time.perf_counter() - start, 1)
            row = {"cell": name, **cells[name], **results, "seconds": seconds, **environment()}
            write(path, row)


def choose(cells, patterns):
    for pattern in patterns:
        if not fnmatch.filter(cells, pattern):
            raise ValueError(f"No cell matches {pattern!r}. There are: {', '.join(cells)}")
    return [name for name in cells if any(fnmatch.fnmatch(name, p) for p in patterns)]


@contextlib.contextmanager
def claim(path):
    """Yields `path`, or `None` where it is there already or another process works on it."""
    lock = path.with_name(f".{path.stem}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            yield None if path.exists() else path
        finally:
            lock.unlink(missing_ok=True)


def write(path, row):
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


def environment():
    """What else is needed to repeat a cell."""
    return {
        "command": shlex.join(
            ["python", "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]
        ),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "stn_keras": stn_keras.__version__,
    }
