"""What a user waits for, and what stays in memory, where a warp meets something for the first time.

From the repository's root:

    python -m benchmarks.first_call
    python -m benchmarks.first_call --backend jax --figures "new size*"
    python -m benchmarks.first_call --many              # 500 sizes too

Each measurement has a process of its own, in which nothing has run before; imports are not timed.
Each of our figures stands beside PyTorch's, or beside the same model without a transformer. For
models, the limit applies to what the transformers add. `waits.py` says what is done.

Run it on a machine that does nothing else.
"""

import argparse
import fnmatch
import os
import sys
from dataclasses import dataclass

from benchmarks.contenders import contenders
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.rounds import ENVIRONMENT, start
from benchmarks.sampler import line, machine, table

BOTH = "+ gradients of coordinates and images"


@dataclass(frozen=True)
class Measurement:
    """A function of `waits.py`, called for ours and, unless it is `None`, for what stands beside.

    `limits` are by the figure's name, or `None`. Where `adds`, they are on how much more ours is
    than what is beside it.
    """

    name: str
    function: str
    ours: tuple
    beside: tuple | None
    limits: dict
    adds: bool = False


def measurements(backend, sizes, many):
    # A smaller batch may take 0.1 s a gradient: of theta; of theta and of the images, twice.
    for name, limits in (
        ("quick start", {"first fit, s": 1.0, "smaller batch, s": 0.1}),
        ("two transformers", {"first steps, s": 3.0, "smaller batch, s": 0.4}),
    ):
        yield Measurement(name, name.replace(" ", "_"), (True,), (False,), limits, adds=True)
    installed = "PyTorch" in contenders(backend)
    for name, warp, job, seconds in (
        ("layer forward", "64x32x32x3", "forward", 0.05),
        ("layer with gradients", "64x32x32x3", BOTH, 0.3),
        ("grid_sample with gradients", "grid_sample bilinear", BOTH, 0.3),
    ):
        few = {"first, s": None, "median, s": seconds, "MiB each": 5}
        counts = {f"new size, {name}": (sizes, few)}
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


def in_fresh_process(function, args):
    return start(worker, function, args).recv()


def report(measurement, ours, beside):
    """A line for each figure."""
    for name, limit in measurement.limits.items():
        figure, other = ours[name], beside and beside[name]
        counts = figure - other if measurement.adds else figure
        said = [f"{figure:.3g}", "–" if other is None else f"{other:.3g}"]
        more = " more" if measurement.adds else ""
        asked = (
            ["–", ""] if limit is None else [f"{limit:g}{more}", "yes" if counts <= limit else "no"]
        )
        line([measurement.name, name, *said, *asked])


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
    table("First calls", ["what", "figure", "ours", "beside", "at most", "met"])
    for measurement in chosen:
        ours = in_fresh_process(measurement.function, measurement.ours)
        beside = measurement.beside
        if beside is not None:
            beside = in_fresh_process(measurement.function, beside)
        report(measurement, ours, beside)


if __name__ == "__main__":
    main()
