"""The benchmark of the sampler: a real run on tiny images, and its arithmetic."""

import csv
import importlib.util
import re
import shutil
import sys

import numpy as np
import pytest
from printed import BACKEND, ROOT, run, tables

from benchmarks import checkouts, memory, report, rounds, sampler
from benchmarks import tables as figures
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
    """Five shapes and eleven other warps, of four jobs each."""
    by_table = [cell.table for cell in CELLS.values()]
    assert (by_table.count("affine"), by_table.count("warps"), len(JOBS)) == (5, 11, 4)
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


def test_another_checkout(tmp_path):
    """This library is compared, in turns, with a copy that prints a word when it is imported."""
    pytest.importorskip("torch")
    shutil.copytree(ROOT / "stn_keras", tmp_path / "base" / "stn_keras")
    with (tmp_path / "base" / "stn_keras" / "__init__.py").open("a") as file:
        file.write("(__import__('pathlib').Path(__file__).parents[2] / 'imported').touch()\n")
    flags = [str(tmp_path / "base"), "--quick", f"--output={tmp_path}"]
    found = run("benchmarks.checkouts", *flags)
    assert (tmp_path / "imported").exists()
    base = OURS.replace("ours", "base")
    times = found["Milliseconds, median (min … max)"]
    assert list(times[0]) == ["warp", "job", base, OURS, "PyTorch"]
    assert f"{base} ÷ {OURS}, ratio of medians" in found
    if BACKEND != "torch":
        assert float(found["First calls"][0]["base"]) > 0
    (means,) = (found[title] for title in found if title.startswith("## Time of commit"))
    assert len(means) == 2 and list(means[0]) == ["warps", *JOBS]
    measured = figures.read(tmp_path / f"sampler-{BACKEND}.csv")
    assert {row["contender"] for row in measured} == {base, OURS, "PyTorch"}


def test_what_is_no_checkout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["checkouts", str(tmp_path)])
    with pytest.raises(SystemExit, match="is not a checkout of this repository"):
        checkouts.main()


def test_no_such_cell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sampler", "--cells=affine*", "--table=affine"])
    monkeypatch.setattr(sampler.os, "environ", {})
    with pytest.raises(SystemExit, match="affine"):
        sampler.main()


def rows(milliseconds, table="affine"):
    """What `measure` returns of `{(warp, contender): milliseconds}`."""
    fixed = {"peak_mib": None, "device": "CPU", "processor": "any", "cores": 2, "versions": "any 1"}
    fixed["commit"] = "0123abc"
    return [
        {"table": table, "warp": warp, "job": job, "contender": name, "median_ms": ms}
        | {"min_ms": ms - 1, "max_ms": ms + 1, "calls": 3, **fixed}
        for (warp, name), ms in milliseconds.items()
        for job in JOBS
        if can(name, job, (1, 1, 1, 1))
    ]


@pytest.mark.parametrize(("target", "below"), [(1, ["4 of 8 below 1."]), (0.3, None)])
def test_ratios(capsys, target, below):
    times = {("a", "ours, default"): 2, ("a", "PyTorch"): 1}
    times |= {("b", "ours, default"): 8, ("b", "PyTorch"): 64}
    sampler.show(rows(times), target)
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
    assert said == (below or ["4 of 8 below 1.", "0 of 8 below 0.3."])


def test_without_pytorch(monkeypatch, capsys, tmp_path):
    asked = []

    def measure(backend, warps, names, args):
        asked.append(names)
        return rows({(warp, who): 5 for warp in warps for who in names})

    monkeypatch.setattr(sampler, "measure", measure)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flags = ["--table=affine", "--peers", f"--output={tmp_path / 'times.csv'}"]
    monkeypatch.setattr(sys, "argv", ["sampler", *flags])
    monkeypatch.setattr(sampler.os, "environ", {})
    sampler.main()
    names = ["ours, compiled", "ours, default", "Keras affine_transform", "Keras map_coordinates"]
    assert asked == [names]
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
    pipes = {OURS: rounds.start(die)}
    with pytest.raises((EOFError, ConnectionError)):
        rounds.compete(pipes, "one image", (1, 1, 1, 1), "warps", rounds=1)


@linux_only
def test_peak_memory():
    """The peak includes memory that a call frees before it returns."""
    peak, total = memory.added_at_peak(lambda: np.ones(2**23).sum())
    assert peak == pytest.approx(64, abs=8) and total == 2**23


def csv_rows(contenders, jobs=("forward", "+ gradient of coordinates")):
    """Rows of two warps as a CSV file has them, of `{contender: milliseconds}`."""
    return [
        {"table": "affine", "warp": warp, "job": job, "contender": name, "median_ms": str(ms * k)}
        | {"commit": name[:4], "device": "CPU", "cores": "2", "processor": "any"}
        for k, warp in enumerate("ab", 1)
        for job in jobs
        for name, ms in contenders.items()
    ]


def test_answer():
    times = {"base, default": 6, "ours, compiled": 1, "ours, default": 4, "PyTorch": 2}
    measured = {"tensorflow": csv_rows(times)}
    (said,) = report.answer(measured, {}).splitlines()[2:]
    assert said == "- TensorFlow: affine layer 0.50 and 0.50 (0.50 to 0.50). Commit ours."
    title, table = report.against_base(measured)
    assert title == "## Time of commit base divided by that of ours"
    assert table.splitlines()[-1] == "| TensorFlow, affine layer | 1.50 | 1.50 |"


def test_first_calls_in_the_answer():
    models = {"quick start": ["first fit, s"]}
    models["two transformers"] = ["first steps, s", "smaller batch, s"]
    calls = [
        {"what": what, "figure": figure, "contender": name, "median": median, "at_most": "2 more"}
        | {"commit": "abc1234"}
        for what, names in models.items()
        for figure in names
        for name, median in {"ours": "4", "beside": "1"}.items()
    ]
    (said,) = report.first_calls_in_short({"tensorflow": calls})
    assert said.count("3.0 s") == 3 and said.endswith("Commit abc1234.")
    last = figures.of_first_calls(calls).splitlines()[-1]
    assert last == "| two transformers | smaller batch, s | 4 | 1 | reference + 2 | no |"
