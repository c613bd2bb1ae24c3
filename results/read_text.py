"""Writes the tables of reading words and draws their figure.

`python -m results.read_text` reads what `examples/read_text.py` wrote to `results/read_text/`, puts
the tables between its marks in `results/README.md`, and saves `words.png` in that folder.
"""

import collections
import pathlib
import statistics

import numpy as np
from matplotlib.figure import Figure

from examples import word_reader
from results import report, tables
from stn_keras import plots

FOLDER = pathlib.Path(__file__).parent / "read_text"
READERS = {
    "plain": "no transformer, wider layers",
    "box": "box (a crop)",
    "affine": "affine",
    "projective": "projective",
    "spline": "thin-plate spline of 2×8 points",
    "truth": "no transformer, words straightened by the truth",
}
STRENGTHS = {"straight": "straight", "mild": "mildly bent", "strong": "strongly bent"}
MEASURES = {
    "words misread, %": "words",
    "edits per letter, %": "characters",
}


def read():
    """Rows of the CSV files by reader, one for each seed."""
    found = collections.defaultdict(list)
    for row in report.rows(FOLDER):
        found[row["model"]].append(row)
    return {model: found[model] for model in READERS if model in found}


def numbers(rows, name):
    """A test measure of each run; errors in % instead of accuracies."""
    values = [float(row[f"test_{name}"]) for row in rows]
    return [100 - value for value in values] if name.startswith("words") else values


def errors_table(runs):
    heads = [f"{text}: {strength}" for text in MEASURES for strength in STRENGTHS.values()]
    rows = [
        [
            READERS[model],
            f"{int(rows[0]['parameters']):,}",
            *(
                tables.spread(numbers(rows, f"{measure}_{strength}"))
                for measure in MEASURES.values()
                for strength in STRENGTHS
            ),
        ]
        for model, rows in runs.items()
    ]
    return report.table(["transformer", "parameters", *heads], rows)


def straightness_table(runs):
    """How straight the words are before and after the warp, in letter heights."""
    rows = [
        [READERS[model], *(change(rows, strength) for strength in STRENGTHS)]
        for model, rows in runs.items()
        if rows[0]["test_uneven_after_strong"]
    ]
    return report.table(["transformer", *STRENGTHS.values()], rows)


def change(rows, strength):
    before, after = (numbers(rows, f"uneven_{when}_{strength}") for when in ("before", "after"))
    return f"{statistics.mean(before):.2f} → {report.mean(after)}"


def effects(runs):
    """Differences of the share of words misread at strong bending, where all seeds are there."""
    lines = []
    for baseline in ("plain", "box", "projective"):
        both = [numbers(runs.get(model, []), "words_strong") for model in ("spline", baseline)]
        if min(map(len, both)) < tables.SEEDS:
            continue
        difference, error, p = tables.welch(*both)
        share = 100 * statistics.mean(both[0]) / statistics.mean(both[1])
        lines.append(
            f"- The spline misreads {share:.0f} % as many strongly bent words as "
            f"“{READERS[baseline]}”: {difference:+.2f} ± {error:.2f} points (standard error), "
            f"p = {p:.4f}."
        )
    return "\n".join(lines)


def section(runs):
    return "\n\n".join(
        [
            "## Reading curved words",
            "Words of 3 to 8 random letters, in fonts that no training picture has: mean ± "
            "standard deviation (number of seeds). `python -m examples.read_text` trains the "
            "readers; [Reading curved words](../docs/reading.md) explains the measures.",
            errors_table(runs),
            effects(runs),
            "Distance of a word's baseline and of the upper edge of its small letters from a level "
            "line, before → after the warp, root mean square, in letter heights:",
            straightness_table(runs),
            tables.settings(runs),
            "![Test words as each reader sees them, and what it reads](read_text/words.png)",
        ]
    )


def figure():
    """Test words above what each transformer of seed 0 makes of them, with what was read."""
    saved = {model: FOLDER / f"{model}-0.npz" for model in READERS}
    saved = {model: dict(np.load(path)) for model, path in saved.items() if path.exists()}
    columns = len(next(iter(saved.values()))["true"])
    drawn = Figure(figsize=(2.1 * columns, 1.0 * len(saved)), dpi=85, layout="constrained")
    panels = drawn.subplots(len(saved), columns)
    for row, (model, arrays) in zip(panels, saved.items()):
        word_reader.draw(row, arrays["seen"], arrays["read"], arrays["true"], model)
    return drawn


def main():
    runs = read()
    report.write("results.read_text", section(runs))
    plots.save(figure(), FOLDER / "words.png")


if __name__ == "__main__":
    main()
