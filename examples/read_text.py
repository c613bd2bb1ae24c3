"""Reading curved and tilted words, with and without a spatial transformer.

    python -m examples.read_text

trains readers of 3 to 8 random letters, each with three seeds, and writes their word accuracy,
character error rate and the straightness of the words to `results/read_text/<model>-<seed>.csv`:

- `plain`: no transformer, but wider layers, for the same number of parameters.
- `box`: the transformer crops the picture and scales it along both axes.
- `affine`, `projective`: transformers of these kinds.
- `spline`: a thin-plate spline of 2×8 control points, as in
  [RARE](https://arxiv.org/abs/1603.03915).
- `truth`: the reader of `plain`, on words straightened by their true curves.

All transformers are also trained without labels, as `examples/consistency.py` says.

`examples/distorted_mnist.py` explains the flags. With `--models FOLDER` an interrupted training is
resumed when the command is repeated, and its curves and warps are on TensorBoard in `logs/`. The
trained reader is `<model>-<seed>/reader.keras` there.
`python -m results.read_text` makes the tables and figures.

Words and fonts of the validation set chose the settings; those of the test set are reported.
"""

import math
import pathlib

import keras
import numpy as np

from examples import cells, consistency, word_data, word_reader
from stn_keras import SpatialTransformer, callbacks, transforms
from stn_keras.data import pipeline, words
from stn_keras.recipes import one_cycle
from stn_keras.system import files
from stn_keras.training import loop, runs

FOLDER = pathlib.Path(__file__).parents[1] / "results" / "read_text"
DATA = pathlib.Path("~/tensorflow_datasets/words").expanduser()
TRANSFORMS = {
    "plain": None,
    "box": transforms.Box(),
    "affine": transforms.Affine(),
    "projective": transforms.Projective(),
    "spline": transforms.ThinPlateSpline((2, 8)),
    "truth": None,
}
SHOWN = 9  # test words whose pictures are saved, a third of each strength
BATCH_SIZE, EPOCHS, PEAK, WARM_UP = 64, 24, 0.003, 0.05


def table():
    """Settings of all trainings by name."""
    return {
        f"{model}-{seed}": {"model": model, "seed": seed}
        for seed in range(3)
        for model in ("spline", "plain", "box", "affine", "projective", "truth")
    }


def build(model, transformer=SpatialTransformer):
    if model == "truth":
        return word_reader.build(filters=word_reader.WIDE, size=word_data.STRAIGHT_SIZE)
    if model == "plain":
        return word_reader.build(filters=word_reader.WIDE)
    return word_reader.build(TRANSFORMS[model], transformer=transformer)


def train(cell, path, epochs, folder):
    """Trains one reader; returns its results and what it was trained with."""
    splits = {name: word_data.load(name, DATA) for name in word_data.COUNTS}
    shown = {
        name: split.straight if cell["model"] == "truth" else split.images
        for name, split in splits.items()
    }
    model = build(cell["model"], consistency.Consistent)
    epochs = epochs or EPOCHS
    run = fit(model, cell, shown, splits, epochs, folder)
    row = {"parameters": model.count_params(), "epochs": epochs, "batch_size": BATCH_SIZE}
    for name in ("validation", "test"):
        row |= measure(model, shown[name], splits[name], name)
    if cell["seed"] == 0:
        save_words(path.with_suffix(".npz"), model, shown["test"][:SHOWN], splits["test"])
    if run is not None:
        save_reader(folder / "reader.keras", model, cell["model"])
        run.finish()
    precision = keras.config.dtype_policy().name
    return {**row, "optimizer": "AdamW", "peak": PEAK, "warm_up": WARM_UP, "precision": precision}


def fit(model, cell, shown, splits, epochs, folder):
    """Trains a reader; returns its unfinished `Run`, or None without a folder."""
    steps = math.ceil(len(shown["training"]) / BATCH_SIZE)
    optimizer = keras.optimizers.AdamW(one_cycle(PEAK, WARM_UP, epochs * steps), weight_decay=0.01)
    # XLA takes twice as long for the convolutions on a CPU.
    model.compile(optimizer, keras.losses.CTC(), jit_compile=False)
    run, done = None, 0
    if folder is not None:
        run = runs.Run(folder.name, folder.parent, "logs")
        run.resumed = run.unfinished
        settings = {
            "recipe": "read_text",
            "seed": cell["seed"],
            "epochs": epochs,
            "transformer": cell["model"],
            "precision": keras.config.dtype_policy().name,
            **runs.environment(),
        }
        run.check(settings)
        done = run.start(settings, model)
    loop.fit(
        model,
        pipeline.training_batches(
            shown["training"],
            splits["training"].labels,
            batch_size=BATCH_SIZE,
            seed=cell["seed"],
            first_epoch=done,
        ),
        epochs=epochs,
        steps=steps,
        run=run,
        epochs_done=done,
        measuring=[word_reader.Reading(shown["validation"], splits["validation"].labels)],
        writing=[callbacks.TransformerSummary(run.log_dir, shown["validation"][:8])] if run else (),
    )
    return run


def save_reader(path, trained, kind):
    """Saves a trained reader, with an ordinary transformer, for everything but more training."""
    reader = build(kind)
    reader.set_weights(trained.get_weights())
    with files.replacing(path) as temporary:
        reader.save(temporary)


def measure(model, images, split, name):
    """Word accuracy and character error rate in %, and the words' unevenness before and after the
    warp, by strength."""
    read, true = word_reader.read(model, images), words.spell(split.labels)
    before = word_reader.unevenness(split.lines)
    after = None
    if "transformer" in {layer.name for layer in model.layers}:
        after = word_reader.unevenness(word_reader.warped_lines(model, images, split.lines))
    row = {}
    for number, strength in enumerate(word_data.STRENGTHS):
        chosen = split.strengths == number
        row |= {
            f"{name}_words_{strength}": 100 * np.mean(read[chosen] == true[chosen]),
            f"{name}_characters_{strength}": 100
            * word_reader.character_errors(read[chosen], true[chosen]),
            f"{name}_uneven_before_{strength}": np.nanmean(before[chosen]),
            f"{name}_uneven_after_{strength}": "" if after is None else np.nanmean(after[chosen]),
        }
    return {key: value if value == "" else f"{value:.6g}" for key, value in row.items()}


def save_words(path, model, images, split):
    """Saves the first test words as the reader sees them, with the words read and the true ones."""
    seen = images
    if "transformer" in {layer.name for layer in model.layers}:
        seen = keras.Model(model.inputs, model.get_layer("transformer").output)(images)
    seen = np.asarray(seen, "float32")
    low, high = seen.min((1, 2, 3), keepdims=True), seen.max((1, 2, 3), keepdims=True)
    with files.replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            seen=np.round(255 * (seen - low) / (high - low)).astype("uint8"),
            read=word_reader.read(model, images),
            true=words.spell(split.labels[: len(images)]),
        )


def main(arguments=None):
    description, letters = "Train readers of curved and tilted words.", [*words.ALPHABET]
    cells.main("examples.read_text", description, FOLDER, table(), train, letters, arguments)


if __name__ == "__main__":
    main()
