"""Draws the figures and prints the table of the CIFAR-10 runs, from their files alone.

`python -m results.cifar10` reads every `results/cifar10/<group>-<seed>/history.csv`, a copy of
what `train.py` wrote to `saved_models/<group>-<seed>/`. results/README.md says what the groups are;
the names in a `config.json` are those of the version that wrote it.
"""

import collections
import pathlib
import statistics

from stn_keras import plots
from stn_keras.training import history

FOLDER = pathlib.Path(__file__).parent / "cifar10"


def groups():
    """Histories of all seeds by group: `{"tuned": [history, ...], ...}`."""
    found = collections.defaultdict(list)
    for path in sorted(FOLDER.glob("*/history.csv")):
        found[path.parent.name.rpartition("-")[0]].append(history.read(path))
    return dict(found)


def row(name, histories):
    final = [100 * history["test_accuracy"][-1] for history in histories]
    deviation = f" ± {statistics.stdev(final):.2f}" if len(final) > 1 else ""
    seeds = ", ".join(f"{accuracy:.2f}" for accuracy in final)
    epochs = len(histories[0]["epoch"])
    return f"| {name} | {epochs} | {statistics.mean(final):.2f}{deviation} | {seeds} |"


def main():
    runs = groups()
    print("| runs | epochs | test accuracy, % | each seed |\n|---|---|---|---|")
    for name, histories in runs.items():
        print(row(name, histories))
    log = history.read(FOLDER / "pytorch_published_log.csv")
    reference = (log["epoch"], log["test_accuracy"])
    long = {name: h for name, h in runs.items() if len(h[0]["epoch"]) > 10}
    for file, chosen in (("published", ["published"]), ("curves", list(long))):
        figure = plots.curves(
            {name: long[name] for name in chosen if name in long},
            reference,
            evaluation="test",
            reference_name="PyTorch, published log",
        )
        plots.save(figure, FOLDER / f"{file}.png")


if __name__ == "__main__":
    main()
