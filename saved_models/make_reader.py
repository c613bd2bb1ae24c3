"""Writes the reader of words that the repository ships, from two complete runs:

    python -m examples.read_text --cells spline-0 plain-0 --models saved_models
    python -m saved_models.make_reader saved_models/{spline-0,plain-0}

As for `saved_models.make`, run it with the lowest version of Keras that pyproject.toml allows.
"""

import pathlib
import shutil
import sys

from saved_models.make import FOLDER
from stn_keras import saved
from stn_keras.system.files import read_settings, write_settings


def main(run, plain_run):
    run, plain_run, folder = pathlib.Path(run), pathlib.Path(plain_run), FOLDER / "read_text"
    folder.mkdir(exist_ok=True)
    saved.compact(run / "last.keras", folder / "last.keras")
    saved.compact(plain_run / "last.keras", folder / "plain.keras")
    settings = read_settings(run / "config.json")
    write_settings(
        folder / "config.json", {**settings, "plain": read_settings(plain_run / "config.json")}
    )
    shutil.copy(run / "history.csv", folder)
    shutil.copy(plain_run / "history.csv", folder / "plain_history.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
