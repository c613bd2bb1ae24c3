"""Contenders that take turns, each in a process of its own that waits for its turn."""

import functools
import multiprocessing
import os
import pathlib
import sys
import time

import numpy as np

from benchmarks import memory
from benchmarks.contenders import can, prepare, values
from benchmarks.frameworks import JOBS

HERE = pathlib.Path(__file__).parents[1]
TOLERANCE = 1e-3  # of the norm
ENVIRONMENT = {  # of the workers; where there is a GPU, they share it
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # Otherwise PyTorch's threads spin at barriers, for long if another program wants a core.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def start(worker, *settings, checkout=HERE):
    """The pipe to a new process that runs `worker` with the library of a checkout."""
    spawn = multiprocessing.get_context("spawn")
    pipe, end = spawn.Pipe()
    settings = checkout, worker, end, *settings
    spawn.Process(target=run_with, args=settings, daemon=True).start()
    end.close()  # only the worker's is left, and `recv` fails when it dies
    return pipe


def run_with(checkout, worker, *settings):
    sys.path.insert(0, str(checkout))
    worker(*settings)


def ask(pipe, question):
    pipe.send(question)
    return pipe.recv()


def serve(pipe, contender, backend, seconds):
    """A worker that is sent cells, `(name, shape, jobs)`, and answers with its device and its
    values by job; then, for each job it is sent, with the milliseconds of repeated calls. None
    ends a cell."""
    for name, shape, jobs in iter(pipe.recv, None):
        device, run = prepare(contender, backend, name, shape)
        pipe.send((device, {job: values(contender, run, job) for job in jobs}))
        for job in iter(pipe.recv, None):
            pipe.send(milliseconds(functools.partial(run, job), seconds))


def milliseconds(function, seconds):
    """The milliseconds of repeated calls, after one that wakes threads."""
    function()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def weigh(pipe, contender, backend):
    """A worker that answers `(name, shape, job)` with the MiB at the peak of a call, or None where
    they cannot be told."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # TensorFlow's memory pool comes with oneDNN
    memory.keep_nothing_freed()
    for name, shape, job in iter(pipe.recv, None):
        device, run = prepare(contender, backend, name, shape)
        run(job)
        pipe.send(peak(run, job) if memory.LINUX and device == "CPU" else None)


def peak(run, job):
    """MiB that a call adds at its peak: the most of three, because the kernel's counters lag."""
    return round(max(memory.added_at_peak(run, job)[0] for _ in range(3)), 1)


def compete(pipes, name, shape, table, rounds):
    """The milliseconds of all calls, `{(job, contender): list}`, and devices, `{contender: name}`,
    of a cell, by the pipes of contenders that `serve`."""
    able = {job: [who for who in pipes if can(who, job, shape, table)] for job in JOBS}
    those = able["forward"]
    for who in those:
        pipes[who].send((name, shape, [job for job in JOBS if who in able[job]]))
    devices, found = {}, {}
    for who in those:
        devices[who], found[who] = pipes[who].recv()
    for job in JOBS:
        check_agreement({who: found[who][job] for who in able[job]}, f"{name}, {job}")
    times = {(job, who): [] for job in JOBS for who in able[job]}
    for turn in range(rounds):
        for job, those in able.items():
            first = turn % len(those)
            for who in those[first:] + those[:first]:
                times[job, who] += ask(pipes[who], job)
    for who in able["forward"]:
        pipes[who].send(None)
    return times, devices


def check_agreement(values, what):
    """Ends the run if the results of the contenders, `{name: arrays}`, differ."""
    reference = "PyTorch" if "PyTorch" in values else next(iter(values))
    for name, arrays in values.items():
        for found, expected in zip(arrays, values[reference], strict=True):
            error = np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1)
            if not error <= TOLERANCE:
                sys.exit(f"{what}: {name} is {error:.1e} away from {reference}")
