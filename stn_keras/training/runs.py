"""The folders of a run of `train.py`: checking, writing and resuming them."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import platform
import shlex
from importlib import metadata

import keras

import stn_keras
from stn_keras import callbacks, history, resume
from stn_keras.recipes import RECIPES
from stn_keras.system import files

# Flags that a resumed run takes from its config.json.
SAVED_FLAGS = (
    "recipe",
    "epochs",
    "seed",
    "transformer",
    "validation_images",
    "image_size",
    "distribute",
    "precision",
)
DATA_FLAGS = ("images", "data_dir")  # saved too, but may be given again if the data have moved
COMPARISON_FLAGS = ("compare", "seeds")  # of a comparison only
DECISIVE = (*SAVED_FLAGS, *COMPARISON_FLAGS, "batch_size", "classes")  # and the recipe's settings
COMPARISON = "comparison.txt"  # what a finished comparison has written, next to the folders of runs

HPARAMS = ("recipe", "seed", "epochs", "transformer", "precision")  # as many as are shown at first


class UsageError(Exception):
    """Invalid usage; the message explains the cause and the remedy."""


class Run:
    """The two folders of a run: its models and history, and its TensorBoard logs.

    Call `check` before anything slow and `start` right before training; nothing is written before
    `start`. A run of the same name is never overwritten. A `resumed` run continues an unfinished
    one.
    """

    def __init__(self, name, output_dir, log_dir, resumed=False):
        self.name, self.resumed = name, resumed
        self.folder = pathlib.Path(output_dir, name)
        self.log_dir = pathlib.Path(log_dir, name)
        self.history = self.folder / "history.csv"
        self.backup = self.folder / "unfinished.npz"

    @property
    def unfinished(self):
        """Whether the run was started and is not complete."""
        has_settings = (self.folder / "config.json").exists()
        has_results = any((self.folder / name).exists() for name in ("last.keras", COMPARISON))
        return self.backup.exists() or (has_settings and not has_results)

    def check(self, settings):
        """Raises a `UsageError` or an `OSError` if the run can't be started or resumed.

        A new run needs folders that are empty or can be created. A resumed run needs the settings
        it was started with; only those in `settings` are compared.
        """
        if self.resumed:
            self._check_same(settings)
            return
        for folder in (self.folder, self.log_dir):
            self._check_unused(folder)
            check_writable(folder)

    def open(self, settings):
        """Creates a new run's folders and its `config.json`, or checks those of a resumed one."""
        if self.resumed:
            self._check_same(settings)
            files.clear(self.folder)
            return
        folders = self.folder, self.log_dir
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
                self._check_unused(folder)  # another process may have been faster
            files.write_settings(self.folder / "config.json", settings)
        except BaseException:
            for folder in folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # only if it is empty
            raise

    def start(self, settings, model):
        """Creates the folders of a new run, or restores the model of a resumed one.

        A new run writes `config.json`, and the settings and the graph to TensorBoard.

        Returns:
            The number of completed epochs.
        """
        self.open(settings)
        if not self.backup.exists():
            callbacks.write_settings(self.log_dir, settings, columns=HPARAMS)
            callbacks.write_graph(self.log_dir, model)
            return 0
        epochs_done = resume.restore(self.backup, model)
        if epochs_done:
            history.cut(self.history, epochs_done)
        return epochs_done

    def best(self, metric, epochs_done):
        """The greatest value of a metric in the completed epochs; None if there are none."""
        return max(history.read(self.history)[metric]) if epochs_done else None

    def finish(self):
        """Marks the run as complete, so that it can no longer be resumed."""
        self.backup.unlink()

    def _check_unused(self, folder):
        if self.unfinished:
            raise UsageError(
                f"{self.folder} holds an unfinished run; resume it with --resume, or choose "
                "another name with --run"
            )
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds an earlier run; choose another name with --run")

    def _check_same(self, settings):
        saved = files.read_settings(self.folder / "config.json")
        for name in settings:
            decisive = name in DECISIVE or name.startswith("recipe_")
            if decisive and settings[name] != saved.get(name):
                raise UsageError(
                    f"{self.folder} was started with {name}={saved.get(name)}. Received: "
                    f"{name}={settings[name]}. Give --resume no other flags than --run and the "
                    "folders, or choose another name with --run"
                )


def check_writable(folder):
    """Raises the `OSError` that making the folder would raise, without making it."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder))
    if not os.access(parent, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))


def saved_flags(run):
    """The flags that an unfinished run was started with, by their names, for `--resume`."""
    if not (run.folder / "config.json").exists():
        raise UsageError(f"--resume: there is no run in {run.folder}; see --run and --output-dir")
    if not run.unfinished:
        raise UsageError(f"--resume: the run in {run.folder} is finished; nothing is left to do")
    saved = files.read_settings(run.folder / "config.json")
    if saved["recipe"] not in RECIPES:
        raise UsageError(
            f"--resume: the run in {run.folder} was started by another version, with the recipe "
            f"{saved['recipe']}"
        )
    names = (*SAVED_FLAGS, *DATA_FLAGS, *COMPARISON_FLAGS)
    return {name: saved[name] for name in names if name in saved}


def settings(flags, recipe):
    """The settings with which a run can be repeated, as in `config.json`: command, flags, recipe,
    dtype policy, machine and versions."""
    return {
        "command": shlex.join(["python", "train.py", *flags.arguments]),
        **{name: getattr(flags, name) for name in SAVED_FLAGS},
        **{name: getattr(flags, name) for name in COMPARISON_FLAGS if flags.compare},
        **{name: getattr(flags, name) and str(getattr(flags, name)) for name in DATA_FLAGS},
        **{f"recipe_{name}": value for name, value in dataclasses.asdict(recipe).items()},
        "precision": keras.config.dtype_policy().name,
        **environment(),
    }


def environment():
    """The machine and the versions of the packages."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "stn_keras": stn_keras.__version__,
    }
