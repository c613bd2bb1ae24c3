"""The benchmark of first calls: its cheapest measurement really run, and its arithmetic."""

import sys

import pytest
from printed import BACKEND, run

from benchmarks import first_call, waits

pytestmark = pytest.mark.slow


def test_first_call():
    """A real run of the cheapest measurement, each contender in a fresh process."""
    pytest.importorskip("torch")
    flags = ["--figures=new size, layer forward", "--sizes=2"]
    lines = run("benchmarks.first_call", *flags)["First calls"]
    names = ["first, s", "median, s", "MiB each"]
    assert [line["figure"] for line in lines] == names
    assert list(lines[0]) == ["what", "figure", "ours", "beside", "at most", "met"]
    assert [line["at most"] for line in lines] == ["–", "0.05", "5"]
    for line in lines[:2]:
        assert float(line["ours"]) > 0 and float(line["beside"]) > 0


@pytest.mark.parametrize("function", [waits.quick_start, waits.two_transformers])
def test_first_steps_of_models(function):
    """In this process, where they are not the first."""
    found = function(False)
    assert len(found) == 2 and min(found.values()) > 0
    (measurement,) = [m for m in measurements() if m.function == function.__name__]
    assert list(measurement.limits) == list(found)


def test_fill_values():
    found = waits.fill_values(BACKEND, "forward", 2)
    assert found["all, s"] > 0
    assert list(measurements()[-1].limits) == list(found)


def test_new_sizes_stop_in_time(monkeypatch):
    """Where they would fill the memory."""
    asked = []
    monkeypatch.setattr(waits, "prepare", lambda *settings: ("CPU", asked.append))
    monkeypatch.setattr(waits, "TOO_MUCH", -1e9)
    found = waits.new_sizes("ours", BACKEND, "one image", "forward", 20)
    assert asked == ["forward"] * (2 if sys.platform == "linux" else 21)
    assert set(found) == {"first, s", "median, s", "MiB", "MiB each"}


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
    assert by_name["two transformers"] == {"first steps, s": 3.0, "smaller batch, s": 0.4}
    assert by_name["new size, layer with gradients"]["median, s"] == 0.3
    assert by_name["500 sizes, layer with gradients"]["MiB"] == 1000


@pytest.mark.parametrize(
    ("adds", "without", "met"), [(True, 4.5, "yes"), (True, 3.5, "no"), (False, 4.5, "no")]
)
def test_limits_on_what_is_added(capsys, adds, without, met):
    measurement = first_call.Measurement("model", "", (), (), {"fit, s": 1, "free": None}, adds)
    first_call.report(measurement, {"fit, s": 5, "free": 1}, {"fit, s": without, "free": 2})
    fit, free = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in fit.split("|")[3:7]] == [
        "5",
        str(without),
        "1 more" if adds else "1",
        met,
    ]
    assert free.split("|")[5].strip() == "–"
