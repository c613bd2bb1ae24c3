"""Tables of distorted images, from rows of CSV files by (model, distortion), one for each seed."""

import fnmatch
import math
import statistics

import tensorflow as tf

from results import report

SEEDS = 3  # A result of fewer is shown, but not counted.
DISTORTIONS = {
    "R": "rotation",
    "RTS": "rotation, scaling, translation",
    "P": "perspective",
    "E": "elastic",
    "TC": "clutter",
}
NETWORKS = {
    "fcn": "dense layers",
    "cnn": "CNN",
    "st-fcn-affine": "dense layers, affine transformer",
    "st-fcn-projective": "dense layers, projective",
    "st-fcn-thin_plate_spline": "dense layers, thin-plate spline",
    "st-cnn-affine": "CNN, affine transformer",
    "st-cnn-projective": "CNN, projective",
    "st-cnn-thin_plate_spline": "CNN, thin-plate spline",
}
DIFFERENCES = (
    "Difference of the mean test errors ± its standard error, and the p-value of Welch's t test, "
    "not corrected for multiple comparisons. Negative: the first network makes fewer errors. "
    f"Bold: p < 0.05. Empty: fewer than {SEEDS} seeds."
)


def errors_of(cells):
    """Test errors in %, one for each seed."""
    return {key: [float(row["test_error"]) for row in rows] for key, rows in cells.items()}


def results(cells, labels, distortions, show):
    """A row for each of `labels`, `{model: label}`: its parameters, then `show(key)`."""

    def parameters(model):
        rows = [row for key in cells if key[0] == model for row in cells[key]]
        numbers = sorted({int(row["parameters"]) for row in rows})
        return " to ".join(f"{number:,}" for number in dict.fromkeys(numbers[:1] + numbers[-1:]))

    rows = [
        [label, parameters(model), *(show((model, name)) for name in distortions)]
        for model, label in labels.items()
    ]
    return report.table(["network", "parameters", *distortions], rows)


def spread(values):
    """`mean ± deviation (number of seeds)`."""
    return f"{report.mean(values)} ({'one run' if len(values) == 1 else len(values)})"


def effects(cells, pairs, labels, distortions):
    """Differences of test error, for `pairs` of (model, baseline) with enough seeds."""
    errors = errors_of(cells)

    def show(*keys):
        both = [errors.get(key, ()) for key in keys]
        if min(map(len, both)) < SEEDS:
            return ""
        change, error, p = welch(*both)
        text = f"{change:+.2f} ± {error:.2f}, p = {p:.3f}"
        return f"**{text}**" if p < 0.05 else text

    rows = [
        [
            f"{labels[model]} − {labels[baseline]}",
            *(show((model, name), (baseline, name)) for name in distortions),
        ]
        for model, baseline in pairs
    ]
    return report.table(["difference of test error, points", *distortions], rows)


def welch(values, baseline):
    """Difference of the means, its standard error, and the p-value of Welch's t test."""
    n, m = len(values), len(baseline)
    a, b = statistics.variance(values) / n, statistics.variance(baseline) / m
    change, error = statistics.mean(values) - statistics.mean(baseline), math.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    p = tf.math.betainc(freedom / 2, 0.5, freedom / (freedom + (change / error) ** 2))
    return change, error, float(p)


def recipes(cells, distortions, lines):
    """How each column was trained; a line's value: a pattern of models, and a field."""

    def show(models, field, name):
        keys = [key for key in cells if key[1] == name and fnmatch.fnmatchcase(key[0], models)]
        return values([row for key in keys for row in cells[key]], field)

    rows = [[text, *(show(*line, name) for name in distortions)] for text, line in lines.items()]
    return report.table(["recipe", *distortions], rows)


def values(rows, field):
    return ", ".join(dict.fromkeys(row[field] for row in rows))


def settings(cells):
    """What all runs of a table have in common, or between which bounds they differ."""
    rows = [row for group in cells.values() for row in group]
    seconds = [float(row["seconds"]) for row in rows]
    return (
        f"Batches of {values(rows, 'batch_size')}; {values(rows, 'precision')}; TensorFlow "
        f"{values(rows, 'tensorflow')}, Keras {values(rows, 'keras')}; {min(seconds):.0f} to "
        f"{max(seconds):.0f} seconds a run, threads: {values(rows, 'threads') or 'one per core'}."
    )
