"""Training that goes on after a kill as if there had been none.

Keras's `BackupAndRestore` restores weights, optimizer and epoch. It leaves the seeds of dropout
out, as `.keras` files do, and it overwrites its two files where they lie, so that a kill in
between leaves a broken file, or the weights of one epoch with the number of another.
"""

import contextlib
import pathlib
import signal
import sys
import zipfile

import keras
import numpy as np

from stn_keras.files import FileError, explain, replacing

__all__ = ["Backup", "BackupError", "finishing_epochs", "restore", "state"]


class Backup(keras.callbacks.Callback):
    """Saves all that training goes on from: before the first epoch and after each.

    That is every variable of the model, with the seeds of its dropout, and of the optimizer, with
    its step and, under mixed_float16, its loss scale; and the number of epochs done. On PyTorch
    give dropout a `seed`: without one Keras draws from PyTorch's generator, which is not saved.

    Put it behind the callbacks that write what a further training must find whole: what they
    wrote in an epoch that is not in the backup, that epoch writes again.

    Args:
        filepath: an `.npz` file, replaced by the next one in one go.

    Example:
        >>> log = model.fit(images, labels, callbacks=[Backup("backup.npz")], verbose=0)
        >>> epochs = restore("backup.npz", model)  # in another process, of a model built alike
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
    """Gives a compiled model the state that `Backup` saved.

    Example:
        >>> log = model.fit(images, labels, callbacks=[Backup("backup.npz")], verbose=0)
        >>> restore("backup.npz", model)
        1

    Args:
        path: What `Backup` was given.
        model: A compiled model. A `BackupError` leaves it as it was.

    Returns:
        The number of epochs done.

    Raises:
        BackupError: if the file is damaged, or of a model or an optimizer of other shapes.
        FileNotFoundError: if there is no such file.
    """
    try:
        with open(path, "rb") as file:
            epochs, arrays = _read(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BackupError(explain(error)) from error
    except Exception as error:  # what NumPy and zipfile make of damage is beyond listing
        cause = str(error).partition("\n")[0][:100]
        raise BackupError(f"{path} is damaged ({cause}); {_REMEDY}") from error
    variables = state(model)
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise BackupError(f"{path} belongs to another model, or to another optimizer; {_REMEDY}")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return epochs


_REMEDY = "restore it, or delete it and train from the start"


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


class BackupError(FileError):
    """A backup that can't be gone on from; the message says which, why and what to do."""


def state(model):
    """The variables of a compiled model and of its optimizer, in an order of their own.

    Example:
        >>> len(state(model)) >= len(model.weights)
        True

    Args:
        model: A compiled model; its optimizer is built if it is not yet.

    Returns:
        List of variables.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


@contextlib.contextmanager
def finishing_epochs():
    """Lets Ctrl-C end training only after its epoch; a second one does at once.

    It handles SIGINT inside its block, so it belongs in the main thread. A message says what a
    second Ctrl-C would lose. Where the epoch is the last one, the training is complete and nothing
    is raised.

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
        signal.signal(signal.SIGINT, before)
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
    """Ends training after the epoch in which that was requested."""

    epoch = 1  # counted from 1
    requested = stopped = False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_epoch_end(self, epoch, logs=None):
        if self.requested and self.epoch < self.params["epochs"]:
            self.stopped = self.model.stop_training = True
