"""The sampler's benchmark: really run on tiny images, and its arithmetic."""

import csv
import importlib.util
import re
import sys

import numpy as np
import pytest
from printed import BACKEND, run, tables

from benchmarks import rounds, sampler
from benchmarks.contenders import PEERS, can, contenders, prepare, values
from benchmarks.frameworks import JOBS, WAYS
from benchmarks.warps import CELLS, SHAPES

pytestmark = pytest.mark.slow

OURS = f"ours, {WAYS[BACKEND][-1]}"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def tiny(name):
    return tuple(min(length, 9) for length in CELLS[name].shape)


def check_work(names, warp, job):
    """Only values and gradients that agree are timed."""
    pytest.importorskip("torch")
    found = {who: values(who, prepare(who, BACKEND, warp, tiny(warp))[1], job) for who in names}
    assert list(map(len, found.values())) == [1 + len(JOBS[job])] * len(names)
    rounds.check_agreement(found, f"{warp}, {job}")


@pytest.mark.parametrize("warp", [name for name in CELLS if name not in SHAPES[1:]])
def test_ours_does_the_work_of_pytorch(warp):
    check_work([OURS, "PyTorch"], warp, "+ gradients of coordinates and images")


def test_peers_do_the_same_work():
    peers = [name for name in contenders(BACKEND, peers=True) if not name.startswith("ours")]
    check_work(peers, SHAPES[0], "forward")


def test_tables():
    """Five shapes and eleven other warps, of three jobs each: 15 and 33 cells."""
    by_table = [cell.table for cell in CELLS.values()]
    assert (by_table.count("affine"), by_table.count("warps"), len(JOBS)) == (5, 11, 3)
    assert [CELLS[name].shape for name in SHAPES][:2] == [(64, 32, 32, 3), (32, 224, 224, 3)]


def test_sampler_on_tiny_images(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "times.csv"
    flags = ["--cells=*nearest", "--at-most=9", "--rounds=2", "--seconds=0", "--memory"]
    found = run("benchmarks.sampler", *flags, f"--output={output}")
    names = contenders(BACKEND)
    times = found["Milliseconds, median (min … max)"]
    assert list(times[0]) == ["warp", "job", *names]
    assert [(row["warp"], row["job"]) for row in times] == [
        ("grid_sample nearest", j) for j in JOBS
    ]
    for row in times:
        for name in names:
            spread = re.fullmatch(r"(\S+) \((\S+) … (\S+)\)", row[name])
            median, low, high = map(float, spread.groups())
            assert 0 < low <= median <= high
    for way in WAYS[BACKEND]:
        ratios = found[f"PyTorch ÷ ours, {way}, ratio of medians"]
        assert [row["warp"] for row in ratios] == ["grid_sample nearest", "geometric mean"]
        assert list(ratios[0]) == ["warp", *JOBS]
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(JOBS) * len(names)
    for row in rows:
        assert row["images"] == "9x9x9x8" and row["table"] == "warps"
        assert float(row["median_ms"]) > 0 and row["calls"] == "2" and int(row["cores"]) >= 1
        assert row["versions"].count(".") >= 2
        assert (row["peak_mib"] != "") == (sys.platform == "linux" and row["device"] == "CPU")


def test_no_such_cell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sampler", "--cells=affine*", "--table=affine"])
    monkeypatch.setattr(sampler.os, "environ", {})
    with pytest.raises(SystemExit, match="affine"):
        sampler.main()


def rows(milliseconds, table="affine"):
    """What `measure` returns of `{(warp, contender): milliseconds}`."""
    fixed = {"peak_mib": None, "device": "CPU", "processor": "any", "cores": 2, "versions": "any 1"}
    return [
        {"table": table, "warp": warp, "job": job, "contender": name, "median_ms": ms}
        | {"min_ms": ms - 1, "max_ms": ms + 1, "calls": 3, **fixed}
        for (warp, name), ms in milliseconds.items()
        for job in JOBS
        if can(name, job, (1, 1, 1, 1))
    ]


@pytest.mark.parametrize(("target", "below"), [(1, ["3 of 6 below 1."]), (0.3, None)])
def test_ratios(capsys, target, below):
    times = {("a", "ours, default"): 2, ("a", "PyTorch"): 1}
    times |= {("b", "ours, default"): 8, ("b", "PyTorch"): 64}
    sampler.report(rows(times), target)
    printed = capsys.readouterr().out
    found = tables(printed)
    assert list(found) == [
        "Milliseconds, median (min … max)",
        "PyTorch ÷ ours, default, ratio of medians",
    ]
    assert found["Milliseconds, median (min … max)"][0]["PyTorch"] == "1 (0 … 2)"
    ratios = found["PyTorch ÷ ours, default, ratio of medians"]
    assert {row["warp"]: row["forward"] for row in ratios} == {
        "a": "0.50",
        "b": "8.00",
        "geometric mean": "2.00",
    }
    said = [line for line in printed.splitlines() if "below" in line]
    assert said == (below or ["3 of 6 below 1.", "0 of 6 below 0.3."])


def test_without_pytorch(monkeypatch, capsys, tmp_path):
    asked = []

    def measure(name, contenders, args):
        asked.append(contenders)
        return rows({(name, who): 5 for who in contenders}, CELLS[name].table)

    monkeypatch.setattr(sampler, "measure", measure)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flags = ["--table=affine", "--peers", f"--output={tmp_path / 'times.csv'}"]
    monkeypatch.setattr(sys, "argv", ["sampler", *flags])
    monkeypatch.setattr(sampler.os, "environ", {})
    sampler.main()
    names = ["ours, compiled", "ours, default", "Keras affine_transform", "Keras map_coordinates"]
    assert asked == [names] * 5
    printed = capsys.readouterr().out
    assert "Without PyTorch" in printed and "Without kornia" in printed
    assert list(tables(printed)) == ["Milliseconds, median (min … max)"]
    (times,) = tables(printed).values()
    assert times[1]["Keras affine_transform"] == "–"


def test_peers_do_affine_warps_only():
    assert not any(can(peer, "forward", (1, 1, 1, 1), "warps") for peer in PEERS)


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_unequal_work_is_refused(wrong):
    right = [np.ones(3), np.ones(2)]
    rounds.check_agreement({"ours": right, "PyTorch": [a + 1e-5 for a in right]}, "forward")
    with pytest.raises(SystemExit, match="forward: ours is .* away from PyTorch"):
        rounds.check_agreement({"ours": [right[0], wrong * right[1]], "PyTorch": right}, "forward")


def test_gradients_of_zero_agree_with_zeros_alone():
    rounds.check_agreement({"ours": [np.zeros(2)], "PyTorch": [np.zeros(2)]}, "nearest")
    with pytest.raises(SystemExit, match="nearest"):
        rounds.check_agreement({"ours": [np.ones(2)], "PyTorch": [np.zeros(2)]}, "nearest")


def die(pipe, *settings):
    raise SystemExit(3)


def test_a_dead_worker_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(rounds, "serve", die)
    with pytest.raises(EOFError):
        rounds.compete([OURS], (BACKEND, "one image", (1, 1, 1, 1)), "warps", 1, 0)


@linux_only
def test_peak_memory():
    """Of what a call frees before it returns, as well."""
    peak = rounds.peak_memory(lambda job: np.ones(2**23).sum(), "forward")
    assert peak == pytest.approx(64, abs=8)
