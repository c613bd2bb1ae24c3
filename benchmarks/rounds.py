"""Contenders that take turns, each in a process of its own that sleeps until it is asked."""

import ctypes
import multiprocessing
import os
import pathlib
import sys
import time

import numpy as np

from benchmarks.contenders import can, prepare, values
from benchmarks.frameworks import JOBS

TOLERANCE = 1e-3  # of the norm
ENVIRONMENT = {  # of the workers; where there is a GPU, they share it
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # PyTorch's threads would spin at barriers: where anything else wants a core, for milliseconds.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def serve(pipe, seconds, contender, *cell):
    """A worker that sends its device and, of each job asked for, values; then, for each job it is
    sent, the milliseconds of repeated calls."""
    device, run = prepare(contender, *cell)
    pipe.send(device)
    pipe.send({job: values(contender, run, job) for job in pipe.recv()})
    while job := pipe.recv():
        run(job)  # wakes threads
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run(job)
            times.append((time.perf_counter() - start) * 1e3)
        pipe.send(times)


def weigh(pipe, contender, *cell):
    """A worker that answers a job with the MiB at its peak, or None where they cannot be told."""
    # What is freed goes back to the system at once, so that what is resident is what is needed.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # TensorFlow's memory pool comes with oneDNN
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(-3, 2**16)  # glibc's M_MMAP_THRESHOLD
    device, run = prepare(contender, *cell)
    while job := pipe.recv():
        run(job)
        told = sys.platform == "linux" and device == "CPU"
        pipe.send(peak_memory(run, job) if told else None)


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


def start(worker, *settings):
    """The pipe to a new process that runs `worker`."""
    spawn = multiprocessing.get_context("spawn")
    pipe, end = spawn.Pipe()
    spawn.Process(target=worker, args=(end, *settings), daemon=True).start()
    end.close()  # only the worker's is left, and `recv` fails when it dies
    return pipe


def ask(pipe, question):
    pipe.send(question)
    return pipe.recv()


def compete(names, cell, table, rounds, seconds, memory=False):
    """Of one `cell`, `(backend, name, shape)`, all calls' milliseconds `{(job, contender): list}`,
    peaks of memory `{(job, contender): MiB}`, and devices `{contender: name}`."""
    _, warp, shape = cell
    able = {job: [name for name in names if can(name, job, shape, table)] for job in JOBS}
    pipes = {name: start(serve, seconds, name, *cell) for name in able["forward"]}
    devices = {name: pipe.recv() for name, pipe in pipes.items()}
    for name, pipe in pipes.items():
        pipe.send([job for job in JOBS if name in able[job]])
    found = {name: pipe.recv() for name, pipe in pipes.items()}
    for job in JOBS:
        check_agreement({name: found[name][job] for name in able[job]}, f"{warp}, {job}")

    times = {(job, name): [] for job in JOBS for name in able[job]}
    for turn in range(rounds):
        for job, those in able.items():
            first = turn % len(those)
            for name in those[first:] + those[:first]:
                times[job, name] += ask(pipes[name], job)
    for pipe in pipes.values():
        pipe.send(None)
    peaks = {}
    if memory:
        pipes = {name: start(weigh, name, *cell) for name in pipes}
        peaks = {(job, name): ask(pipes[name], job) for job, name in times}
        for pipe in pipes.values():
            pipe.send(None)
    return times, peaks, devices


def check_agreement(values, what):
    """Ends the run where contenders' `{name: arrays}` are not those of the same work."""
    reference = "PyTorch" if "PyTorch" in values else next(iter(values))
    for name, arrays in values.items():
        for found, expected in zip(arrays, values[reference], strict=True):
            error = np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1)
            if not error <= TOLERANCE:
                sys.exit(f"{what}: {name} is {error:.1e} away from {reference}")
