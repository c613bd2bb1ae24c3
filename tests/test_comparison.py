"""`train.py --compare`: its runs, killed and resumed, and its table."""

import math
import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

import train
import train_flags
from stn_keras import history
from stn_keras.system import files
from stn_keras.training import comparison, runs
from tests.test_own_pictures import clean  # noqa: F401

FOLDER = pathlib.Path("saved_models/a")
NAMES = ["with-0", "without-0", "with-1", "without-1"]
COMPARE = ["--images", "shades", "--image-size", "20", "--epochs", "1", "--precision", "float32"]


@pytest.fixture
def shades(rng):
    """A folder of dark and of light pictures, which overlap: not all are told apart."""
    for name, level in (("dark", 0), ("light", 30)):
        pathlib.Path("shades", name).mkdir(parents=True)
        for k in range(60):
            picture = rng.integers(level, level + 200, (20, 20, 3)).astype("uint8")
            Image.fromarray(picture).save(pathlib.Path("shades", name, f"{k}.png"))


def start(*flags):
    return train.main(["--run", "a", *flags])


def stop_in(monkeypatch, number):
    """Ends the run of that number, from 0 on, as a kill would, after its first epoch."""
    fit, calls = keras.Model.fit, []

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise SystemExit(9)

    def started(model, *arguments, callbacks, **options):
        calls.append(model)
        stop = [Stop()] if len(calls) == number + 1 else []
        return fit(model, *arguments, callbacks=[*callbacks, *stop], **options)

    monkeypatch.setattr(keras.Model, "fit", started)
    return calls


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_ends_with_a_table(shades, monkeypatch, capsys):
    calls = stop_in(monkeypatch, 2)
    with pytest.raises(SystemExit):
        start("--compare", "--seeds", "2", *COMPARE)
    assert start("--compare", *COMPARE) == 1
    assert "holds an unfinished run; resume it with --resume" in capsys.readouterr().err
    assert start("--resume") == 0
    assert len(calls) == 5  # only the third was trained again
    printed = capsys.readouterr().out
    table = (FOLDER / "comparison.txt").read_text()
    assert table.strip() in printed and "Run 3 of 4" in printed and "Run 2 of 4" not in printed
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(
        ["comparison.txt", "config.json", *NAMES]
    )
    found = [
        100 * history.read(FOLDER / name / "history.csv")["val_accuracy"][-1] for name in NAMES
    ]
    for seed, line in enumerate(table.splitlines()[3:5]):
        one, other = found[2 * seed : 2 * seed + 2]
        numbers = [float(number) for number in re.findall(r"[-+]?[\d.]+", line)]
        np.testing.assert_allclose(numbers[:4], [seed, one, other, one - other], atol=0.0051)
    assert "Validation accuracy in % after 1 epoch, on 24 images" in table
    assert start("--resume") == 1 and "is finished" in capsys.readouterr().err

    keras.backend.clear_session()
    assert train.main([*COMPARE, "--run", "b", "--seed", "1", "--no-transformer"]) == 0
    alone, compared = (
        keras.models.load_model(folder / "last.keras")
        for folder in (FOLDER.with_name("b"), FOLDER / "without-1")
    )
    for one, other in zip(alone.get_weights(), compared.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_images_that_cannot_be_loaded_leave_nothing_behind(capsys):
    assert start("--compare", *COMPARE) == 1
    assert "shades" in capsys.readouterr().err and not FOLDER.exists()


def test_the_runs_are_told_from_the_finished_ones(tmp_path):
    flags = train_flags.parse(["--compare", "--seeds", "2", "--epochs", "7", "--run", "a"])
    settings = {name: getattr(flags, name) for name in (*runs.SAVED_FLAGS, *runs.DATA_FLAGS)}
    run = runs.Run("a", tmp_path, tmp_path / "logs")
    for name in NAMES[:3]:
        (run.folder / name).mkdir(parents=True)
        files.write_settings(run.folder / name / "config.json", {})
    for name in NAMES[:2]:
        (run.folder / name / "last.keras").touch()
    (run.folder / NAMES[1] / "unfinished.npz").touch()
    found = dict(comparison.remaining(run, {**settings, "seeds": 2}))
    parsed = [train_flags.parse(arguments) for arguments in found.values()]
    assert list(found) == [2, 3, 4] and [flags.run for flags in parsed] == NAMES[1:]
    assert [flags.resume for flags in parsed] == [True, True, False]
    assert [flags.transformer for flags in parsed] == [False, True, False]
    assert [flags.seed for flags in parsed] == [0, 1, 1]
    for flags in parsed:
        assert flags.epochs == 7 and not flags.compare
        assert flags.output_dir == run.folder and flags.log_dir == run.log_dir


def test_a_transformer_that_looks_outside_the_image_is_named():
    lines = comparison.table([10, 80.5], [70, 70.25], [2, 3], [True, False], error=35.1)
    assert [line.split() for line in lines[1:]] == [
        ["0", "10.00", "70.00", "-60.00", "2.0", "pixels,", "outside", "the", "image"],
        ["1", "80.50", "70.25", "+10.25", "3.0", "pixels"],
        ["mean", "45.25", "70.12", "-24.88", "±", "35.10", "2.5", "pixels"],
    ]


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_the_test_is_scipy_s(rng, seeds):
    stats = pytest.importorskip("scipy.stats")
    one, other = rng.normal(80, 1, (2, seeds)).round(4)  # as `paired_test` rounds differences
    gain, error, p = comparison.paired_test(one, other)
    wanted = stats.ttest_rel(one, other)
    assert gain / error == pytest.approx(wanted.statistic, rel=1e-2)
    assert p == pytest.approx(wanted.pvalue, rel=1e-2)
    assert error == pytest.approx(stats.sem(one - other), rel=1e-3)


def test_equal_differences_cannot_be_tested():
    accuracies = np.array([0.8, 0.7, 0.9], "float32")
    gain, error, p = comparison.paired_test(100 * accuracies, 100 * (accuracies - 0.1))
    assert (gain, error) == (pytest.approx(10), 0) and math.isnan(p)
    assert "all seeds differ by the same" in comparison.describe_test(gain, error, p, 3)
    assert "no difference" in comparison.verdict(gain, p, False)


@pytest.mark.parametrize(
    "gain, p, one_warp, words",
    [
        (1.5, 0.04, False, "helps on these images: +1.50 points of accuracy."),
        (1.5, 0.04, True, "helps on these images: +1.50 points of accuracy, and all images get"),
        (-2, 0.01, False, "does harm on these images: -2.00 points"),
        (1.5, 0.06, True, "no difference larger than chance was found, and all images get"),
    ],
)
def test_a_sentence_says_what_was_found(gain, p, one_warp, words):
    assert words in comparison.verdict(gain, p, one_warp)


def test_the_limits_are_those_of_the_seeds():
    # scipy.stats.ttest_rel([78.6, 78.13, 77.81], [78.4, 77.56, 78.09])
    found = comparison.paired_test([78.6, 78.13, 77.81], [78.4, 77.56, 78.09])
    np.testing.assert_allclose(found, [0.163333, 0.246058, 0.575100], rtol=1e-4)
    text = comparison.describe_test(*found, seeds=3)
    assert "t = 0.66, 2 degrees of freedom, p = 0.58;" in text and "below p = 0.25" in text
