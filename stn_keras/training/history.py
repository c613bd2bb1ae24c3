"""What a run's `history.csv` holds: the logs of its epochs, as Keras's `CSVLogger` writes them."""

import csv
import pathlib

from stn_keras.training.files import replacing

__all__ = ["cut", "read"]


def read(path):
    """A CSV file of numbers as `plots.curves` takes it.

    Example:
        >>> read("run/history.csv")["epoch"]
        [0.0, 1.0]

    Args:
        path: A file with a line of names and a row of numbers for each epoch, at least one.

    Returns:
        Dict from column names to lists of floats.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a field is no number, as the `NA` of a training without validation.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def cut(path, epochs):
    """Takes away what stands behind the rows of that many epochs, be it a row or half of one.

    Example:
        >>> cut("run/history.csv", 1)
        >>> read("run/history.csv")["epoch"]
        [0.0]

    Args:
        path: The CSV file, replaced in one go.
        epochs: How many rows stay.
    """
    lines = pathlib.Path(path).read_bytes().splitlines(keepends=True)
    with replacing(path) as shorter:
        shorter.write_bytes(b"".join(lines[: epochs + 1]))
