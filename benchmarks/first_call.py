"""The time that a user waits at first calls of a warp, and the memory that stays afterwards.

From the repository's root:

    python -m benchmarks.first_call
    python -m benchmarks.first_call --backend jax --figures "new size*"
    python -m benchmarks.first_call --many              # 500 sizes too

Each measurement has a process of its own, in which nothing has run before; imports are not timed.
The reference of a figure is PyTorch, or the same model without a transformer. For models, the limit
applies to what the transformers add. `waits.py` has the measurements.

Run it on a machine that does nothing else.
"""

import argparse
import fnmatch
import os
import statistics
import sys
from dataclasses import dataclass

from benchmarks import tables
from benchmarks.contenders import contenders
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.machine import commit, machine
from benchmarks.rounds import ENVIRONMENT, HERE, start

BOTH = "+ gradients of coordinates and images"


@dataclass(frozen=True)
class Measurement:
    """A function of `waits.py`, with its arguments for our library and for the reference, if any.

    `limits` are by the name of the figure, or `None`. If `adds`, they apply to our figure minus
    the figure of the reference.
    """

    name: str
    function: str
    ours: tuple
    beside: tuple | None
    limits: dict
    adds: bool = False

    def limit(self, figure):
        limit = self.limits[figure]
        return "" if limit is None else f"{limit:g}{' more' if self.adds else ''}"


def measurements(backend, sizes, many=False):
    if backend == "tensorflow":
        for name, warp, nodes in (
            ("affine layer", "64x32x32x3", 900),
            ("bicubic affine layer", "affine bicubic", 1300),
        ):
            title = f"traced, {name} with gradients"
            yield Measurement(title, "graph", (warp, BOTH), None, {"nodes": nodes})
    for name, limits in (
        ("quick start", {"first fit, s": 1.0, "smaller batch, s": 0.1}),
        ("two transformers", {"first steps, s": 3.5, "smaller batch, s": 0.3}),
    ):
        function, without = name.replace(" ", "_"), ("none",)
        yield Measurement(name, function, ("transformer",), without, limits, adds=True)
        alone, no_limits = f"{name}, localization network alone", dict.fromkeys(limits)
        yield Measurement(alone, function, ("network",), without, no_limits, adds=True)
    installed = "PyTorch" in contenders(backend)
    compiled = backend == "jax"  # which compiles for every size
    for name, warp, job, seconds in (
        ("layer forward", "64x32x32x3", "forward", 0.05),
        ("layer with gradients", "64x32x32x3", BOTH, 0.7 if compiled else 0.3),
        ("grid_sample with gradients", "grid_sample bilinear", BOTH, 0.7 if compiled else 0.3),
    ):
        few = {"first, s": None, "median, s": seconds, "MiB each": 8 if compiled else 5}
        counts = {f"new size, {name}": (sizes, few | {"MiB at the peak": None})}
        if many and job == BOTH:
            counts[f"500 sizes, {name}"] = 500, {"median, s": seconds, "MiB": 1000}
        for title, (count, limits) in counts.items():
            ours, beside = ((who, backend, warp, job, count) for who in ("ours", "PyTorch"))
            yield Measurement(title, "new_sizes", ours, beside if installed else None, limits)
    limits = {"all, s": None, "MiB": None}
    yield Measurement("60 fill values", "fill_values", (backend, BOTH, 60), None, limits)


def worker(pipe, function, args):
    from benchmarks import waits  # imports Keras

    pipe.send(getattr(waits, function)(*args))


def measure(backend, measurement, rounds=1, base=None):
    """A row for each figure and each contender: ours, `base` (that of another checkout), and the
    reference. They take turns, each time in a fresh process."""
    contenders = {"base": (measurement.ours, base)} if base else {}
    contenders["ours"] = measurement.ours, HERE
    if measurement.beside is not None:
        contenders["beside"] = measurement.beside, HERE
    found = {name: [] for name in contenders}
    for turn in range(rounds):
        first = turn % len(contenders)
        for name in [*contenders][first:] + [*contenders][:first]:
            args, checkout = contenders[name]
            pipe = start(worker, measurement.function, args, checkout=checkout)
            found[name].append(pipe.recv())
    rows = []
    for figure in measurement.limits:
        for name, (_, checkout) in contenders.items():
            values = [figures[figure] for figures in found[name]]
            rows.append(
                {"what": measurement.name, "figure": figure, "contender": name}
                | {"median": statistics.median(values), "min": min(values), "max": max(values)}
                | {"rounds": rounds, "at_most": measurement.limit(figure)}
                | {"commit": commit(checkout), **machine(["keras", backend])}
            )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description="Measure first calls: models, sizes and settings not seen before.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--backend", choices=FRAMEWORKS, default="tensorflow", help="of Keras")
    parser.add_argument("--figures", default="*", metavar="PATTERN", help="of measurements' names")
    parser.add_argument("--sizes", type=int, default=20, help="random ones after the first")
    parser.add_argument("--many", action="store_true", help="500 sizes too")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT, KERAS_BACKEND=args.backend)
    every = list(measurements(args.backend, args.sizes, args.many))
    chosen = [m for m in every if fnmatch.fnmatchcase(m.name, args.figures)]
    if not chosen:
        sys.exit(f"--figures={args.figures!r} matches none of {[m.name for m in every]}")
    print("{versions}; {cores} cores of {processor}".format(**machine(["keras", args.backend])))
    rows = [row for measurement in chosen for row in measure(args.backend, measurement)]
    tables.show("First calls", tables.of_first_calls(rows))


if __name__ == "__main__":
    main()
