"""What a run's `history.csv` holds: the logs of its epochs, as Keras's `CSVLogger` writes them."""

import csv
import pathlib

from stn_keras.files import replacing


def read(path):
    """A CSV file of numbers as a dict from column names to lists of floats.

    Example:
        >>> plots.curves({"one cycle": read("history.csv")})
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def cut(path, epochs):
    """Takes away what stands behind the rows of that many epochs, be it a row or half of one."""
    lines = pathlib.Path(path).read_bytes().splitlines(keepends=True)
    with replacing(path) as shorter:
        shorter.write_bytes(b"".join(lines[: epochs + 1]))
