"""The sampler's benchmark: really run on tiny images, and its arithmetic."""

import argparse
import csv
import importlib.util
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from benchmarks import sampler
from benchmarks.warps import CONTENDERS, JOBS, NCHW, can

pytestmark = pytest.mark.slow

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def tables(text):
    """The Markdown tables of `text` by the first word above them, as lists of dictionaries."""
    found, title = {}, None
    for block in text.split("\n\n"):
        if block.startswith("|"):
            rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
            assert set(rows[1]) == {"---"}
            found[title] = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
        title = re.search(r"\w+", block)[0]
    return found


def test_tiny_images(tmp_path):
    """A run ends well only where all contenders' values and gradients agree."""
    root, output = pathlib.Path(sampler.__file__).parents[1], tmp_path / "times.csv"
    names = [n for n in CONTENDERS if all(map(importlib.util.find_spec, NCHW.get(n, [])))]
    backend = keras.backend.backend()
    flags = [f"--backend={backend}", "--shapes=2x9x7x3", "--rounds=2", "--seconds=0"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.sampler", *flags, f"--output={output}"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = tables(run.stdout)
    for table in found["Milliseconds"], found["MiB"]:
        assert [(row["images"], row["job"]) for row in table] == [("2x9x7x3", job) for job in JOBS]
        for row in table:
            blank = {name for name in names if not can(name, row["job"], (2, 9, 7, 3))}
            assert {name for name in names if row[name] == "–"} == blank
    for row in found["Milliseconds"]:
        for name in names:
            if row[name] != "–":
                spread = re.fullmatch(r"(\S+) \((\S+) … (\S+)\)", row[name])
                median, low, high = map(float, spread.groups())
                assert 0 < low <= median <= high
    assert ("PyTorch" in found) == ("PyTorch" in names)
    with open(output, newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["median_ms"]) > 0 and row["calls"] == "2"
            assert row["versions"].count(".") >= 2 and int(row["cores"]) >= 1


def rows(milliseconds):
    """What `measure` returns of `{(images, contender): milliseconds}`."""
    fixed = {"peak_mib": 3.0, "device": "CPU", "processor": "any", "cores": 2, "versions": "any 1"}
    return [
        {"images": images, "job": job, "contender": name, "median_ms": ms, "min_ms": ms - 1}
        | {"max_ms": ms + 1, "calls": 3, **fixed}
        for (images, name), ms in milliseconds.items()
        for job in JOBS
        if can(name, job, (1, 1, 1, 1))
    ]


def test_ratios(capsys):
    times = {("a", "ours"): 2, ("a", "PyTorch"): 4, ("b", "ours"): 8, ("b", "PyTorch"): 64}
    sampler.report(rows(times))
    found = tables(capsys.readouterr().out)
    assert found["Milliseconds"][0]["PyTorch"] == "4 (3 … 5)"
    ratios = {row["images"]: row["forward"] for row in found["PyTorch"]}
    assert ratios == {"a": "2.00", "b": "8.00", "geometric mean": "4.00"}


def test_without_pytorch(monkeypatch, capsys, tmp_path):
    asked = []

    def measure(images, contenders, args):
        asked.extend(contenders)
        return rows({(images, name): 5 for name in contenders})

    monkeypatch.setattr(sampler, "measure", measure)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["sampler", f"--output={tmp_path / 'times.csv'}"])
    monkeypatch.setattr(sampler.os, "environ", {})
    sampler.main()
    assert asked == ["ours", "keras affine_transform", "keras map_coordinates"] * 5
    printed = capsys.readouterr().out
    assert "Without PyTorch" in printed and "Without kornia" in printed
    assert list(tables(printed)) == ["Milliseconds", "MiB"]
    assert tables(printed)["Milliseconds"][1]["keras affine_transform"] == "–"


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_unequal_work_is_refused(wrong):
    right = [np.ones(3), np.ones(2)]
    sampler.check_agreement({"ours": right, "PyTorch": [a + 1e-5 for a in right]}, "forward")
    with pytest.raises(SystemExit, match="forward: ours is .* away from PyTorch"):
        sampler.check_agreement({"ours": [right[0], wrong * right[1]], "PyTorch": right}, "forward")


def die(pipe, contender, backend, sizes):
    raise SystemExit(3)


def test_a_dead_worker_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sampler, "inspect", die)
    with pytest.raises(EOFError):
        sampler.measure(
            "1x1x1x1", ["ours"], argparse.Namespace(backend="torch", seconds=0, rounds=1)
        )


@linux_only
def test_peak_memory():
    """Of what a call frees before it returns, as well."""
    peak = sampler.peak_memory(lambda job: np.ones(2**23).sum(), "forward")
    assert peak == pytest.approx(64, abs=8)
