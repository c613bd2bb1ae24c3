"""The training loop of the commands, with the files that every run writes and Ctrl-C."""

import contextlib
import signal

import keras

from stn_keras import callbacks, history, observe, plots, resume


def fit(
    model,
    batches,
    *,
    epochs,
    steps,
    validation_data=None,
    run=None,
    epochs_done=0,
    measuring=(),
    writing=(),
    verbose=2,
):
    """Trains a model on batches that are shuffled already.

    With a `run`, the model, the history, curves for TensorBoard and a backup are saved after every
    epoch, and Ctrl-C ends training after an epoch. `measuring` are callbacks that add to the logs
    before they are written; `writing` are further callbacks that write.

    Returns whether Ctrl-C was pressed in the last epoch, which raises no `KeyboardInterrupt`.
    """
    ending = None
    with contextlib.ExitStack() as stack:
        if run is not None:
            ending = stack.enter_context(resume.finishing_epochs(again=signal.SIG_DFL))
            writing = [
                *saving(run.folder, append=epochs_done > 0),
                callbacks.MetricsSummary(run.log_dir),
                *writing,
                resume.Backup(run.backup),
                ending,
            ]
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=epochs_done,
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=validation_data,
            verbose=verbose,
            callbacks=[*measuring, *writing],
        )
    return ending is not None and ending.requested


def saving(folder, append=False):
    """Callbacks that write the model and the history to a folder after every epoch."""
    return [
        callbacks.Checkpoint(callbacks.literal(folder / "last.keras")),
        keras.callbacks.CSVLogger(folder / "history.csv", append=append),
    ]


def draw(folder, model, images, **options):
    """Draws the curves of the history in a run's folder, and the warps of a few images.

    Returns the history, and what `observe.observe` returned.
    """
    found, seen = history.read(folder / "history.csv"), observe.observe(model, images)
    plots.save(plots.curves({folder.name: found}, **options), folder / "curves.png")
    for figure in observe.figures(seen, images).values():
        plots.save(figure, folder / "warps.png")
    return found, seen
