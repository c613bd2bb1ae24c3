"""Writes the tables of distorted MNIST and CIFAR-10 and draws their figures.

`python -m results.distorted` reads what `examples/distorted_mnist.py` and
`examples/distorted_cifar10.py` wrote to `results/distorted_*/`, one CSV file for each model,
distortion and seed. It puts the tables between its marks in `results/README.md` and saves the
figures in the folders of the CSV files.
"""

import collections
import csv
import functools
import pathlib
import statistics

from results import figures, report, tables
from stn_keras import plots

FOLDER = pathlib.Path(__file__).parent
MNIST, CIFAR10 = FOLDER / "distorted_mnist", FOLDER / "distorted_cifar10"
PEAK = "peak of the learning rate"
# Patterns of models, and a field of their CSV files.
MNIST_RECIPE = {
    "epochs, dense layers": ("*fcn*", "epochs"),
    "epochs, CNN": ("*cnn*", "epochs"),
    f"{PEAK}, without a transformer": ("[!s]*", "peak"),
    f"{PEAK}, with a transformer": ("st-*", "peak"),
    "elastic augmentation of training digits, pixels": ("*", "elastic"),
}
CIFAR10_RECIPE = {"epochs": ("*", "epochs"), PEAK: ("*", "peak")}
VARIANTS = {
    "cnn": "no transformer, a larger dense layer",
    "frozen": "transformer frozen at the identity",
    "features": "transformer on the feature maps",
    "images": "transformer on the images",
    "wide": "no transformer, 16 and 32 filters, dropout 0.1",
    "orientation": "the same behind `Orientation`",
    "supervised": "the same, the true angles as labels",
    "given": "the same, the true angles given",
}
# Models whose errors are compared, each with its baseline.
MNIST_PAIRS = (("st-cnn-affine", "cnn"), ("st-cnn-thin_plate_spline", "cnn"))
CIFAR10_PAIRS = (
    ("images", "frozen"),
    ("images", "cnn"),
    ("features", "cnn"),
    ("features", "images"),
    ("orientation", "wide"),
)
FIGURES = {
    "warps": functools.partial(figures.rows_of_images, before="images", after="warped"),
    "means": functools.partial(figures.rows_of_images, before="mean_images", after="mean_warped"),
    "angles": figures.angles,
}


def read(folder):
    """Rows of the CSV files by (model, distortion), one for each seed."""
    found = collections.defaultdict(list)
    for row in report.rows(folder):
        # Files from before the elastic augmentation have no such field.
        found[row["model"], row["distortion"]].append({"elastic": "0.0", **row})
    return dict(found)


def read_paper():
    """The paper's errors in % by (model, distortion), in its order."""
    with (MNIST / "paper.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        (row["model"], name): float(error)
        for row in rows
        for name, error in row.items()
        if name != "model" and error
    }


def mnist_table(cells, paper):
    errors, counted = tables.errors_of(cells), gaps(cells, paper)

    def show(key):
        if key not in paper:
            return ""
        ours = tables.spread(errors[key]) if key in errors else "not run"
        reached = " ✓" if counted.get(key, 1) <= 0 else ""
        return f"{ours} · {paper[key]}{reached}"

    return tables.results(cells, tables.NETWORKS, figures.axes(paper)[1], show)


def cifar10_table(cells, distortions):
    errors = tables.errors_of(cells)

    def show(key):
        return tables.spread([100 - error for error in errors[key]]) if key in errors else "not run"

    return tables.results(cells, VARIANTS, distortions, show)


def gaps(cells, paper):
    """Mean error minus the paper's, where it counts: a transformer and enough seeds."""
    errors = tables.errors_of(cells)
    return {
        key: round(statistics.mean(errors[key]) - error, 6)
        for key, error in paper.items()
        if transformed(key) and len(errors.get(key, ())) >= tables.SEEDS
    }


def transformed(key):
    return key[0].startswith("st-")


def mnist_verdict(cells, paper):
    """How many results reach the paper's error, and by how much the others miss it."""
    counted = gaps(cells, paper)
    above = [
        f"{tables.NETWORKS[model]} ({tables.DISTORTIONS[distortion]}) by {gap:.2f}"
        for (model, distortion), gap in counted.items()
        if gap > 0
    ]
    return (
        f"✓: with a transformer, at least {tables.SEEDS} seeds, and a mean at or below the paper's "
        "error. Only these count as reached.\n\n"
        f"Results with a transformer: {sum(map(transformed, cells))}; with at least {tables.SEEDS} "
        f"seeds: {len(counted)}; of these at or below the paper's error: "
        f"{len(counted) - len(above)}."
        + (f" Above it, in points: {'; '.join(above)}." if above else "")
    )


def mnist_section():
    cells, paper = read(MNIST), read_paper()
    distortions = figures.axes(paper)[1]
    return (
        "## Distorted MNIST",
        "Test error in %: mean ± standard deviation (number of seeds) · the error in "
        "[Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), table 1. "
        "`python -m examples.distorted_mnist` trains the networks.",
        mnist_table(cells, paper),
        mnist_verdict(cells, paper),
        tables.DIFFERENCES,
        tables.effects(cells, MNIST_PAIRS, tables.NETWORKS, distortions),
        tables.recipes(cells, distortions, MNIST_RECIPE),
        tables.settings(cells),
        "![Test errors beside the paper's](distorted_mnist/errors.png)",
        "![Test images, each above its warp by the affine transformer of a CNN]"
        "(distorted_mnist/warps.png)",
        "![Mean test image of each digit, above the mean of its warps](distorted_mnist/means.png)",
    )


def cifar10_section():
    cells = read(CIFAR10)
    distortions = figures.axes(cells)[1]
    return (
        "## Distorted CIFAR-10",
        "Test accuracy in %: mean ± standard deviation (number of seeds). "
        "`python -m examples.distorted_cifar10` trains the networks and describes them.",
        cifar10_table(cells, distortions),
        "Differences of test error, as above:",
        tables.effects(cells, CIFAR10_PAIRS, VARIANTS, distortions),
        tables.recipes(cells, distortions, CIFAR10_RECIPE),
        tables.settings(cells),
        "![Test images, each above its warp by the transformer on the images]"
        "(distorted_cifar10/warps.png)",
        "![The same behind `Orientation`](distorted_cifar10/warps-orientation.png)",
        "![Angles found in test images against the true ones]"
        "(distorted_cifar10/angles-orientation.png)",
    )


def sections():
    """The generated part of `results/README.md`."""
    return "\n\n".join([*mnist_section(), *cifar10_section()])


def draw(folder, model, distortions, **names):
    """Saves figures of a model's test images, `names` of `FIGURES` with names of files."""
    saved = figures.read_images(folder, model, distortions)
    if saved:
        for figure, name in names.items():
            plots.save(FIGURES[figure](saved), folder / name)


def main():
    paper = read_paper()
    plots.save(figures.error_bars(tables.errors_of(read(MNIST)), paper), MNIST / "errors.png")
    distortions = figures.axes(paper)[1]
    draw(MNIST, "st-cnn-affine", distortions, warps="warps.png", means="means.png")
    distortions = figures.axes(read(CIFAR10))[1]
    draw(CIFAR10, "images", distortions, warps="warps.png")
    names = {"warps": "warps-orientation.png", "angles": "angles-orientation.png"}
    draw(CIFAR10, "orientation", distortions, **names)
    report.write("results.distorted", sections())


if __name__ == "__main__":
    main()
