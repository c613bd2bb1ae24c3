"""Writes the tables of distorted MNIST and CIFAR-10 and draws their figures, from files alone.

`python -m results.distorted` reads what `examples/distorted_mnist.py` and
`examples/distorted_cifar10.py` left in `results/distorted_*/`, one CSV file a cell, puts the
tables between the marks in `results/README.md`, and saves the figures beside the CSV files.
"""

import collections
import csv
import fnmatch
import pathlib
import statistics

import numpy as np
from matplotlib.figure import Figure

from stn_keras import curves, files, plots

FOLDER = pathlib.Path(__file__).parent
MNIST, CIFAR10 = FOLDER / "distorted_mnist", FOLDER / "distorted_cifar10"
PEAK = "peak of the learning rate"
# Patterns of models, and what a table says of those.
MNIST_RECIPE = {
    "epochs, fcn": ("*fcn*", "epochs"),
    "epochs, cnn": ("*cnn*", "epochs"),
    f"{PEAK}, without a transformer": ("[!s]*", "peak"),
    f"{PEAK}, with one": ("st-*", "peak"),
    "digits bent before, pixels": ("*", "elastic"),
}
CIFAR10_RECIPE = {"epochs": ("*", "epochs"), PEAK: ("*", "peak")}
BEGIN, END = "<!-- from here: python -m results.distorted -->", "<!-- to here -->"
VARIANTS = {
    "cnn": "no transformer, a larger dense layer",
    "frozen": "transformer frozen at the identity",
    "features": "transformer on the feature maps",
    "images": "transformer on the images",
}


def read(folder):
    """Rows of all cells by (model, distortion), one for each seed."""
    found = collections.defaultdict(list)
    for path in sorted(folder.glob("*-[0-9].csv")):
        with path.open() as file:
            (row,) = csv.DictReader(file)
        # Cells from before digits were bent don't say that they weren't.
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


def errors(rows):
    return [float(row["test_error"]) for row in rows]


def spread(values):
    """`mean ± deviation (how many)`."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation} ({len(values)})"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unique(names):
    return list(dict.fromkeys(names))


def distortions_of(keys):
    """The distortions of `(model, distortion)` keys, each once."""
    return unique(name for _, name in keys)


def mnist_table(cells, paper):
    distortions = distortions_of(paper)
    means = mean_errors(cells)

    def cell(model, name):
        key = model, name
        if key not in paper:
            return ""
        ours = spread(errors(cells[key])) if key in cells else "not run"
        good = key in cells and beats_paper(key, means, paper) and beats_plain(key, means)
        return f"{f'**{ours}**' if good else ours} · {paper[key]}"

    def parameters(model):
        counts = [int(row["parameters"]) for key in cells if key[0] == model for row in cells[key]]
        bounds = unique([min(counts), max(counts)]) if counts else []
        return " to ".join(f"{count:,}" for count in bounds)

    rows = [
        [model, parameters(model), *(cell(model, name) for name in distortions)]
        for model in unique(model for model, _ in paper)
    ]
    return table(["model", "parameters", *distortions], rows)


def mean_errors(cells):
    return {key: statistics.mean(errors(rows)) for key, rows in cells.items()}


def plain(key):
    """The network without a transformer in the same column, of one that has it."""
    model, name = key
    return model.split("-")[1], name


def transformed(key):
    return key[0].startswith("st-")


def beats_paper(key, means, paper):
    return transformed(key) and means[key] <= paper[key]


def beats_plain(key, means):
    return transformed(key) and means[key] < means.get(plain(key), 0)


def mnist_verdict(cells, paper):
    """How the networks with a transformer stand against the paper's, and the plain ones."""
    means = mean_errors(cells)
    keys = [key for key in paper if key in means and transformed(key)]
    above = [
        f"{' on '.join(key)} by {means[key] - paper[key]:.2f}"
        for key in keys
        if not beats_paper(key, means, paper)
    ]
    paired = [key for key in keys if plain(key) in means]
    no_better = [
        f"{' on '.join(key)} by {means[key] - means[plain(key)]:.2f}"
        for key in paired
        if not beats_plain(key, means)
    ]
    return (
        "Bold: a transformer at or below the paper's error, and below the plain network.\n\n"
        f"Cells with a transformer that have been run: {len(keys)}; at or below the paper's error: "
        f"{len(keys) - len(above)}.{listed('Above it', above)}\n\n"
        f"Those whose plain network has been run too: {len(paired)}; below it: "
        f"{len(paired) - len(no_better)}.{listed('Not below it', no_better)}"
    )


def recipes(cells, names, lines):
    """How each column was trained; a line's value: a pattern of models, and a field."""

    def cell(models, field, name):
        keys = [key for key in cells if key[1] == name and fnmatch.fnmatchcase(key[0], models)]
        return values([row for key in keys for row in cells[key]], field)

    rows = [[text, *(cell(*line, name) for name in names)] for text, line in lines.items()]
    return table(["recipe", *names], rows)


def values(rows, field):
    return ", ".join(unique(row[field] for row in rows))


def listed(title, items):
    return f" {title}, in points: {'; '.join(items)}." if items else ""


def cifar10_table(cells):
    distortions = distortions_of(cells)

    def accuracy(variant, name):
        rows = cells.get((variant, name))
        return spread([100 - error for error in errors(rows)]) if rows else "not run"

    def parameters(variant):
        rows = [row for key in cells if key[0] == variant for row in cells[key]]
        return f"{int(rows[0]['parameters']):,}" if rows else ""

    rows = [
        [text, parameters(variant), *(accuracy(variant, name) for name in distortions)]
        for variant, text in VARIANTS.items()
    ]
    return table(["network", "parameters", *distortions], rows)


def settings(cells):
    """What all cells of a table have in common, or between which bounds they differ."""
    rows = [row for group in cells.values() for row in group]
    seconds = [float(row["seconds"]) for row in rows]
    return (
        f"Batches of {values(rows, 'batch_size')}; {values(rows, 'precision')}; TensorFlow "
        f"{values(rows, 'tensorflow')}, Keras {values(rows, 'keras')}; {min(seconds):.0f} to "
        f"{max(seconds):.0f} seconds a cell, threads: {values(rows, 'threads') or 'one per core'}."
    )


def sections():
    """The generated part of `results/README.md`."""
    text = []
    cells = read(MNIST)
    if cells:
        paper = read_paper()
        text += [
            "## Distorted MNIST",
            "Test error in %: mean ± standard deviation (number of seeds) · the figure of "
            "[Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), table 1. "
            "`python -m examples.distorted_mnist` computes the cells.",
            mnist_table(cells, paper),
            mnist_verdict(cells, paper),
            recipes(cells, distortions_of(paper), MNIST_RECIPE),
            settings(cells),
            "![Test errors beside the paper's](distorted_mnist/errors.png)",
            "![Test images, and what the affine transformer of a CNN makes of them]"
            "(distorted_mnist/warps.png)",
            "![Mean test image of each digit before and after the transformer]"
            "(distorted_mnist/means.png)",
        ]
    cells = read(CIFAR10)
    if cells:
        text += [
            "## Distorted CIFAR-10",
            "Test accuracy in %, mean ± standard deviation (number of seeds). "
            "`python -m examples.distorted_cifar10` computes the cells, and says what they are.",
            cifar10_table(cells),
            recipes(cells, distortions_of(cells), CIFAR10_RECIPE),
            settings(cells),
            "![Test images, and what the transformer makes of them](distorted_cifar10/warps.png)",
        ]
    return "\n\n".join(text)


def replace(readme, text):
    """The document with `text` between its marks, which go to its end where there are none."""
    if BEGIN not in readme:
        readme = f"{readme.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def error_bars(cells, paper):
    """A panel for each distortion: our mean and range over seeds, and the paper's figure."""
    models, distortions = unique(m for m, _ in paper), distortions_of(paper)
    figure = Figure(figsize=(13, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(distortions), sharex=True, sharey=True)
    for panel, name in zip(panels, distortions):
        for height, model in enumerate(reversed(models)):
            if (model, name) in paper:
                panel.plot(paper[model, name], height, "|", color="black", markersize=14)
            if (model, name) in cells:
                values = errors(cells[model, name])
                color = curves.COLORS["st-" in model]
                panel.plot([min(values), max(values)], [height, height], color=color)
                panel.plot(statistics.mean(values), height, "o", color=color)
        panel.set(title=name, xlabel="test error, %")
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    ticks = (0.5, 1, 2, 5, 10, 20)
    panels[0].set_xscale("log")
    panels[0].set_xticks(ticks, ticks)
    panels[0].minorticks_off()
    panels[0].set_yticks(range(len(models)), reversed(models))
    panels[0].plot([], [], "|", color="black", markersize=14, label="paper")
    panels[0].plot([], [], "o-", color=curves.COLORS[1], label="with a transformer")
    panels[0].plot([], [], "o-", color=curves.COLORS[0], label="without")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def rows_of_images(pictures, kinds):
    """Two rows for each distortion, before above after, of the arrays that `kinds` names."""
    columns = len(next(iter(pictures.values()))[kinds[0]])
    figure = Figure(figsize=(columns + 0.6, 2.1 * len(pictures)), dpi=100, layout="constrained")
    groups = figure.subfigures(len(pictures), 1, squeeze=False)[:, 0]
    for group, (name, arrays) in zip(groups, pictures.items()):
        axes = group.subplots(2, columns)
        brightest = max(arrays[kind].max() for kind in kinds)
        for line, kind in zip(axes, kinds):
            for axis, image in zip(line, arrays[kind]):
                axis.imshow(image, cmap="gray", vmin=0, vmax=brightest)
                axis.set(xticks=[], yticks=[])
        axes[0, 0].set_ylabel(name, fontsize=12)
    return figure


def pictures(folder, model, distortions):
    """What cells of seed 0 have saved, by distortion."""
    paths = {name: folder / f"{model}-{name}-0.npz" for name in distortions}
    return {name: dict(np.load(path)) for name, path in paths.items() if path.exists()}


def main():
    paper, cells = read_paper(), read(MNIST)
    plots.save(error_bars(cells, paper), MNIST / "errors.png")
    for folder, model in ((MNIST, "st-cnn-affine"), (CIFAR10, "images")):
        saved = pictures(folder, model, distortions_of(paper))
        if saved:
            plots.save(rows_of_images(saved, ("images", "warped")), folder / "warps.png")
            means = rows_of_images(saved, ("mean_images", "mean_warped"))
            plots.save(means, folder / "means.png")
    readme = FOLDER / "README.md"
    with files.replacing(readme) as path:
        path.write_text(replace(readme.read_text(), sections()))


if __name__ == "__main__":
    main()
