"""Train a spatial transformer network on CIFAR-10 or on your own images.

    python train.py --epochs 50

reaches 78.18 ± 0.40 % on CIFAR-10's test images with the recipe `tuned` (three seeds). `--recipe
published` repeats the published PyTorch run, which reached 60.29 %. `--compare` tells whether the
transformer makes a difference. results/README.md has every run, docs/train_script.md explains what
a run writes, and `python train.py --help` lists all flags.
"""

import math
import signal
import sys

import train_flags
from stn_keras.system import terminal

EVALUATED = 500  # images a batch


def train(flags, data=None):
    """Trains a network, on `data` if they are loaded already, or compares several.

    Returns whether Ctrl-C was pressed in the last epoch.
    """
    import keras

    from stn_keras import callbacks, precision, recipes
    from stn_keras.data import pipeline
    from stn_keras.training import devices, loop, messages, runs, splits

    # Flags. Check everything that can be checked before the data are loaded.
    run = runs.Run(flags.run, flags.output_dir, flags.log_dir, resumed=flags.resume)
    if flags.resume:
        flags = train_flags.parse(flags.arguments, **runs.saved_flags(run))
    recipe = recipes.RECIPES[flags.recipe]
    keras.config.set_image_data_format("channels_last")  # as the data are
    keras.utils.set_random_seed(flags.seed)
    keras.config.set_dtype_policy(precision.choose(flags.precision))
    settings = runs.settings(flags, recipe)
    run.check(settings)

    # Data.
    if data is None:
        data = splits.load(
            flags.images,
            image_size=flags.image_size,
            validation_images=flags.validation_images,
            data_dir=flags.data_dir,
        )
        messages.print_data(data)
    batch_size = recipe.batch_size_for(len(data.training.images))
    steps = math.ceil(len(data.training.images) / batch_size)
    settings |= {
        "classes": data.classes,
        "batch_size": batch_size,
        "validation_images": len(data.validation.images),
    }
    validation = pipeline.evaluation_batches(*data.validation, batch_size=EVALUATED)
    tests = [pipeline.evaluation_batches(*data.test, batch_size=EVALUATED)] if data.test else []

    # Model.
    batches = [(len(data.training.images), batch_size), (len(data.validation.images), EVALUATED)]
    strategy = devices.strategy(flags.distribute, batches)
    if flags.compare:
        return compare(run, settings, data)
    with strategy.scope():
        model = recipe.model(
            flags.transformer, image_size=flags.image_size, classes=len(data.classes)
        )
        model.compile(
            optimizer=recipe.optimizer(flags.epochs * steps),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    epochs_done = run.start(settings, model)
    messages.print_start(flags, settings, model, epochs_done)

    # Fit, and evaluate after every epoch.
    interrupted = loop.fit(
        model,
        pipeline.training_batches(
            *data.training,
            batch_size=batch_size,
            seed=flags.seed,
            flip=recipe.flip,
            crop=recipe.crop,
            first_epoch=epochs_done,
        ),
        epochs=flags.epochs,
        steps=steps,
        validation_data=validation,
        run=run,
        epochs_done=epochs_done,
        measuring=[
            callbacks.Throughput(len(data.training.images)),
            *(callbacks.Evaluation(batches, "test") for batches in tests),
            callbacks.Checkpoint(
                callbacks.literal(run.folder / "best.keras"),
                monitor="val_accuracy",
                initial_value_threshold=run.best("val_accuracy", epochs_done),
            ),
        ],
        writing=[
            callbacks.TransformerSummary(run.log_dir, data.shown[:256]),
            callbacks.ProgressBar(),
            # After the last epoch, or after that in which Ctrl-C was pressed.
            keras.callbacks.LambdaCallback(
                on_train_end=lambda logs: report(flags, recipe, data, run, model)
            ),
        ],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    run.finish()
    return interrupted


def compare(run, settings, data):
    """Trains the networks of a comparison that are not finished yet, and prints their table."""
    import keras

    from stn_keras.training import comparison

    run.open(settings)
    for number, arguments in comparison.remaining(run, settings):
        print(f"\nRun {number} of {2 * settings['seeds']}", flush=True)
        keras.backend.clear_session()
        if train(train_flags.parse(arguments), data):
            raise KeyboardInterrupt
    print(f"\n{comparison.report(run, settings, data)}\n\nModels and this table: {run.folder}")


def report(flags, recipe, data, run, model):
    """Saves the figures and prints the result; the callbacks have saved the models."""
    from stn_keras.training import loop, messages

    results, seen = loop.draw(
        run.folder,
        model,
        data.shown[:256],
        evaluation=("val", "test"),
        note=messages.loss_note(recipe),
    )
    messages.print_result(flags, data, results, run.folder, seen)


def main(arguments=None):
    """Runs the command and returns its exit status."""
    terminal.prepare()
    flags = train_flags.parse(sys.argv[1:] if arguments is None else arguments)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports silently
    try:
        with terminal.quiet():
            import keras

            keras.ops.zeros(())  # looks for GPUs
            from stn_keras.training import messages
    except ModuleNotFoundError as error:
        print(f"train.py: {error}; pip install -r requirements.txt", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, before)
    try:
        train(flags)
        sys.stdout.flush()
    except BrokenPipeError:
        status = terminal.give_up()
        print(f"train.py: {messages.how_to_resume(flags)}", file=sys.stderr)
        return status
    except messages.EXPECTED_ERRORS as error:
        return messages.print_error(error, flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
