"""Writes the reader of words that the repository ships, from two complete runs:

    python -m examples.read_text --cells spline-0 plain-0 --models saved_models --output-dir rows
    python -m saved_models.make_reader saved_models/{spline-0,plain-0}

Run it with the lowest version of Keras that pyproject.toml allows: earlier versions do not load the
files of later ones. The runs may be of any version.
"""

import pathlib
import shutil
import sys

from examples import read_text
from stn_keras.system.files import read_settings, write_settings

FOLDER = pathlib.Path(__file__).parent / "read_text"


def main(run, plain_run):
    FOLDER.mkdir(exist_ok=True)
    settings = ship(pathlib.Path(run), "spline", "last.keras", "history.csv")
    settings["plain"] = ship(pathlib.Path(plain_run), "plain", "plain.keras", "plain_history.csv")
    write_settings(FOLDER / "config.json", settings)


def ship(run, kind, target, history):
    """Writes a run's reader, in float32 and without its optimizer; returns the run's settings."""
    reader = read_text.build(kind)
    reader.load_weights(run / "reader.keras")
    reader.save(FOLDER / target)
    shutil.copy(run / "history.csv", FOLDER / history)
    return read_settings(run / "config.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
