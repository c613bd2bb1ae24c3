"""Milliseconds and memory of an affine warp: ours, PyTorch's, kornia's, and what Keras itself has.

From the repository's root:

    python -m benchmarks.sampler

All do the same work, see `warps.py`, in float32, each in its native layout of images; before any is
timed their values and gradients must agree. Each contender has a process of its own, which sleeps
while it is not its turn, and as many threads as there are cores; all take turns, round by round.
`--backend` is what Keras runs on, for ours and for Keras's own functions. PyTorch and kornia are
optional: `pip install torch kornia`.

Run it on a machine that does nothing else.
"""

import argparse
import csv
import ctypes
import importlib.util
import itertools
import multiprocessing
import os
import pathlib
import re
import statistics
import sys
import time
from importlib import metadata

import numpy as np

from benchmarks.warps import CONTENDERS, FRAMEWORKS, JOBS, NCHW, can, prepare

SHAPES = ["64x32x32x3", "32x224x224x3", "16x56x56x64", "8x128x128x32", "4x1024x1024x16"]
TOLERANCE = 1e-3  # of the norm
ENVIRONMENT = {  # of the workers; where there is a GPU, they share it
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def inspect(pipe, contender, backend, sizes):
    """A worker that sends its device and, for each job it can do, values and MiB at the peak."""
    # What is freed goes back to the system at once, so that what is resident is what is needed.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # TensorFlow's memory pool comes with oneDNN
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(-3, 2**16)  # glibc's M_MMAP_THRESHOLD
    device, run = prepare(contender, backend, sizes)
    jobs = [job for job in JOBS if can(contender, job, sizes)]
    values = {job: [sampled(tensor, contender in NCHW) for tensor in run(job)] for job in jobs}
    told = sys.platform == "linux" and device == "CPU"
    pipe.send((device, values, {job: peak_memory(run, job) if told else "–" for job in jobs}))


def sampled(tensor, nchw):
    """All of theta's gradient, or some thousand numbers of images."""
    array = np.asarray(tensor.cpu() if hasattr(tensor, "is_cuda") else tensor)
    if nchw and array.ndim == 4:
        array = np.moveaxis(array, 1, -1)
    return array.ravel()[:: 1 + array.size // 5000].copy()


def peak_memory(run, job):
    """MiB that a call adds to the resident memory at its peak: the most of three calls, because
    the kernel's counters lag."""

    def high_water_mark():
        status = pathlib.Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    added = []
    for _ in range(3):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is resident
        before = high_water_mark()
        run(job)
        added.append(high_water_mark() - before)
    return round(max(added), 1)


def serve(pipe, contender, backend, sizes, seconds):
    """A worker that, once ready, answers a job with the milliseconds of its calls, repeatedly."""
    _, run = prepare(contender, backend, sizes)
    pipe.send("ready")
    while job := pipe.recv():
        run(job)  # compiles, the first time; wakes threads
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run(job)
            times.append((time.perf_counter() - start) * 1e3)
        pipe.send(times)


def start(worker, name, *settings):
    """The pipe to a new process that runs `worker`."""
    spawn = multiprocessing.get_context("spawn")
    pipe, end = spawn.Pipe()
    spawn.Process(target=worker, args=(end, name, *settings), daemon=True).start()
    end.close()  # only the worker's is left, and `recv` fails when it dies
    return pipe


def measure(images, contenders, args):
    """A row for each job and each contender that can do it."""
    settings = args.backend, tuple(int(size) for size in images.split("x"))
    pipes = {name: start(inspect, name, *settings) for name in contenders}
    devices, values, peaks = {}, {}, {}
    for name, pipe in pipes.items():
        devices[name], values[name], peaks[name] = pipe.recv()
    able = {job: [name for name in contenders if job in values[name]] for job in JOBS}
    for job, names in able.items():
        check_agreement({name: values[name][job] for name in names}, f"{images}, {job}")

    pipes = {name: start(serve, name, *settings, args.seconds) for name in contenders}
    for pipe in pipes.values():
        pipe.recv()  # all are ready, and asleep
    times = {(job, name): [] for job in JOBS for name in able[job]}
    for turn in range(args.rounds):
        for job, names in able.items():
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                pipes[name].send(job)
                times[job, name] += pipes[name].recv()
    for pipe in pipes.values():
        pipe.send(None)
    return [
        {"images": images, "job": job, "contender": name}
        | {"median_ms": statistics.median(calls), "min_ms": min(calls), "max_ms": max(calls)}
        | {"calls": len(calls), "peak_mib": peaks[name][job], "device": devices[name]}
        | machine(NCHW.get(name, ["keras", args.backend]))
        for (job, name), calls in times.items()
    ]


def check_agreement(values, what):
    """Ends the run where contenders' `{name: arrays}` are not those of the same work."""
    reference = "PyTorch" if "PyTorch" in values else next(iter(values))
    for name, arrays in values.items():
        for found, expected in zip(arrays, values[reference], strict=True):
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            if not error <= TOLERANCE:
                sys.exit(f"{what}: {name} is {error:.1e} away from {reference}")


def machine(packages):
    info = pathlib.Path("/proc/cpuinfo")  # Linux's
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    return {"processor": model and model[1], "cores": os.cpu_count(), "versions": versions}


def report(rows):
    cells = {(row["images"], row["job"], row["contender"]): row for row in rows}
    shapes, _, names = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    for name in names:
        print("- {contender}: {versions}; {device}".format(**cells[shapes[0], "forward", name]))
    print("- {cores} cores of {processor}".format(**rows[0]))
    for title, cell in (
        ("Milliseconds, median (min … max)", "{median_ms:.4g} ({min_ms:.4g} … {max_ms:.4g})"),
        ("MiB at the peak of a call, above its inputs", "{peak_mib}"),
    ):
        table(title, ["images", "job", *names])
        for images, job in itertools.product(shapes, JOBS):
            found = (cells.get((images, job, name)) for name in names)
            line([images, job, *("–" if row is None else cell.format(**row) for row in found)])
    if {"PyTorch", "ours"} <= set(names):
        table("PyTorch ÷ ours, ratio of medians", ["images", *JOBS])
        medians = {key: row["median_ms"] for key, row in cells.items()}
        ratios = [
            [medians[images, job, "PyTorch"] / medians[images, job, "ours"] for job in JOBS]
            for images in shapes
        ]
        means = map(statistics.geometric_mean, zip(*ratios, strict=True))
        for images, found in zip([*shapes, "geometric mean"], [*ratios, means], strict=True):
            line([images, *(f"{ratio:.2f}" for ratio in found)])


def table(title, head):
    print(f"\n{title}:\n")
    line(head)
    line(["---"] * len(head))


def line(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description="Compare the sampler's speed and memory with those of others.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--backend", choices=FRAMEWORKS, default="tensorflow", help="of Keras")
    parser.add_argument(
        "--shapes", nargs="+", default=SHAPES, help="batch, height, width, channels"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each turn in a round")
    parser.add_argument("--output", help="CSV file; by default sampler-BACKEND.csv beside this one")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT, KERAS_BACKEND=args.backend)
    contenders = [
        name
        for name in CONTENDERS
        if all(map(importlib.util.find_spec, NCHW.get(name, [])))
        or print(f"Without {name}, which is not installed.")
    ]
    rows = [row for images in args.shapes for row in measure(images, contenders, args)]
    report(rows)
    beside = pathlib.Path(__file__).with_name(f"sampler-{args.backend}.csv")
    with open(args.output or beside, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
