"""Registration by a learned warp: MNIST digits, and brains.

    python -m examples.register --data mnist
    python -m examples.register --data mni152    # needs pip install ".[register]"

trains a network without labels. From a moving and a fixed image it predicts a velocity, which is
integrated to a smooth warp of the moving image onto the fixed one. With `--no-integration` it
predicts the displacement itself.

The program measures the warps of unseen pairs. It writes the results to
`results/registration/<data>-<field>-<seed>.csv`, and a picture to the same folder. `python -m
results.registration` makes the table. To continue an interrupted run, repeat the command.
`examples.register_one_pair` measures `stn_keras.register` on the same brains, without training.

The pairs of MNIST are the same digit in two handwritings. Those of MNI152 are the T1 template and
smooth random diffeomorphisms of it, at 2 mm.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only

import keras
import numpy as np

from examples import cells, register_networks, register_report
from examples.register_pairs import VALIDATION_SEED, Batches, Brains, digits, mni152
from stn_keras import history, losses, plots, recipes
from stn_keras.training import loop, messages, runs

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "registration"
VALIDATION_BATCHES = 10


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings for one kind of data; `levels` and `channels` are those of `register_networks`."""

    levels: tuple
    channels: int
    similarity: keras.losses.Loss
    smoothness: float  # weight of the velocity's squared gradient
    peak: float  # of the learning rate
    batch_size: int
    epochs: int
    steps: int  # in an epoch


RECIPES = {
    "mnist": Recipe((1,), 16, keras.losses.MeanSquaredError(), 0.002, 0.002, 64, 10, 150),
    "mni152": Recipe((2, 1), 24, losses.LocalCrossCorrelation(5), 0.1, 0.001, 2, 24, 100),
}
# The velocities that warp the brains: smoothing and standard deviation, in voxels of 2 mm.
SPREAD, SPEED = 12.0, 2.85


def load(data):
    """Three functions that make pairs: for training, validation and test."""
    if data == "mnist":
        return digits()
    brains = Brains(mni152(), SPREAD, SPEED)
    return brains, brains, brains


def train(args):
    recipe = RECIPES[args.data]
    epochs = args.epochs or recipe.epochs
    name = f"{args.data}-{'velocity' if args.integration else 'displacement'}-{args.seed}"
    path = args.results_dir / f"{name}.csv"
    if path.exists():
        print(f"{path} exists; nothing is left to do")
        return
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(args.seed)
    run = runs.Run(name, args.output_dir, args.log_dir)
    run.resumed = run.unfinished
    settings = describe(args, recipe, epochs)
    run.check(settings)

    training, validation, test = load(args.data)
    pairs = training(np.random.default_rng(0), 1)
    model = register_networks.build(
        pairs[0].shape[1:-1], recipe.levels, recipe.channels, integrate=args.integration
    )
    optimizer = keras.optimizers.Adam(recipes.one_cycle(recipe.peak, 0.1, epochs * recipe.steps))
    register_networks.compile_model(
        model, recipe.levels, optimizer, recipe.similarity, recipe.smoothness
    )
    done = run.start(settings, model)
    if done:
        print(f"{name} goes on after epoch {done}")
    fit(model, run, recipe, training, validation, epochs, done, args.seed)
    report(model, args, run, test, settings, path)
    run.finish()


def command(args):
    """The command line of a run, without its folders."""
    words = ["python -m examples.register --data", args.data, "--seed", args.seed]
    words += ["--epochs", args.epochs] if args.epochs else []
    return " ".join(map(str, words + ([] if args.integration else ["--no-integration"])))


def describe(args, recipe, epochs):
    """The settings of a run."""
    values = dataclasses.asdict(recipe) | {"similarity": recipe.similarity.name, "epochs": epochs}
    return {
        "command": command(args),
        "recipe": args.data,
        "seed": args.seed,
        "epochs": epochs,
        "transformer": "velocity" if args.integration else "displacement",
        "precision": keras.config.dtype_policy().name,
        **{f"recipe_{name}": str(value) for name, value in values.items()},
        **runs.environment(),
    }


def fit(model, run, recipe, training, validation, epochs, done, seed):
    def batches(pairs, steps, seed, first_epoch=0):
        return Batches(
            pairs,
            recipe.levels,
            batch_size=recipe.batch_size,
            steps=steps,
            seed=seed,
            first_epoch=first_epoch,
        )

    shown = validation(np.random.default_rng(VALIDATION_SEED), 4)
    held_out = batches(validation, VALIDATION_BATCHES, VALIDATION_SEED)
    held_out.on_epoch_end = lambda: None  # the same in every epoch
    loop.fit(
        model,
        batches(training, recipe.steps, seed, done),
        epochs=epochs,
        steps=recipe.steps,
        validation_data=held_out,
        run=run,
        epochs_done=done,
        measuring=[Seconds()],
        writing=[register_report.Pictures(run.log_dir, *shown)],
    )


class Seconds(keras.callbacks.Callback):
    """Adds an epoch's wall-clock time and processor time, of training only, to the logs."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter(), time.process_time()

    def on_test_begin(self, logs=None):
        self.stop = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs):
        logs["seconds"] = self.stop[0] - self.start[0]
        logs["cpu_seconds"] = self.stop[1] - self.start[1]


def report(model, args, run, test, settings, path):
    """Measures a trained model, and writes the row of the table and the picture."""
    if args.data == "mnist":
        results = register_report.measure_digits(model, test)
        moving, fixed = test(np.random.default_rng(args.seed), 5)
    else:
        displacement_of = functools.partial(register_report.whole_displacement, model, test)
        results = register_report.measure_brains(displacement_of, test)
        moving, fixed = test(np.random.default_rng(args.seed), 1)
    outputs = register_report.predict(model, moving, fixed)
    drawn = register_report.figure(moving, fixed, outputs["warped"], outputs["displacement"])
    plots.save(drawn, path.with_suffix(".png"))
    trained = run_times(run)
    row = {"run": run.name, "data": args.data, "field": settings["transformer"]}
    row |= {name: f"{value:.6g}" for name, value in (results | trained).items()}
    row |= {"parameters": model.count_params()}
    cells.write(path, {**row, **settings})
    print(", ".join(f"{name} {float(value):.4g}" for name, value in results.items()))


def run_times(run):
    """Seconds of training, added up over the epochs."""
    log = history.read(run.history)
    return {f"training_{name}": sum(log[name]) for name in ("seconds", "cpu_seconds")}


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Train and measure a network that registers pairs of images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=RECIPES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument(
        "--integration", action=argparse.BooleanOptionalAction, default=True, help="of a velocity"
    )
    parser.add_argument("--output-dir", type=pathlib.Path, default="saved_models")
    parser.add_argument("--log-dir", type=pathlib.Path, default="logs")
    parser.add_argument("--results-dir", type=pathlib.Path, default=RESULTS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Runs the command and returns its exit status."""
    args = parse(arguments)
    return run_for(args.results_dir, train, args)


def run_for(results_dir, work, *arguments):
    """Calls `work`, which writes to a folder; returns a command's exit status."""
    results_dir.mkdir(parents=True, exist_ok=True)
    try:
        work(*arguments)
    except messages.USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
