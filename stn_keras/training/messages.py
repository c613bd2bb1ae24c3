"""Messages of `train.py`: before training, at its end, and for errors."""

import math
import pathlib
import shlex
import sys

import tensorflow as tf

from stn_keras.data import cifar10
from stn_keras.system import files
from stn_keras.training import runs

FEW = 50  # images; an accuracy based on fewer is imprecise
SHOWN = 6  # names of classes or files

# TensorFlow's errors for a full disk, a read-only or missing folder, or a file in its place.
STORAGE_ERRORS = (
    OSError,
    tf.errors.ResourceExhaustedError,
    tf.errors.PermissionDeniedError,
    tf.errors.NotFoundError,
    tf.errors.FailedPreconditionError,
)
USER_ERRORS = (runs.UsageError, files.FileError, cifar10.DataError)
EXPECTED_ERRORS = (KeyboardInterrupt, *USER_ERRORS, *STORAGE_ERRORS)


def counted(number, noun):
    """`1 epoch`, `2 epochs`, `1 class`, `2 classes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def print_data(data):
    """Prints the classes, the numbers of images, skipped files and warnings about small splits."""
    names = ", ".join(data.classes[:SHOWN]) + (", …" if len(data.classes) > SHOWN else "")
    splits = {"training": data.training, "validation": data.validation, "test": data.test}
    sizes = {name: len(split.images) for name, split in splits.items() if split}
    print(
        f"{data.name}: {counted(len(data.classes), 'class')} ({names}), "
        f"{counted(sum(sizes.values()), 'image')}: "
        + ", ".join(f"{size:,} for {name}" for name, size in sizes.items())
        + (f"; {counted(len(data.skipped), 'file')} skipped" if data.skipped else ""),
        flush=True,
    )
    for reason in data.skipped[:SHOWN]:
        print(f"Skipped: {reason}", file=sys.stderr)
    if len(data.skipped) > SHOWN:
        print(f"Skipped: {len(data.skipped) - SHOWN} more", file=sys.stderr)
    for name in ("validation", "test"):
        if sizes.get(name, FEW) < FEW:
            print(
                f"Warning: the {name} accuracy rests on {counted(sizes[name], 'image')} only; "
                f"each counts for {1 / sizes[name]:.1%}",
                file=sys.stderr,
            )


def print_start(flags, settings, model, epochs_done):
    """Prints what is trained, and how to watch it."""
    network = "Spatial transformer network" if flags.transformer else "The classifier alone"
    print(
        f"{network}, {model.count_params():,} parameters, recipe {flags.recipe}, "
        f"batches of {settings['batch_size']}, {settings['precision']}, seed {flags.seed}"
    )
    if flags.resume:
        print(f"Resuming after {counted(epochs_done, 'epoch')} of {flags.epochs}")
    print(f"Watch it: tensorboard --logdir {flags.log_dir}")
    print(
        "TensorFlow compiles the network before the first step; this takes a few seconds",
        flush=True,
    )


def print_result(flags, data, history, folder, seen):
    """Prints the accuracies, how much the warps vary, and the folders of the results.

    `seen` is what `observe.observe` returned on a few images.
    """

    def accuracy(prefix, split):
        few = f" of {counted(len(split.images), 'image')}" if len(split.images) < FEW else ""
        return f"{history[f'{prefix}_accuracy'][-1]:.2%}{few}"

    epochs, validation = counted(len(history["epoch"]), "epoch"), accuracy("val", data.validation)
    if data.test:
        test = accuracy("test", data.test)
        result = f"Test accuracy after {epochs}: {test} (validation {validation}, "
    else:
        result = f"Validation accuracy after {epochs}: {validation} (no test pictures, "
    print(f"\n{result}{history['images_per_second'][-1]:,.0f} images/s)")
    for observation in seen.values():
        if len(observation.shifts) > 1:
            spread, shift = observation.spread
            print(describe_spread(spread, shift, observation.images.shape[1:-1]))
    print(
        f"Models, history and figures: {folder}\n"
        f"Curves and warps: tensorboard --logdir {flags.log_dir}"
    )


def describe_spread(spread, shift, size):
    """A sentence on what `metrics.warp_spread` returned for images of a `size`."""
    if not math.isfinite(spread):
        return "Parameters of the transformer are NaN or infinite: its warps show nothing"
    varies, moves = f"Warps vary by {spread:.1f} pixels between images", f"{shift:.1f} pixels"
    if is_one_warp(spread, size):
        return f"{varies}: the transformer has settled on one warp, which moves corners by {moves}"
    return f"{varies}, about a mean warp that moves corners by {moves}"


def is_one_warp(spread, size):
    """Whether warps count as one: they differ by less than 1/32 of the images' longer side.

    That is one pixel in images of 32×32, or rotations with a standard deviation of 2.5°. A CNN with
    pooling is insensitive to that. To undo rotations by up to ±45°, warps must differ ten times as
    much.
    """
    return spread < max(size) / 32


def loss_note(recipe):
    """A note on why the training loss of a recipe can be above the others, or None."""
    causes = []
    if recipe.dropout or recipe.spatial_dropout:
        causes.append("with dropout")
    if recipe.flip or recipe.crop:
        causes.append("on mirrored and moved images")
    if not causes:
        return None
    return (
        f"The training loss is measured {' and '.join(causes)}, the others are not, so it may be "
        "above them."
    )


def print_error(error, flags):
    """Prints one of the `EXPECTED_ERRORS`, and how to resume the run; returns the exit status."""
    if isinstance(error, KeyboardInterrupt):
        message = f"interrupted. {how_to_resume(flags)}"
    elif isinstance(error, OSError):
        message = f"{files.explain(error)} (--output-dir, --log-dir). {how_to_resume(flags)}"
    elif isinstance(error, STORAGE_ERRORS):
        # TensorFlow puts the name of a node before the cause, and lines of detail after it.
        cause = str(error).partition("\n")[0].rpartition("}} ")[2]
        message = (
            f"{cause}\nMake room, or choose folders that can be written to with --output-dir and "
            f"--log-dir. {how_to_resume(flags)}"
        )
    else:
        message = str(error)
    sys.stdout.flush()
    print(f"\ntrain.py: {message}", file=sys.stderr, flush=True)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def how_to_resume(flags):
    if not runs.Run(flags.run, flags.output_dir, flags.log_dir).unfinished:
        return "Nothing had been trained yet."
    if flags.resume:
        words = flags.arguments
    else:
        words = ["--run", flags.run, "--resume"]
        if flags.output_dir != pathlib.Path("saved_models"):
            words += ["--output-dir", str(flags.output_dir)]
        if flags.log_dir != pathlib.Path("logs"):
            words += ["--log-dir", str(flags.log_dir)]
    command = shlex.join(["python", "train.py", *words])
    return f"What was saved is whole; resume it with: {command}"
