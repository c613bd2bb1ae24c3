"""Compares a network with and without its transformer: lists the runs and reports the result."""

import math
import statistics

import tensorflow as tf

from stn_keras import history, observe, saved
from stn_keras.system import files
from stn_keras.training import messages, runs

KINDS = {"with": [], "without": ["--no-transformer"]}  # flags of `train.py`
SIGNIFICANT = 0.05  # a smaller p-value counts as significant
SHOWN = 256  # images on which warps are measured
COLLAPSED = 0.9  # a larger share of samples outside the image means a collapsed transformer


def members(run, seeds):
    """The runs of a comparison, `{(kind, seed): Run}`, in the order in which they are trained."""
    return {
        (kind, seed): runs.Run(f"{kind}-{seed}", run.folder, run.log_dir)
        for seed in range(seeds)
        for kind in KINDS
    }


def remaining(run, settings):
    """Yields the number of each unfinished run and its command-line flags."""
    for number, ((kind, seed), member) in enumerate(members(run, settings["seeds"]).items(), 1):
        started = (member.folder / "config.json").exists()
        if started and not member.unfinished:
            continue
        chosen = {name: settings[name] for name in (*runs.SAVED_FLAGS, *runs.DATA_FLAGS)}
        del chosen["transformer"]
        folders = {"output_dir": run.folder, "log_dir": run.log_dir}
        chosen |= {"run": member.name, "seed": seed, **folders}
        flags = [
            f"--{name.replace('_', '-')}={value}"
            for name, value in chosen.items()
            if value is not None
        ]
        yield number, [*flags, *KINDS[kind], *(["--resume"] if started else [])]


def report(run, settings, data):
    """Writes the table, the test and the verdict of finished runs to a file; returns the text."""
    split, name = (data.test, "test") if data.test else (data.validation, "val")
    accuracies: dict[str, list[float]] = {kind: [] for kind in KINDS}
    spreads, collapsed = [], []
    for (kind, _), member in members(run, settings["seeds"]).items():
        accuracies[kind].append(100 * history.read(member.history)[f"{name}_accuracy"][-1])
        if kind == "with":
            model = saved.load(member.folder / "last.keras")
            (seen,) = observe.observe(model, data.shown[:SHOWN]).values()
            spreads.append(seen.spread[0])
            collapsed.append(seen.outside.mean() > COLLAPSED)
    one, other = accuracies["with"], accuracies["without"]
    gain, error, p = paired_test(one, other)
    heading = (
        f"{'Test' if data.test else 'Validation'} accuracy in % after "
        f"{messages.counted(settings['epochs'], 'epoch')}, on "
        f"{messages.counted(len(split.images), 'image')}:"
    )
    one_warp = messages.is_one_warp(statistics.mean(spreads), split.images.shape[1:3])
    text = "\n".join(
        [
            heading,
            "",
            *table(one, other, spreads, collapsed, error),
            "",
            describe_test(gain, error, p, settings["seeds"]),
            "",
            verdict(gain, p, one_warp),
        ]
    )
    with files.replacing(run.folder / runs.COMPARISON) as path:
        path.write_text(text + "\n")
    return text


def paired_test(accuracies, baseline):
    """Mean difference of pairs, its standard error, and the p-value of the paired t test.

    If all differences are equal, the standard error is 0 and the p-value is NaN.
    """
    # Accuracies are float32. Rounding makes differences equal that are equal up to its precision.
    differences = [round(one - other, 4) for one, other in zip(accuracies, baseline, strict=True)]
    gain, freedom = statistics.mean(differences), len(differences) - 1
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if not error:
        return gain, error, math.nan
    share = freedom / (freedom + (gain / error) ** 2)
    p = tf.math.betainc(*tf.constant([freedom / 2, 0.5, share], "float64"))
    return gain, error, float(p)


def table(accuracies, baseline, spreads, collapsed, error):
    """The lines of a table, with a row for each seed and a row of means."""
    columns = accuracies, baseline, spreads
    lines = ["seed   with transformer   without   difference      warps vary by"]
    for seed, (row, outside) in enumerate(zip(zip(*columns), collapsed)):
        lines.append(table_row(seed, *row) + ", outside the image" * bool(outside))
    one, other, spread = map(statistics.mean, columns)
    return [*lines, table_row("mean", one, other, spread, f" ± {error:.2f}")]


def table_row(name, one, other, spread, error=""):
    return (
        f"{name:>4}   {one:16.2f}   {other:7.2f}   {one - other:+10.2f}{error:7}   "
        f"{spread:.1f} pixels"
    )


def describe_test(gain, error, p, seeds):
    """Sentences on the test, its result and its limits."""
    limits = (
        f"It assumes normally distributed differences, which {seeds} seeds cannot show; a test of "
        f"their signs alone cannot fall below p = {2 ** (1 - seeds):.2g} with {seeds} seeds. Both "
        "tests generalise to other seeds on these images, not to other images."
    )
    if math.isnan(p):
        return "Paired t test: not possible, because all seeds differ by the same amount."
    return (
        f"Paired t test: t = {gain / error:.2f}, {messages.counted(seeds - 1, 'degree')} of "
        f"freedom, p = {p:.2g}; ± is the standard error. {limits}"
    )


def verdict(gain, p, one_warp):
    """One sentence on whether the transformer helps."""
    if p < SIGNIFICANT:
        does = "helps" if gain > 0 else "does harm"
        found = f"The transformer {does} on these images: {gain:+.2f} points of accuracy"
    else:
        found = "On these images, no difference larger than chance was found"
    if one_warp:
        found += ", and all images get nearly the same warp, as a fixed crop would give them"
    return f"{found}."
