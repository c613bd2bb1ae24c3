"""Trains the spatial transformer network on CIFAR-10: `python train.py --epochs 50`.

Or on pictures of one's own, a folder with a sub-folder for each class: `--images FOLDER`.

The recipe `published` repeats the PyTorch run that this project starts from (60.29 % at epoch 50);
`tuned`, the default, trains the same network better, on the answers of a teacher; `untaught`, the
default for one's own pictures, does without. README.md has the measured results.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

import argparse
import dataclasses
import datetime
import json
import math
import pathlib
import platform
import shlex
import sys
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf

import stn_keras
from stn_keras import models, plots
from stn_keras.data import cifar10, pictures, pipeline
from stn_keras.training import (
    callbacks,
    distillation,
    files,
    history,
    optimizers,
    precision,
    resume,
)


def one_cycle(peak, warmup, steps):
    """A learning rate that rises in a line to `peak` over the share `warmup` of all steps, then
    falls along a cosine to 0."""
    rise = round(warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: plain or Nesterov SGD, at a constant rate or in one cycle.

    With `muon` the classifier's convolutions take orthogonal steps. With `teacher`, a share of the
    epochs, a better network is trained first, for so many of them; of the labels the share `trust`
    is its answers then, softened by `temperature`.
    """

    batch_size: int
    peak: float
    warmup: float = 0.0
    momentum: float = 0.0
    muon: bool = False
    weight_decay: float | None = None
    gradient_scale: float = 1.0
    spatial_dropout: float = 0.0
    dropout: float = 0.0
    flip: bool = False
    crop: int = 0
    teacher: float = 0.0
    temperature: float = 1.0
    trust: float = 0.0

    def network(self, transformer=True, **settings):
        """`models.cifar10_stn` with this recipe's dropout and gradient scale."""
        return models.cifar10_stn(
            transformer,
            spatial_dropout=self.spatial_dropout,
            dropout=self.dropout,
            gradient_scale=self.gradient_scale,
            **settings,
        )

    def teacher_epochs(self, epochs):
        """How long a teacher is trained for a network trained for `epochs`; 0 where none is."""
        return int(self.teacher * epochs)

    def optimizer(self, steps):
        cycle = one_cycle(self.peak, self.warmup, steps)
        settings = {
            "learning_rate": cycle if self.warmup else self.peak,
            "momentum": self.momentum,
            "nesterov": self.momentum > 0,
            "weight_decay": self.weight_decay,
        }
        if self.muon:
            return optimizers.ConvMuon(**settings, exclude_layers=["localization"])
        return keras.optimizers.SGD(**settings)


RECIPES = {
    "published": Recipe(batch_size=64, peak=0.01, spatial_dropout=0.5, dropout=0.5),
    "untaught": Recipe(
        batch_size=128,
        peak=0.02,
        warmup=0.2,
        momentum=0.9,
        muon=True,
        weight_decay=1e-4,
        gradient_scale=0.1,
        dropout=0.35,
        flip=True,
        crop=3,
    ),
}
RECIPES["tuned"] = dataclasses.replace(
    RECIPES["untaught"], dropout=0.15, teacher=0.24, temperature=2.0, trust=0.9
)
TEACHER = dataclasses.replace(RECIPES["untaught"], peak=0.03, weight_decay=5e-4)

EVALUATED = 500  # images a batch
CHOSEN = (  # by flags
    "recipe",
    "epochs",
    "seed",
    "transformer",
    "validation_images",
    "image_size",
    "distribute",
)
FOLDERS = {
    "output_dir": pathlib.Path("saved_models"),
    "log_dir": pathlib.Path("logs"),
    "data_dir": None,
    "images": None,
}
BACKUP = "unfinished.npz"  # in the folder of a run that --resume can go on with
ANSWERS = "answers.npy"  # of its teacher, there too

# What TensorFlow makes of a full disk, a read-only folder, a lost one, a file in its place.
STORAGE_ERRORS = (
    tf.errors.ResourceExhaustedError,
    tf.errors.PermissionDeniedError,
    tf.errors.NotFoundError,
    tf.errors.FailedPreconditionError,
)


def train(args):
    recipe = RECIPES[args.recipe]
    folder, log_dir = args.output_dir / args.run, args.log_dir / args.run
    begin(args, recipe, folder, log_dir)

    training, held_out, test, classes = load(args)
    settings = {**describe(args, recipe), "classes": classes}
    if args.resume:
        check_same(folder, settings)
    shown = (*test, held_out)[0][0]

    strategy = devices(args, recipe, training[0], held_out[0])
    with strategy.scope():
        model = recipe.network(args.transformer, image_size=args.image_size, classes=len(classes))
        prepare(model, recipe, args.epochs * steps_per_epoch(recipe, training))
    backup, log = folder / BACKUP, folder / "history.csv"
    done = resume.restore(backup, model) if backup.exists() else 0  # epochs
    if done:
        history.cut(log, done)
    note(args, settings, model, folder, log_dir)
    announce(args, settings, model, done)

    answers = folder / ANSWERS
    if recipe.teacher_epochs(args.epochs):
        if not answers.exists():
            teach(args, recipe, training, held_out, strategy, answers)
        training = training[0], np.load(answers)
    best = max(history.read(log)["val_accuracy"]) if done else None
    with resume.finishing_epochs() as interruption:
        fit(
            model,
            recipe,
            training,
            held_out,
            seed=args.seed,
            epochs=args.epochs,
            done=done,
            callbacks=[
                callbacks.Throughput(len(training[0])),
                *(
                    callbacks.Evaluation(
                        pipeline.evaluation_batches(*split, batch_size=EVALUATED), "test"
                    )
                    for split in test
                ),
                callbacks.Checkpoint(
                    folder / "best.keras", monitor="val_accuracy", initial_value_threshold=best
                ),
                callbacks.Checkpoint(folder / "last.keras"),
                keras.callbacks.CSVLogger(log, append=done > 0),
                keras.callbacks.TensorBoard(log_dir, write_graph=False),
                callbacks.TransformerSummary(log_dir, shown[:256]),
                resume.Backup(backup),
                interruption,
            ],
        )

    found = history.read(log)
    plots.save(plots.curves({args.run: found}), folder / "curves.png")
    for figure in callbacks.draw(model, shown[:8]).values():
        plots.save(figure, folder / "warps.png")
    answers.unlink(missing_ok=True)
    backup.unlink()  # the run is finished
    conclude(args, found, folder)


def begin(args, recipe, folder, log_dir):
    """A new run's folders, or a begun one's checked; seed and precision."""
    if not args.resume:
        create(folder)
        create(log_dir)
    keras.utils.set_random_seed(args.seed)
    keras.config.set_dtype_policy(precision.choose(args.precision))
    if args.resume:
        files.clear(folder)
        check_same(folder, describe(args, recipe))  # before the data are loaded


def devices(args, recipe, images, held_out):
    """The strategy that divides batches among devices, or that of one device."""
    if args.distribute != "mirrored":
        return tf.distribute.get_strategy()
    strategy = tf.distribute.MirroredStrategy()
    check_even(strategy.num_replicas_in_sync, recipe.batch_size, images)
    check_even(strategy.num_replicas_in_sync, EVALUATED, held_out)
    return strategy


def prepare(model, recipe, steps):
    """Prepares the model for so many steps of training, on one-hot labels."""
    model.compile(
        optimizer=recipe.optimizer(steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def steps_per_epoch(recipe, training):
    return math.ceil(len(training[0]) / recipe.batch_size)


def fit(model, recipe, training, held_out, *, seed, epochs, done=0, callbacks=()):
    """Trains the model from epoch `done` on."""
    model.fit(
        pipeline.training_batches(
            *training,
            batch_size=recipe.batch_size,
            seed=seed,
            flip=recipe.flip,
            crop=recipe.crop,
            first_epoch=done,
        ),
        epochs=epochs,
        initial_epoch=done,
        steps_per_epoch=steps_per_epoch(recipe, training),
        shuffle=False,  # the batches are shuffled already
        validation_data=pipeline.evaluation_batches(*held_out, batch_size=EVALUATED),
        verbose=verbosity(),
        callbacks=callbacks,
    )


def verbosity():
    """Keras's: progress bars on a terminal, a line an epoch in a file."""
    return 1 if sys.stdout.isatty() else 2


def teach(args, recipe, training, held_out, strategy, path):
    """Trains a better network and saves its answers to all views of the training images."""
    epochs = recipe.teacher_epochs(args.epochs)
    keras.utils.set_random_seed(args.seed)  # the same with and without a transformer
    with strategy.scope():
        teacher = models.cifar10_teacher(image_size=args.image_size, classes=held_out[1].shape[1])
        prepare(teacher, TEACHER, epochs * steps_per_epoch(TEACHER, training))
    print(
        f"First its teacher, {teacher.count_params():,} parameters, whose answers it will learn",
        flush=True,
    )
    fit(teacher, TEACHER, training, held_out, seed=args.seed, epochs=epochs)
    print(f"Its answers to {pipeline.VIEWS} views of each image", flush=True)
    answers = distillation.soft_labels(
        teacher,
        *training,
        crop=recipe.crop,
        temperature=recipe.temperature,
        trust=recipe.trust,
        verbose=verbosity(),
    )
    with files.replacing(path) as temporary:
        np.save(temporary, answers)


def note(args, settings, model, folder, log_dir):
    """Writes what the run is down, once."""
    if not args.resume:
        with files.replacing(folder / "config.json") as path:
            path.write_text(json.dumps(settings, indent=2) + "\n")
    if not (folder / BACKUP).exists():
        callbacks.write_settings(log_dir, settings)
        callbacks.write_graph(log_dir, model)


def announce(args, settings, model, done):
    print(
        f"{model.name}, {model.count_params():,} parameters, recipe {args.recipe}, "
        f"{settings['precision']}, seed {args.seed}\n"
        + (f"Going on after epoch {done} of {args.epochs}\n" if args.resume else "")
        + f"Watch: tensorboard --logdir {args.log_dir}",
        flush=True,
    )


def conclude(args, found, folder):
    """Prints what was reached and where everything lies; `found` is the run's history."""
    validation = f"{found['val_accuracy'][-1]:.2%}"
    if "test_accuracy" in found:
        result = f"Test accuracy after {args.epochs} epochs: {found['test_accuracy'][-1]:.2%} "
        result += f"(validation {validation}, "
    else:
        result = f"Validation accuracy after {args.epochs} epochs: {validation} (no test pictures, "
    print(
        f"\n{result}{found['images_per_second'][-1]:,.0f} images/s)\n"
        f"Models, history and pictures: {folder}\n"
        f"Curves and warps: tensorboard --logdir {args.log_dir}"
    )


def load(args):
    """Training and validation images with one-hot labels, a list of test images, the classes.

    The last training images are held out: they choose the best epoch, and settings. The test
    images choose nothing; of pictures of one's own there are none.
    """
    if args.images:
        images, labels, classes, unreadable = pictures.load(args.images, args.image_size)
        for why in unreadable:
            print(f"Skipped: {why}", file=sys.stderr)
        test = []
    else:
        (images, labels), *test = cifar10.load(args.data_dir)
        classes = list(cifar10.CLASS_NAMES)
    args.validation_images = args.validation_images or (
        2000 if test else math.ceil(len(images) / 5)
    )
    rest = len(images) - args.validation_images
    if rest < 1:
        raise UsageError(
            f"--validation-images must be less than the {len(images)} images there are. "
            f"Received: {args.validation_images}"
        )
    splits = (images[:rest], labels[:rest]), (images[rest:], labels[rest:]), *test
    training, held_out, *test = (
        (images, keras.utils.to_categorical(labels, len(classes))) for images, labels in splits
    )
    return training, held_out, test, classes


def check_even(devices, batch_size, images):
    """Raises a UsageError where devices would get different parts of a batch.

    Their losses are averaged as if each had as many images.
    """
    for size in (min(batch_size, len(images)), len(images) % batch_size):
        if size % devices:
            raise UsageError(
                f"--distribute mirrored: a batch of {size} images can't be divided evenly among "
                f"{devices} devices; change --validation-images, or hide devices with "
                "CUDA_VISIBLE_DEVICES"
            )


def describe(args, recipe):
    """Everything needed to repeat the run."""
    return {
        "command": shlex.join(["python", "train.py", *args.arguments]),
        **{name: getattr(args, name) for name in CHOSEN},
        **{f"recipe_{name}": value for name, value in dataclasses.asdict(recipe).items()},
        "precision": keras.config.dtype_policy().name,
        **environment(),
    }


def environment():
    """Machine and versions."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
        "stn_keras": stn_keras.__version__,
    }


def create(folder):
    """Makes the folder; what an earlier run has saved in it is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    if unfinished(folder):
        raise UsageError(
            f"{folder} holds an unfinished run; go on with it by --resume, or choose another "
            "name with --run"
        )
    if any(folder.iterdir()):
        raise UsageError(f"{folder} holds an earlier run; choose another name with --run")


def unfinished(folder):
    """Whether a run with its settings saved was ended before it had done all its epochs."""
    begun = (folder / "config.json").exists() and not (folder / "last.keras").exists()
    return begun or (folder / BACKUP).exists()


def saved_settings(folder):
    return json.loads((folder / "config.json").read_text())


def check_same(folder, settings):
    """Raises a UsageError where a run's settings are not those that it was begun with."""
    saved = saved_settings(folder)
    decisive = (*CHOSEN, "precision", "classes")
    for name in settings:
        if (name in decisive or name.startswith("recipe_")) and settings[name] != saved.get(name):
            raise UsageError(
                f"{folder} was begun with {name}={saved.get(name)}. Received: "
                f"{name}={settings[name]}. Give --resume no other flags than --run and the "
                "folders, or choose another name with --run"
            )


def main(arguments=None):
    """Runs the command and returns its exit status."""
    args = None
    try:
        args = parse(arguments)
        train(args)
    except KeyboardInterrupt:
        return fail(f"interrupted. {how_to_go_on(args)}", status=130)
    except (UsageError, resume.BackupError, cifar10.DataError, pictures.PictureError) as error:
        return fail(error)
    except (OSError, *STORAGE_ERRORS) as error:
        # TensorFlow puts the name of a node before the cause, and lines of detail after it.
        cause = str(error).partition("\n")[0].rpartition("}} ")[2]
        return fail(
            f"{cause}\nMake room, or choose folders that can be written to with --output-dir and "
            f"--log-dir. {how_to_go_on(args)}"
        )
    return 0


def how_to_go_on(args):
    if args is None or not unfinished(args.output_dir / args.run):
        return "What was saved before is whole."
    words = ["python", "train.py", "--run", args.run, "--resume"]
    for flag, default in FOLDERS.items():
        if getattr(args, flag) != default:
            words += [f"--{flag.replace('_', '-')}", str(getattr(args, flag))]
    return f"What was saved is whole; go on with: {shlex.join(words)}"


class UsageError(Exception):
    """The command asks for what can't be done; the message says why and what would do."""


def fail(message, status=1):
    print(f"\ntrain.py: {message}", file=sys.stderr)
    return status


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Train a spatial transformer network on CIFAR-10 or pictures of your own.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=positive, default=50)
    parser.add_argument(
        "--recipe", choices=RECIPES, help="(default: tuned, or untaught on --images)"
    )
    parser.add_argument("--seed", type=natural, default=0, help="repeats a run")
    parser.add_argument("--precision", choices=precision.CHOICES, default="auto")
    parser.add_argument(
        "--no-transformer",
        dest="transformer",
        action="store_false",
        help="train the same classifier without its spatial transformer",
    )
    parser.add_argument(
        "--images", type=pathlib.Path, help="train on this folder, with a sub-folder per class"
    )
    parser.add_argument("--image-size", type=size, default=32, help="of --images, in pixels")
    parser.add_argument(
        "--validation-images",
        type=positive,
        help="held out of the training set (default: 2000, or a fifth of --images)",
    )
    parser.add_argument(
        "--distribute",
        choices=["mirrored"],
        help="divide every batch among all GPUs of this machine",
    )
    parser.add_argument("--run", help="name of the run and its folders (default: recipe and time)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the unfinished run of that name, with the settings it was begun with",
    )
    parser.add_argument("--output-dir", type=pathlib.Path)
    parser.add_argument("--log-dir", type=pathlib.Path, help="for TensorBoard")
    parser.add_argument("--data-dir", help="TFDS data folder (default: TFDS's own)")
    parser.set_defaults(**FOLDERS)
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(arguments)
    if args.resume:
        parser.set_defaults(**resumable(args))
        args = parser.parse_args(arguments)
    if args.image_size != 32 and not args.images:
        raise UsageError(
            "--image-size is for --images; a run on those is resumed with the same --images"
        )
    args.arguments = arguments
    args.recipe = args.recipe or ("untaught" if args.images else "tuned")
    args.run = args.run or f"{args.recipe}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return args


def resumable(args):
    """The settings of the unfinished run that `args` name."""
    if args.run is None:
        raise UsageError("--resume needs the name of a run: --run NAME")
    folder = args.output_dir / args.run
    if not (folder / "config.json").exists():
        raise UsageError(f"--resume: there is no run in {folder}; see --run and --output-dir")
    if not unfinished(folder):
        raise UsageError(f"--resume: the run in {folder} is finished; nothing is left to do")
    saved = saved_settings(folder)
    return {name: saved[name] for name in (*CHOSEN, "precision") if name in saved}


def positive(text):
    return integer(text, least=1)


def size(text):
    return integer(text, least=18)  # what the network's convolutions leave a pixel of


def natural(text):
    return integer(text, least=0)


def integer(text, least, most=2**32 - 1):  # NumPy's greatest seed
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}: {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
