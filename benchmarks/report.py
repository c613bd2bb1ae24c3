"""Writes the tables of the sampler in `benchmarks/README.md` from the CSV files beside it.

python -m benchmarks.report
"""

import csv
import pathlib
import statistics

from benchmarks.frameworks import JOBS
from results import report
from stn_keras.system import files

FOLDER = pathlib.Path(__file__).parent
README = FOLDER / "README.md"


def rows():
    """The rows of all CSV files, each with its `backend`, the end of its file's name."""
    for path in sorted(FOLDER.glob("*-*.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                yield row | {"backend": path.stem.rpartition("-")[2]}


def sections(measured):
    """A table for each backend and kind of warp; where ours is called in two ways, the default."""
    medians = {
        (row["backend"], row["table"], row["contender"], row["warp"], row["job"]): float(
            row["median_ms"]
        )
        for row in measured
    }
    ours = dict.fromkeys(key[:3] for key in medians if key[2].startswith("ours"))
    chosen = {key[:2]: key for key in sorted(ours)}  # "ours, default" after "ours, compiled"
    return "\n\n".join(section(medians, *key) for key in chosen.values())


def section(medians, backend, table, contender):
    warps = dict.fromkeys(key[3] for key in medians if key[:3] == (backend, table, contender))
    ratios = [
        [
            medians[backend, table, "PyTorch", warp, job]
            / medians[backend, table, contender, warp, job]
            for job in JOBS
        ]
        for warp in warps
    ]
    means = [statistics.geometric_mean(column) for column in zip(*ratios, strict=True)]
    lines = [
        [name, *(f"{ratio:.2f}" for ratio in line)]
        for name, line in zip([*warps, "geometric mean"], [*ratios, means], strict=True)
    ]
    way = contender.removeprefix("ours, ")
    return f"### {backend}, {table}, {way}\n\n{report.table(['warp', *JOBS], lines)}"


def main():
    text = report.insert(README.read_text(), "benchmarks.report", sections(rows()))
    with files.replacing(README) as path:
        path.write_text(text)


if __name__ == "__main__":
    main()
