"""Milliseconds of a warp and its gradients after the first call: ours and PyTorch's.

From the repository's root:

    python -m benchmarks.sampler                        # all tables, ours on TensorFlow
    python -m benchmarks.sampler --backend jax --table warps
    python -m benchmarks.sampler --cells "grid_sample*" --way default

There are three tables: `affine`, the affine layer on five shapes of images; `warps`, eleven others;
and `dense`, warps by a displacement per pixel. `warps.py` defines them. With `--peers`, kornia and
Keras's own functions take part in the affine warps. All contenders do the same work in float32,
each in its native layout of images. Before any is timed, their values and gradients must agree.
Each has a process of its own and as many threads as there are cores. All take turns, round by
round.

Run it on a machine that does nothing else.
"""

import argparse
import fnmatch
import os
import pathlib
import statistics
import sys

from benchmarks import tables
from benchmarks.contenders import NCHW, contenders
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.machine import commit, machine
from benchmarks.rounds import ENVIRONMENT, HERE, ask, compete, serve, start, weigh
from benchmarks.warps import CELLS
from results.report import table

TARGET = {"tensorflow": 1, "jax": 1, "torch": 0.9}  # PyTorch's milliseconds ÷ ours, at least


def measure(backend, warps, names, args, base=None):
    """A row for each of the warps, each job and each contender that can do it."""
    checkouts = {name: base if name.startswith("base") else HERE for name in names}
    pipes = {
        name: start(serve, name, backend, args.seconds, checkout=checkout)
        for name, checkout in checkouts.items()
    }
    weighers = {
        name: start(weigh, name, backend, checkout=checkout)
        for name, checkout in checkouts.items()
        if args.memory
    }
    about = {
        name: {"commit": "" if name in NCHW else commit(checkout)}
        | machine(NCHW.get(name, ["keras", backend]))
        for name, checkout in checkouts.items()
    }
    rows = []
    for warp in warps:
        print(f"{warp} …", file=sys.stderr)
        cell = CELLS[warp]
        shape = tuple(min(length, args.at_most or length) for length in cell.shape)
        times, devices = compete(pipes, warp, shape, cell.table, args.rounds)
        rows += [
            {"table": cell.table, "warp": warp, "images": "x".join(map(str, shape))}
            | {"job": job, "contender": name, "median_ms": statistics.median(calls)}
            | {"min_ms": min(calls), "max_ms": max(calls), "calls": len(calls)}
            | {"peak_mib": ask(weighers[name], (warp, shape, job)) if weighers else None}
            | {"device": devices[name], **about[name]}
            for (job, name), calls in times.items()
        ]
    for pipe in [*pipes.values(), *weighers.values()]:
        pipe.send(None)
    return rows


def show(rows, target):
    for title in dict.fromkeys(row["table"] for row in rows):
        print(f"\n## {title}\n")
        show_tables([row for row in rows if row["table"] == title], target)


def show_tables(rows, target):
    """Prints the tables of rows that belong to one of the three."""
    cells = {(row["warp"], row["job"], row["contender"]): row for row in rows}
    warps, jobs, names = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    for name in names:
        row = next(row for row in rows if row["contender"] == name)
        print("- {contender}: {versions}; {device} {commit}".format(**row))
    print("- {cores} cores of {processor}".format(**rows[0]))
    for title, cell in (
        ("Milliseconds, median (min … max)", "{median_ms:.4g} ({min_ms:.4g} … {max_ms:.4g})"),
        ("MiB at the peak of a call, above its inputs", "{peak_mib}"),
    ):
        if title.startswith("MiB") and all(row["peak_mib"] is None for row in rows):
            continue
        lines = []
        for warp in warps:
            for job in jobs:
                found = (cells.get((warp, job, name)) for name in names)
                shown = ("–" if row is None else cell.format(**row) for row in found)
                lines.append([warp, job, *shown])
        tables.show(title, table(["warp", "job", *names], lines))
    for name in names:
        for reference in names:
            if name.startswith("ours") and tables.are_compared(reference, name):
                ratios = tables.ratios(rows, reference, name)
                title = f"{reference} ÷ {name}, ratio of medians"
                tables.show(title, tables.of_ratios(ratios))
                count_below(ratios, target)


def count_below(ratios, target):
    every = [ratio for by_job in ratios.values() for ratio in by_job.values()]
    for bar in sorted({1, target}, reverse=True):
        print(f"\n{sum(ratio < bar for ratio in every)} of {len(every)} below {bar}.")


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
    rows = measure(args.backend, chosen, names, args)
    show(rows, TARGET[args.backend])
    everything = chosen == list(CELLS) and args.way is None and args.at_most is None
    beside = pathlib.Path(__file__).with_name(f"sampler-{args.backend}.csv")
    if output := args.output or (everything and beside):
        tables.save(rows, output)


if __name__ == "__main__":
    main()
