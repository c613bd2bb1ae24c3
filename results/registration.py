"""Writes the tables of registration.

`python -m results.registration` reads what `examples/register.py` wrote to `results/registration/`,
one CSV file for each run, and puts the tables between its marks in `results/README.md`.
"""

import pathlib
import statistics

from results import report

FOLDER = pathlib.Path(__file__).parent / "registration"
TARGET = {"dice_before": 0.6, "dice_after": 0.85, "folded_percent": 0.1}
MEASURES = {
    "mnist": {
        "squared error before": "mse_before",
        "after": "mse_after",
        "folded pixels, %": "folded_percent",
        "ms a pair": "ms",
    },
    "mni152": {
        "gray matter before": "gray_before",
        "after": "gray_after",
        "true warp": "gray_best",
        "white matter before": "white_before",
        "after ": "white_after",
        "true warp ": "white_best",
        "displacement, voxels": "displacement",
        "error, voxels": "error",
        "folded voxels, %": "folded_percent",
        "seconds a pair": "seconds_a_pair",
    },
}


def read():
    """Rows of the CSV files by (data, field), one for each seed."""
    found = {}
    for row in report.rows(FOLDER, "*.csv"):
        row["ms"] = 1000 * float(row["seconds_a_pair"])
        found.setdefault((row["data"], row["field"]), []).append(row)
    return found


def table(runs, data):
    """A row for each method: means over the seeds, and what training took."""
    rows = [
        [
            field,
            str(len(rows)),
            *(spread([float(row[name]) for row in rows]) for name in MEASURES[data].values()),
            " and ".join(
                f"{statistics.mean(float(row[name]) for row in rows) / 60:.1f}"
                for name in ("training_seconds", "training_cpu_seconds")
            ),
        ]
        for (kind, field), rows in sorted(runs.items(), reverse=True)
        if kind == data
    ]
    heads = ["method", "seeds", *MEASURES[data], "minutes of training, and of processor time"]
    return report.table([head.strip() for head in heads], rows)


def spread(values):
    """`mean ± standard deviation`, or the only value, with three significant digits."""
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{deviation}"


def verdict(rows):
    """Whether the mean of the runs on MNI152 meets the targets."""
    mean = {
        name: statistics.mean(float(row[name]) for row in rows)
        for mask in ("gray", "white")
        for name in (f"{mask}_before", f"{mask}_after", "folded_percent")
    }
    checks = {
        "Dice before below 0.6": max(mean["gray_before"], mean["white_before"])
        < TARGET["dice_before"],
        "Dice after at least 0.85": min(mean["gray_after"], mean["white_after"])
        >= TARGET["dice_after"],
        "folded below 0.1 %": mean["folded_percent"] < TARGET["folded_percent"],
    }
    return "; ".join(f"{name}: {'met' if met else 'missed'}" for name, met in checks.items()) + "."


def sections():
    """The generated part of `results/README.md`."""
    runs = read()
    text = [
        "## Registration",
        "`python -m examples.register` trains networks that predict a velocity or a displacement, "
        "and measures them on unseen pairs. `python -m examples.register_one_pair` measures "
        "`register` on the same brains. [Registration](../docs/registration.md) explains the "
        "columns.",
    ]
    if any(data == "mnist" for data, _ in runs):
        text += ["Pairs of handwritings of the same test digit:", table(runs, "mnist")]
        text += picture("mnist", "Test digits: moving, fixed, warped and the warped grid")
    if ("mni152", "velocity") in runs:
        text += [
            "Unseen warps of the MNI152 template. Dice coefficients of gray and white matter before"
            ' and after registration, and after the warp that undoes the random one ("true warp"):',
            table(runs, "mni152"),
        ]
        text += [f"Targets: {verdict(runs['mni152', 'velocity'])}"]
        text += picture("mni152", "Planes of a brain: moving, fixed, warped and the warped grid")
    return "\n\n".join(text)


def picture(data, caption):
    path = FOLDER / f"{data}-velocity-0.png"
    return [f"![{caption}](registration/{path.name})"] if path.exists() else []


def main():
    report.write("results.registration", sections())


if __name__ == "__main__":
    main()
