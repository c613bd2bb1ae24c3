"""Milliseconds of a warm warp and its gradients: ours beside PyTorch's.

From the repository's root:

    python -m benchmarks.sampler                        # all tables, ours on TensorFlow
    python -m benchmarks.sampler --backend jax --table warps
    python -m benchmarks.sampler --cells "grid_sample*" --way default

Three tables: `affine`, the affine layer on five shapes of images, `warps`, eleven others, and
`dense`, warps by a displacement per pixel; see `warps.py`. With `--peers` kornia and Keras's own
functions do the affine warps too. All contenders do the same work in float32, each in its native
layout of images; before any is timed their values and gradients must agree. Each has a process of
its own and as many threads as there are cores. All take turns, round by round.

Run it on a machine that does nothing else.
"""

import argparse
import csv
import fnmatch
import os
import pathlib
import re
import statistics
import sys
from importlib import metadata

from benchmarks.contenders import NCHW, contenders
from benchmarks.frameworks import FRAMEWORKS, JOBS
from benchmarks.rounds import ENVIRONMENT, compete
from benchmarks.warps import CELLS

TARGET = {"tensorflow": 1, "jax": 1, "torch": 0.9}  # PyTorch's milliseconds ÷ ours, at least


def measure(name, contenders, args):
    """A row for each job and each contender that can do it."""
    cell = CELLS[name]
    shape = tuple(min(length, args.at_most or length) for length in cell.shape)
    times, peaks, devices = compete(
        contenders,
        (args.backend, name, shape),
        cell.table,
        args.rounds,
        args.seconds,
        args.memory,
    )
    return [
        {"table": cell.table, "warp": name, "images": "x".join(map(str, shape))}
        | {"job": job, "contender": contender, "median_ms": statistics.median(calls)}
        | {"min_ms": min(calls), "max_ms": max(calls), "calls": len(calls)}
        | {"peak_mib": peaks.get((job, contender)), "device": devices[contender]}
        | machine(NCHW.get(contender, ["keras", args.backend]))
        for (job, contender), calls in times.items()
    ]


def machine(packages):
    info = pathlib.Path("/proc/cpuinfo")  # Linux's
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return {"processor": model and model[1], "cores": os.cpu_count(), "versions": versions}


def report(rows, target):
    """Prints the tables of rows that belong to one of the two."""
    cells = {(row["warp"], row["job"], row["contender"]): row for row in rows}
    warps, _, names = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    for name in names:
        row = next(row for row in rows if row["contender"] == name)
        print("- {contender}: {versions}; {device}".format(**row))
    print("- {cores} cores of {processor}".format(**rows[0]))
    for title, cell in (
        ("Milliseconds, median (min … max)", "{median_ms:.4g} ({min_ms:.4g} … {max_ms:.4g})"),
        ("MiB at the peak of a call, above its inputs", "{peak_mib}"),
    ):
        if title.startswith("MiB") and all(row["peak_mib"] is None for row in rows):
            continue
        table(title, ["warp", "job", *names])
        for warp in warps:
            for job in JOBS:
                found = (cells.get((warp, job, name)) for name in names)
                line([warp, job, *("–" if row is None else cell.format(**row) for row in found)])
    for name in names:
        if name.startswith("ours") and "PyTorch" in names:
            report_ratios(cells, warps, name, target)


def report_ratios(cells, warps, name, target):
    table(f"PyTorch ÷ {name}, ratio of medians", ["warp", *JOBS])
    ratios = {
        (warp, job): cells[warp, job, "PyTorch"]["median_ms"] / cells[warp, job, name]["median_ms"]
        for warp in warps
        for job in JOBS
    }
    for warp in warps:
        line([warp, *(f"{ratios[warp, job]:.2f}" for job in JOBS)])
    means = (statistics.geometric_mean(ratios[warp, job] for warp in warps) for job in JOBS)
    line(["geometric mean", *(f"{mean:.2f}" for mean in means)])
    for bar in sorted({1, target}, reverse=True):
        below = sum(ratio < bar for ratio in ratios.values())
        print(f"\n{below} of {len(ratios)} below {bar}.")


def table(title, head):
    print(f"\n{title}:\n")
    line(head)
    line(["---"] * len(head))


def line(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def save(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def parse():
    parser = argparse.ArgumentParser(
        description="Compare the speed of warps with PyTorch's.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--backend", choices=FRAMEWORKS, default="tensorflow", help="of Keras")
    parser.add_argument("--table", choices=["affine", "warps", "dense", "all"], default="all")
    parser.add_argument("--cells", default="*", metavar="PATTERN", help="of the warps' names")
    parser.add_argument(
        "--way", choices=["compiled", "default"], help="of calling ours; else all that there are"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each turn in a round")
    parser.add_argument("--peers", action="store_true", help="kornia and Keras's own functions too")
    parser.add_argument("--memory", action="store_true", help="peaks of memory too")
    parser.add_argument("--at-most", type=int, help="bound of all lengths of images, to try it out")
    parser.add_argument(
        "--output",
        help="CSV file; else, if all is measured, sampler-BACKEND.csv beside this program",
    )
    return parser.parse_args()


def main():
    args = parse()
    os.environ.update(ENVIRONMENT, KERAS_BACKEND=args.backend)
    names = contenders(args.backend, args.way and [args.way], args.peers)
    chosen = [
        name
        for name, cell in CELLS.items()
        if args.table in (cell.table, "all") and fnmatch.fnmatchcase(name, args.cells)
    ]
    if not chosen:
        sys.exit(f"--cells={args.cells!r} matches none of {list(CELLS)}")
    rows = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr)
        rows += measure(name, names, args)
    for title in dict.fromkeys(row["table"] for row in rows):
        print(f"\n## {title}\n")
        report([row for row in rows if row["table"] == title], TARGET[args.backend])
    everything = chosen == list(CELLS) and args.way is None and args.at_most is None
    beside = pathlib.Path(__file__).with_name(f"sampler-{args.backend}.csv")
    if output := args.output or (everything and beside):
        save(rows, output)


if __name__ == "__main__":
    main()
