"""The benchmark of first calls: its cheapest measurement really run, and its arithmetic."""

import sys
import types

import pytest
from printed import BACKEND, run

from benchmarks import first_call, tables, waits

pytestmark = pytest.mark.slow


def test_first_call():
    """A real run of the cheapest measurement, each contender in a fresh process."""
    pytest.importorskip("torch")
    flags = ["--figures=new size, layer forward", "--sizes=2"]
    lines = run("benchmarks.first_call", *flags)["First calls"]
    names = ["first, s", "median, s", "MiB each", "MiB at the peak"]
    assert [line["figure"] for line in lines] == names
    assert list(lines[0]) == ["what", "figure", "ours", "reference", "limit", "kept"]
    assert [line["limit"] for line in lines] == [
        "–",
        "0.05",
        "8" if BACKEND == "jax" else "5",
        "–",
    ]
    for line in lines[:2]:
        assert float(line["ours"]) > 0 and float(line["reference"]) > 0


@pytest.mark.parametrize("function", [waits.quick_start, waits.two_transformers])
def test_first_steps_of_models(function):
    """In this process, where they are not the first."""
    found = function("network")
    assert len(found) == 2 and min(found.values()) > 0
    limits = [m.limits for m in measurements() if m.function == function.__name__]
    assert limits and all(list(names) == list(found) for names in limits)


def test_fill_values():
    found = waits.fill_values(BACKEND, "forward", 2)
    assert found["all, s"] > 0
    assert list(measurements()[-1].limits) == list(found)


def test_new_sizes_stop_in_time(monkeypatch):
    """Further sizes are left out if they would fill the memory."""
    asked = []
    monkeypatch.setattr(waits, "prepare", lambda *settings: ("CPU", asked.append))
    monkeypatch.setattr(waits, "TOO_MUCH", -1e9)
    found = waits.new_sizes("ours", BACKEND, "one image", "forward", 20)
    assert asked == ["forward"] * (2 if sys.platform == "linux" else 21)
    assert set(found) == {"first, s", "median, s", "MiB", "MiB each", "MiB at the peak"}


def measurements(many=True):
    return list(first_call.measurements(BACKEND, 20, many))


def test_limits():
    """Limits that the README states."""
    names = [measurement.name for measurement in measurements(many=False)]
    assert [m.name for m in measurements() if m.name not in names] == [
        "500 sizes, layer with gradients",
        "500 sizes, grid_sample with gradients",
    ]
    by_name = {measurement.name: measurement.limits for measurement in measurements()}
    assert by_name["quick start"] == {"first fit, s": 1.0, "smaller batch, s": 0.1}
    assert by_name["two transformers"] == {"first steps, s": 3.5, "smaller batch, s": 0.3}
    assert by_name["new size, layer with gradients"]["median, s"] == (
        0.7 if BACKEND == "jax" else 0.3
    )
    assert by_name["500 sizes, layer with gradients"]["MiB"] == 1000


@pytest.mark.parametrize(
    ("adds", "without", "met"), [(True, 4.5, "yes"), (True, 3.5, "no"), (False, 4.5, "no")]
)
def test_limits_on_what_is_added(monkeypatch, adds, without, met):
    """Contenders take turns, and a limit may be on the difference."""
    measurement = first_call.Measurement(
        "model", "f", "ours", "beside", {"fit, s": 1, "free": None}, adds
    )
    asked = []

    def start(worker, function, args, checkout):
        asked.append(args)
        seconds = {"ours": 5, "beside": without}[args]
        return types.SimpleNamespace(recv=lambda: {"fit, s": seconds, "free": 1})

    monkeypatch.setattr(first_call, "start", start)
    rows = first_call.measure(BACKEND, measurement, rounds=2)
    assert asked == ["ours", "beside", "beside", "ours"]
    _, _, fit, free = tables.of_first_calls(rows).splitlines()
    assert fit == f"| model | fit, s | 5 | {without} | {'reference + 1' if adds else '1'} | {met} |"
    assert free == "| model | free | 1 | 1 | – |  |"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's graph")
def test_operations_of_a_graph():
    forward, both = (
        waits.graph("64x32x32x3", job)["nodes"] for job in ("forward", first_call.BOTH)
    )
    assert 0 < forward < both
