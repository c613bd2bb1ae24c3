"""Reads and cuts a run's `history.csv`, which Keras's `CSVLogger` writes."""

import csv
import pathlib

from stn_keras.system.files import FileError, explain, replacing

__all__ = ["cut", "read"]

REMEDY = "restore it or train again"


def read(path):
    """Reads a CSV file of numbers into the format that `plots.curves` accepts.

    Example:
        >>> read("run/history.csv")["epoch"]
        [0.0, 1.0]

    Args:
        path: A file with a line of names, then a row of numbers for each epoch, at least one.

    Returns:
        Dict from column names to lists of floats.

    Raises:
        FileNotFoundError: if the file does not exist.
        FileError: if the file is damaged, or has a field that is not a number, such as the `NA` of
            a training without validation.
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file, restval="cut short"))
        if not rows:
            raise ValueError("it has no epochs")
        if any(None in row for row in rows):
            raise ValueError("its row of names is cut short")
        return {name: [float(row[name]) for row in rows] for name in rows[0]}
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(explain(error)) from error
    except (ValueError, csv.Error) as error:
        raise FileError(f"{path} is damaged ({error}); {REMEDY}") from error


def cut(path, epochs):
    """Removes everything after the rows of the first `epochs` epochs, incomplete rows included.

    Example:
        >>> cut("run/history.csv", 1)
        >>> read("run/history.csv")["epoch"]
        [0.0]

    Args:
        path: The CSV file, which is replaced atomically.
        epochs: Number of rows to keep.

    Raises:
        FileNotFoundError: if the file does not exist.
        FileError: if it has fewer rows.
    """
    lines = pathlib.Path(path).read_bytes().splitlines(keepends=True)
    if len(lines) <= epochs:
        raise FileError(f"{path} is damaged, it has not all epochs done: {epochs}; {REMEDY}")
    with replacing(path) as shorter:
        shorter.write_bytes(b"".join(lines[: epochs + 1]))
