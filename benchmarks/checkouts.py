"""Compares two checkouts of this repository with each other and with PyTorch.

From the root of one of them, which is called `ours`:

    git worktree add ../base COMMIT
    python -m benchmarks.checkouts ../base
    python -m benchmarks.checkouts ../base --quick --backend jax    # to see that it works

The programs are those of this checkout. Each process imports the library of one of the two, and
they take turns. On each backend they run the warps of `benchmarks.sampler`, called as Keras calls
them, and the measurements of `benchmarks.first_call` that depend on how much is traced and
compiled. A run of everything writes `sampler-BACKEND.csv` and `first_call-BACKEND.csv` to this
folder; `python -m benchmarks.report` then writes their tables.

Run it on a machine that does nothing else.
"""

import argparse
import fnmatch
import os
import pathlib
import sys

from benchmarks import first_call, report, sampler, tables
from benchmarks.contenders import contenders
from benchmarks.frameworks import FRAMEWORKS, WAYS
from benchmarks.rounds import ENVIRONMENT
from benchmarks.warps import CELLS

FIRST_CALLS = {
    "tensorflow": ["traced*", "quick start*", "two transformers*"],
    "jax": ["new size, *gradients"],
    "torch": [],
}
QUICK = {
    "warps": ["64x32x32x3", "projective"],
    "tensorflow": ["traced, affine*"],
    "jax": ["new size, layer forward"],
    "torch": [],
}


def warps(backend, base, args):
    """Rows of the sampler's benchmark."""
    chosen = QUICK["warps"] if args.quick else list(CELLS)
    names = contenders(backend, WAYS[backend][-1:], base=True)
    return sampler.measure(backend, chosen, names, args, base)


def first_calls(backend, base, args):
    """Rows of the benchmark of first calls."""
    patterns = (QUICK if args.quick else FIRST_CALLS)[backend]
    return [
        row
        for measurement in first_call.measurements(backend, sizes=2 if args.quick else 10)
        if any(fnmatch.fnmatchcase(measurement.name, pattern) for pattern in patterns)
        for row in first_call.measure(backend, measurement, args.first_rounds, base)
    ]


def parse():
    parser = argparse.ArgumentParser(
        description="Compare the speed of two checkouts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("base", type=pathlib.Path, help="the other checkout")
    parser.add_argument("--backend", choices=FRAMEWORKS, nargs="+", default=list(FRAMEWORKS))
    parser.add_argument("--rounds", type=int, default=6, help="of the warps")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each turn in a round")
    parser.add_argument("--first-rounds", type=int, default=3, help="of the first calls")
    parser.add_argument("--quick", action="store_true", help="a few, small, to see that it works")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the CSV files")
    args = parser.parse_args()
    args.base = args.base.resolve()
    if not (args.base / "stn_keras" / "__init__.py").exists():
        sys.exit(f"{args.base} is not a checkout of this repository: it has no stn_keras/.")
    args.memory, args.at_most = False, None
    if args.quick:
        args.rounds, args.seconds, args.first_rounds, args.at_most = 2, 0, 1, 9
    elif args.output is None:
        args.output = report.FOLDER
    return args


def main():
    args = parse()
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
    measured = {}
    for backend in args.backend:
        os.environ.update(ENVIRONMENT, KERAS_BACKEND=backend)
        print(f"\n# {report.BACKENDS[backend]}", flush=True)
        measured[backend] = warps(backend, args.base, args)
        sampler.show(measured[backend], sampler.TARGET[backend])
        calls = first_calls(backend, args.base, args)
        if calls:
            tables.show("First calls", tables.of_first_calls(calls))
        for program, rows in {"sampler": measured[backend], "first_call": calls}.items():
            if args.output and rows:
                tables.save(rows, args.output / f"{program}-{backend}.csv")
    print("", *report.against_base(measured), sep="\n\n")


if __name__ == "__main__":
    main()
