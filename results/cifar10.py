"""Writes the table of the CIFAR-10 runs and draws their figures.

`python -m results.cifar10` reads every `results/cifar10/<group>-<seed>/history.csv`, a copy of
what `train.py` wrote to `saved_models/<group>-<seed>/`. It puts the table between its marks in
`results/README.md` and saves the figures to `results/cifar10/`. The names in a `config.json` are
those of the version that wrote it.
"""

import collections
import pathlib

from results import report
from stn_keras import history, plots

FOLDER = pathlib.Path(__file__).parent / "cifar10"
FLAGS = {
    "tuned": "`--epochs 50`",
    "tuned-cnn": "`--epochs 50 --no-transformer`",
    "published": "`--recipe published`",
}
NAMES = {
    "tuned": 'recipe "tuned"',
    "tuned-cnn": "the same without transformer",
    "published": 'recipe "published"',
}


def groups():
    """Histories of all seeds by group: `{"tuned": [history, ...], ...}`."""
    found = collections.defaultdict(list)
    for path in sorted(FOLDER.glob("*/history.csv")):
        found[path.parent.name.rpartition("-")[0]].append(history.read(path))
    return dict(found)


def row(name, histories):
    final = [100 * history["test_accuracy"][-1] for history in histories]
    seeds = ", ".join(f"{accuracy:.2f}" for accuracy in final)
    epochs = len(histories[0]["epoch"])
    return [f"`{name}`", FLAGS[name], str(epochs), report.mean(final), seeds]


def table(runs):
    heads = ["runs", "flags of `train.py`", "epochs", "test accuracy, %", "each seed"]
    return report.table(heads, [row(name, runs[name]) for name in FLAGS if name in runs])


def draw(runs):
    log = history.read(FOLDER / "pytorch_published_log.csv")
    reference = (log["epoch"], log["test_accuracy"])
    long = {name: h for name, h in runs.items() if len(h[0]["epoch"]) > 10}
    for file, chosen in (("published", ["published"]), ("curves", long)):
        figure = plots.curves(
            {NAMES[name]: long[name] for name in chosen if name in long},
            reference,
            evaluation="test",
            reference_name="PyTorch, published log",
        )
        plots.save(figure, FOLDER / f"{file}.png")


def main():
    runs = groups()
    print(table(runs))
    report.write("results.cifar10", table(runs))
    draw(runs)


if __name__ == "__main__":
    main()
