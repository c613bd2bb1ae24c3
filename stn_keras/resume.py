"""Resumes training after a kill, with the same result as an uninterrupted training.

Keras's `BackupAndRestore` restores weights, optimizer and epoch. Like `.keras` files, it does not
contain the seeds of dropout. It overwrites its two files in place, so a kill in between leaves a
damaged file, or the weights of one epoch with the number of another.
"""

import contextlib
import pathlib
import signal
import sys
import zipfile

import keras
import numpy as np

from stn_keras.system.files import FileError, explain, replacing

__all__ = ["Backup", "BackupError", "finishing_epochs", "restore"]

REMEDY = "restore it, or delete it and train from the start"


class BackupError(FileError):
    """Training can't be resumed from a backup; the message gives the file, cause and remedy."""


class Backup(keras.callbacks.Callback):
    """Saves the state of training before the first epoch and after every epoch.

    The state consists of all variables of the model, including the seeds of dropout; all variables
    of the optimizer, including its step and, under mixed_float16, its loss scale; and the number of
    completed epochs. On PyTorch, give dropout layers a `seed`, because without one Keras uses
    PyTorch's generator, which is not saved.

    Place this callback after those whose output a resumed training needs. If training is killed
    after they have written an epoch but before this callback has, the resumed training repeats the
    epoch, and they write it again.

    Args:
        filepath: Path of an `.npz` file, which is replaced atomically.

    Example:
        >>> log = model.fit(images, labels, callbacks=[Backup("backup.npz")], verbose=0)
        >>> epochs = restore("backup.npz", model)  # in another process, with the same model
        >>> log = model.fit(images, labels, epochs=2, initial_epoch=epochs, verbose=0)
        >>> log.epoch
        [1]
    """

    def __init__(self, filepath):
        super().__init__()
        self.filepath = pathlib.Path(filepath)

    def on_train_begin(self, logs=None):
        if not self.filepath.exists():
            self._save(epochs=0)

    def on_epoch_end(self, epoch, logs=None):
        self._save(epochs=epoch + 1)

    def _save(self, epochs):
        values = map(keras.ops.convert_to_numpy, state(self.model))
        arrays = {str(number): value for number, value in enumerate(values)}
        with replacing(self.filepath) as path:
            np.savez(path, epochs=epochs, **arrays)


def restore(path, model):
    """Restores the state that `Backup` saved.

    Example:
        >>> log = model.fit(images, labels, callbacks=[Backup("backup.npz")], verbose=0)
        >>> restore("backup.npz", model)
        1

    Args:
        path: The `filepath` of `Backup`.
        model: A compiled model. A `BackupError` leaves it unchanged.

    Returns:
        The number of completed epochs.

    Raises:
        BackupError: if the file is damaged, or belongs to a model or an optimizer with other
            shapes.
        FileNotFoundError: if the file does not exist.
    """
    try:
        with open(path, "rb") as file:
            epochs, arrays = _read(file)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for damaged files
        if isinstance(error, OSError) and error.filename:
            raise BackupError(explain(error)) from error
        cause = str(error).partition("\n")[0][:100]
        raise BackupError(f"{path} is damaged ({cause}); {REMEDY}") from error
    variables = state(model)
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise BackupError(f"{path} belongs to another model, or to another optimizer; {REMEDY}")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return epochs


def _read(file):
    """The number of epochs and the arrays of an `.npz` file."""
    if not zipfile.is_zipfile(file):
        raise ValueError("no .npz file")
    file.seek(0)
    backup = np.load(file)
    epochs = int(backup["epochs"])
    arrays = [backup[str(number)] for number in range(len(backup.files) - 1)]
    if epochs < 0 or any(array.dtype.kind not in "fiu" for array in arrays):
        raise ValueError("it does not hold the numbers of a training")
    return epochs, arrays


def state(model):
    """The variables of a compiled model and of its optimizer, in a fixed order."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


@contextlib.contextmanager
def finishing_epochs(again=None):
    """Context manager in which Ctrl-C stops training after the current epoch.

    A second Ctrl-C stops it at once; a message says what would be lost. The context manager handles
    SIGINT, so use it in the main thread. If the current epoch is the last one, training completes
    and nothing is raised.

    Args:
        again: Handler of a second Ctrl-C, as in `signal.signal`. `None` means the handler from
            before, which usually raises `KeyboardInterrupt` when the current operation ends.
            `signal.SIG_DFL` ends the process without waiting, even while TensorFlow compiles.

    Example:
        >>> with finishing_epochs() as interruption:
        ...     callbacks = [Backup("backup.npz"), interruption]
        ...     log = model.fit(images, labels, callbacks=callbacks, verbose=0)

    Yields:
        A callback for `fit`.

    Raises:
        KeyboardInterrupt: after Ctrl-C, at the end of the block.
    """
    interruption = _Interruption()

    def stop_after_epoch(number, frame):
        signal.signal(signal.SIGINT, before if again is None else again)
        interruption.requested = True
        print(
            f"\nStopping after epoch {interruption.epoch}. Ctrl-C again stops now and loses what "
            f"epoch {interruption.epoch} has learnt so far.",
            file=sys.stderr,
            flush=True,
        )

    before = signal.signal(signal.SIGINT, stop_after_epoch)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
    if interruption.stopped:
        raise KeyboardInterrupt


class _Interruption(keras.callbacks.Callback):
    """Ends training after the epoch in which it was requested."""

    epoch = 1  # counted from 1
    requested = stopped = False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_epoch_end(self, epoch, logs=None):
        if self.requested and self.epoch < self.params["epochs"]:
            self.stopped = self.model.stop_training = True
