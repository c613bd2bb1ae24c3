"""The printed output of a benchmark as data."""

import pathlib
import subprocess
import sys

import keras

ROOT = pathlib.Path(__file__).parents[1]
BACKEND = keras.backend.backend()


def tables(text):
    """The Markdown tables of `text` by the line above them, as lists of dictionaries."""
    found, title = {}, None
    for block in text.split("\n\n"):
        if block.startswith("|"):
            lines = block.strip().splitlines()
            rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
            assert set(rows[1]) == {"---"}
            found[title] = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
        title = block.strip().rstrip(":")
    return found


def run(*command):
    """The tables that a benchmark prints."""
    command = [sys.executable, "-m", *command, f"--backend={BACKEND}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tables(done.stdout)
