"""The tables of distorted images: their cells on a tiny task, and what is drawn from the files."""

import csv
import fcntl

import numpy as np
import pytest

from examples import cells, distorted_cifar10, distorted_mnist
from results import distorted
from stn_keras.data import cifar10, mnist

pytestmark = pytest.mark.slow


def bars(channels, side):
    """A loader of a tiny data set: which of two halves is lit."""

    def load(data_dir=None):
        rng = np.random.default_rng(0)
        images, labels = (
            rng.integers(0, 60, (48, side, side, channels), np.uint8),
            np.arange(48) % 2,
        )
        for image, label in zip(images, labels):
            image[6:-6, side // 2 * label : side // 2 * (label + 1)] += 190
        return (images, labels), (images[:16], labels[:16])

    return load


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(mnist, "load", bars(1, 28))
    monkeypatch.setattr(cifar10, "load", bars(3, 32))
    for module in (distorted_mnist, distorted_cifar10):
        monkeypatch.setattr(module, "HELD_OUT", 16)


def read(path):
    with path.open() as file:
        (row,) = csv.DictReader(file)
    return row


def run(module, folder, *names):
    flags = ["--epochs", "1", "--precision", "float32", "--output-dir", str(folder)]
    module.main([*flags, "--cells", *names])
    return {path.stem: read(path) for path in folder.glob("*.csv")}


def test_the_table_has_the_papers_cells_and_the_most_wanted_first():
    names = list(distorted_mnist.table())
    assert len(names) == len(set(names)) == 3 * len(distorted.read_paper())
    assert names[:2] == ["cnn-R-0", "st-cnn-affine-R-0"]
    assert all(name.startswith(("cnn", "st-cnn-affine")) for name in names[:30])
    assert all(name.endswith("-0") for name in names[30 : len(distorted.read_paper()) + 20])
    assert {name.rpartition("-")[0] for name in names} == {
        f"{model}-{distortion}" for model, distortion in distorted.read_paper()
    }


def test_a_cell_is_trained_once_and_says_how(tiny, tmp_path, capsys):
    rows = run(distorted_mnist, tmp_path, "st-fcn-affine-TC-0", "fcn-R-1")
    assert sorted(rows) == ["fcn-R-1", "st-fcn-affine-TC-0"]
    row = rows["st-fcn-affine-TC-0"]
    assert 0 <= float(row["test_error"]) <= 100 and float(row["seconds"]) > 0
    assert abs(int(row["parameters"]) - 400_000) < 2_000
    expected = {"distortion": "TC", "seed": "0", "epochs": "1", "precision": "float32"}
    assert {name: row[name] for name in expected} == expected
    assert "examples.distorted_mnist" in row["command"] and row["keras"] and row["optimizer"]
    pictures = np.load(tmp_path / "st-fcn-affine-TC-0.npz")
    assert pictures["images"].shape == (8, 60, 60, 1)
    assert pictures["warped"].shape == (8, 28, 28, 1)
    assert pictures["mean_images"].shape == (2, 60, 60, 1)
    assert np.ptp(pictures["images"]) == 255
    capsys.readouterr()
    assert run(distorted_mnist, tmp_path, "fcn-R-1", "st-fcn-affine-TC-*0") == rows
    assert capsys.readouterr().out == ""


def test_a_seed_repeats_a_cell(tiny, tmp_path):
    (first,), (again,) = (
        run(distorted_mnist, tmp_path / name, "fcn-E-2").values() for name in ("first", "again")
    )
    figures = ("test_error", "validation_error", "training_error")
    assert [first[name] for name in figures] == [again[name] for name in figures]


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path):
    path = tmp_path / "cnn-R-0.csv"
    with cells.claim(path) as mine, cells.claim(path) as other:
        assert (mine, other) == (path, None)
    with cells.claim(path) as mine:
        assert mine == path
        path.touch()
    with cells.claim(path) as mine:
        assert mine is None


def test_a_lock_left_behind_by_a_killed_process_holds_nothing(tmp_path):
    with (tmp_path / ".cnn-R-0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing it is what a kill does
    with cells.claim(tmp_path / "cnn-R-0.csv") as mine:
        assert mine is not None


def test_a_cell_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="No cell matches 'rnn-.'. There are: cnn-R-0, "):
        run(distorted_mnist, tmp_path, "cnn-*", "rnn-*")
    assert not list(tmp_path.iterdir())


def test_variants_of_the_cifar10_network_have_as_many_parameters():
    models = {variant: distorted_cifar10.build(variant) for variant in distorted.VARIANTS}
    assert set(models) == set(distorted_cifar10.VARIANTS)
    counts = [model.count_params() for model in models.values()]
    assert max(counts) / min(counts) < 1.001
    assert len(models["frozen"].trainable_weights) == len(models["cnn"].trainable_weights)
    shape = models["features"].get_layer("transformer").output.shape
    assert tuple(shape[1:]) == (14, 14, 8)


def test_a_cifar10_cell(tiny, tmp_path):
    rows = run(distorted_cifar10, tmp_path, "images-RTS-0")
    assert rows["images-RTS-0"]["parameters"] == "473120"
    assert np.load(tmp_path / "images-RTS-0.npz")["warped"].shape == (8, 32, 32, 3)


def write_cells(folder, error, names):
    folder.mkdir()
    for name in names:
        model, distortion, seed = name.rsplit("-", 2)
        row = {"model": model, "distortion": distortion, "test_error": error(model, int(seed))}
        row |= dict.fromkeys(("epochs", "batch_size", "peak", "precision", "threads"), "1")
        row |= {"tensorflow": "2", "keras": "3", "seconds": "60", "parameters": "400000"}
        cells.write(folder / f"{name}.csv", row)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results: the transformers of MNIST at 0.6 and 0.8, plain networks at 0.7."""
    paper = (distorted.MNIST / "paper.csv").read_text()
    names = ["cnn-R-0", "st-cnn-affine-R-0", "st-cnn-affine-R-1", "st-cnn-affine-E-0"]
    write_cells(
        tmp_path / "mnist", lambda model, seed: 0.6 + 0.4 * seed if "st-" in model else 0.7, names
    )
    (tmp_path / "mnist" / "paper.csv").write_text(paper)
    write_cells(tmp_path / "cifar10", lambda *_: 30, ["images-R-0", "cnn-R-0", "cnn-R-1"])
    np.savez(
        tmp_path / "mnist" / "st-cnn-affine-R-0.npz",
        **{name: np.full((8, 9, 9, 1), 200) for name in ("images", "warped")},
        **{f"mean_{name}": np.full((10, 9, 9, 1), 200) for name in ("images", "warped")},
    )
    (tmp_path / "README.md").write_text("# Results\n\nFirst.\n")
    for name, folder in (("FOLDER", ""), ("MNIST", "mnist"), ("CIFAR10", "cifar10")):
        monkeypatch.setattr(distorted, name, tmp_path / folder)
    return tmp_path


def test_tables_say_how_many_seeds_and_what_misses(results):
    distorted.main()
    text = (results / "README.md").read_text()
    assert text.startswith("# Results\n\nFirst.\n")
    assert "| cnn | 400,000 | 0.70 (1) · 1.2 | not run · 0.8 |" in text
    assert "| 0.80 ± 0.28 (2) · 0.7 |" in text
    assert "run: 2; at or below the paper's error: 1." in text
    assert "Above it, in points: st-cnn-affine on R by 0.10." in text
    assert "run too: 1; below it: 0." in text
    assert "**" not in text  # none is both
    assert "| peak of the learning rate, without a transformer | 1 |  |  |  |  |" in text
    assert "| peak of the learning rate, with one | 1 |  |  | 1 |  |" in text  # R and E
    assert "| epochs, fcn |  |  |  |  |  |" in text
    assert "Not below it, in points: st-cnn-affine on R by 0.10." in text
    assert "| no transformer, a larger dense layer | 400,000 | 70.00 ± 0.00 (2) |" in text
    assert {path.name for path in results.glob("*/*.png")} == {
        "errors.png",
        "warps.png",
        "means.png",
    }


def test_drawing_again_replaces_what_was_drawn_and_nothing_else(results):
    distorted.main()
    readme = results / "README.md"
    readme.write_text(readme.read_text() + "\nLast.\n")
    before = readme.read_text()
    distorted.main()
    assert readme.read_text() == before
