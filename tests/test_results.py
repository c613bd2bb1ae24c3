"""The tables and figures of `results/`, from files alone."""

import json
import pathlib
import re

import numpy as np
import pytest

from benchmarks import report as speed
from examples import cells
from results import cifar10, distorted, report, tables

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]

# Test errors of seeds on a distortion; the paper has 0.7 (R), 0.5 (RTS), 0.8 (P) and 1.2 (E).
ERRORS = {
    "cnn-R": (0.9, 1.0, 1.1),
    "cnn-E": (0.7, 0.8),
    "st-cnn-affine-R": (0.6, 0.7, 0.8),
    "st-cnn-affine-RTS": (0.6, 0.6, 0.7),
    "st-cnn-affine-P": (0.1,),
    "st-cnn-affine-E": (0.3, 0.4),
    "st-fcn-affine-P": (1.9,),
}


def write_cells(folder, errors):
    folder.mkdir()
    for name, seeds in errors.items():
        model, distortion = name.rsplit("-", 1)
        for seed, error in enumerate(seeds):
            row = {"model": model, "distortion": distortion, "test_error": error}
            row |= dict.fromkeys(("epochs", "batch_size", "peak", "precision", "threads"), "1")
            row |= {"tensorflow": "2", "keras": "3", "seconds": "60"}
            row |= {"parameters": 400_000 + 100 * seed}
            cells.write(folder / f"{name}-{seed}.csv", row)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results of one, two and three seeds."""
    paper = (distorted.MNIST / "paper.csv").read_text()
    write_cells(tmp_path / "mnist", ERRORS)
    (tmp_path / "mnist" / "paper.csv").write_text(paper)
    write_cells(tmp_path / "cifar10", {"images-R": (30,), "cnn-R": (30, 30)})
    np.savez(
        tmp_path / "mnist" / "st-cnn-affine-R-0.npz",
        **{name: np.full((8, 9, 9, 1), 200) for name in ("images", "warped")},
        **{f"mean_{name}": np.full((10, 9, 9, 1), 200) for name in ("images", "warped")},
    )
    np.savez(
        tmp_path / "cifar10" / "orientation-R-0.npz",
        **np.load(tmp_path / "mnist" / "st-cnn-affine-R-0.npz"),
        found=np.linspace(-1, 1, 50),
        true=np.linspace(-1.5, 1.5, 50),
    )
    (tmp_path / "README.md").write_text("# Results\n\nFirst.\n")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    for name in ("MNIST", "CIFAR10"):
        monkeypatch.setattr(distorted, name, tmp_path / name.lower())
    return tmp_path


def test_only_results_of_three_seeds_count_as_reached(results):
    text = distorted.sections()
    assert "Results with a transformer: 5; with at least 3 seeds: 2;" in text
    assert "at or below the paper's error: 1. Above it, in points: " in text
    assert "CNN, affine transformer (rotation, scaling, translation) by 0.13." in text
    (affine,) = re.findall(r"^\| CNN, affine transformer \|.*", text, re.M)
    assert "| 0.70 ± 0.10 (3) · 0.7 ✓ | 0.63 ± 0.06 (3) · 0.5 |" in affine
    assert "| 0.10 (one run) · 0.8 | 0.35 ± 0.07 (2) · 1.2 | not run · 1.7 |" in affine


def test_differences_are_tested_with_three_seeds_only(results):
    text = distorted.sections()
    # scipy.stats.ttest_ind([0.6, 0.7, 0.8], [0.9, 1.0, 1.1], equal_var=False)
    assert "| CNN, affine transformer − CNN | **-0.30 ± 0.08, p = 0.021** |  |  |  |  |" in text
    # scipy.stats.ttest_ind([0.85, 0.84, 0.83], [0.98, 0.75, 0.96], equal_var=False)
    change, error, p = tables.welch([0.85, 0.84, 0.83], [0.98, 0.75, 0.96])
    np.testing.assert_allclose([change, error, p], [-0.0566667, 0.0737865, 0.5219321], rtol=1e-5)


def test_tables_say_how_many_parameters_and_what_recipe(results):
    text = distorted.sections()
    assert "| CNN | 400,000 to 400,200 | 1.00 ± 0.10 (3) · 1.2 | not run · 0.8 |" in text
    assert "| peak of the learning rate, without a transformer | 1 |  |  | 1 |  |" in text
    assert "| peak of the learning rate, with a transformer | 1 | 1 | 1 | 1 |  |" in text
    assert "| epochs, dense layers |  |  | 1 |  |  |" in text
    assert (
        "| no transformer, a larger dense layer | 400,000 to 400,100 | 70.00 ± 0.00 (2) |" in text
    )
    assert "| transformer on the images | 400,000 | 70.00 (one run) |" in text


def test_writing_again_replaces_what_was_written_and_nothing_else(results):
    distorted.main()
    readme = results / "README.md"
    assert readme.read_text().startswith("# Results\n\nFirst.\n")
    names = {path.name for path in results.glob("*/*.png")}
    assert names == {"errors.png", "warps.png", "means.png"} | {
        f"{name}-orientation.png" for name in ("warps", "angles")
    }
    report.write("results.cifar10", "A table.")
    readme.write_text(readme.read_text() + "\nLast.\n")
    before = readme.read_text()
    distorted.main()
    report.write("results.cifar10", "A table.")
    assert readme.read_text() == before
    assert before.count("A table.") == 1 and before.count(distorted.sections()) == 1


def test_the_readme_has_the_tables_of_the_committed_runs():
    readme = report.README.read_text()
    assert report.insert(readme, "results.distorted", distorted.sections()) == readme
    assert report.insert(readme, "results.cifar10", cifar10.table(cifar10.groups())) == readme
    assert set(cifar10.groups()) == set(cifar10.FLAGS)


def accuracies(name, distortion):
    """The mean accuracy of a network on distorted CIFAR-10, as a table has it."""
    errors = tables.errors_of(distorted.read(distorted.CIFAR10))[name, distortion]
    return report.mean([100 - error for error in errors])


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_pages_have_the_errors_of_the_committed_runs(page):
    text = (ROOT / page).read_text()
    errors, paper = tables.errors_of(distorted.read(distorted.MNIST)), distorted.read_paper()
    networks = {"README.md": ["cnn"], "docs/results.md": ["cnn", "fcn"]}[page]
    for network in networks:
        for name in ("R", "RTS", "P", "E", "TC"):
            keys = [(network, name), (f"st-{network}-affine", name)]
            ours, theirs = ([values[key] for key in keys] for values in (errors, paper))
            assert f" | {' | '.join([*map(report.mean, ours), *map(str, theirs)])} |" in text
    for group in ("tuned", "tuned-cnn"):
        assert cifar10.row(group, cifar10.groups()[group])[3] in text


def test_pages_have_the_accuracies_of_the_committed_runs():
    text = (ROOT / "docs" / "results.md").read_text()
    for models in (("cnn", "images", "features"), ("wide", "orientation")):
        for name in ("R", "RTS"):
            assert " | ".join(accuracies(model, name) for model in models) in text
    for name, histories in cifar10.groups().items():
        assert " | ".join(cifar10.row(name, histories)[2:]) in text
    pair = "wide", "orientation"
    gains = {name: [accuracies(model, name) for model in pair] for name in ("R", "RTS")}
    assert " to ".join(gains["R"]) in (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "orientation.md").read_text()
    assert all(" | ".join(gain) in page for gain in gains.values())


def test_the_answer_has_figures_of_the_tables():
    """Every number with a decimal point is a rounded number of the generated part."""
    answer, _, rest = report.README.read_text().partition("## Limits of the comparison")
    generated = re.findall(r"\d+\.\d+", rest.partition("<!-- from here")[2])
    for figure in re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", answer):
        decimals = len(figure.partition(".")[2])
        assert figure in {f"{float(number):.{decimals}f}" for number in generated}, figure


@pytest.mark.parametrize("page", ["README.md", "docs/should_i_use_one.md"])
def test_pages_have_no_figures_of_their_own(page):
    """Every number with a decimal point stands in the page that measured it, or in the versions."""
    sources = ["pyproject.toml", "results/README.md"]
    measured = ("results", "registration", "exporting", "orientation")
    sources += [f"docs/{name}.md" for name in measured]
    known = "".join((ROOT / source).read_text() for source in sources)
    other = re.compile(r"^```.*?^```$|<!-- from here.*?<!-- to here -->|\(http.*?\)", re.M | re.S)
    for figure in re.findall(r"\d+\.\d+", other.sub("", (ROOT / page).read_text())):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", known), figure


@pytest.mark.parametrize("folder", ["cifar10", "mnist_rts"])
def test_the_accuracy_of_the_shipped_models(folder):
    settings = json.loads((ROOT / "saved_models" / folder / "config.json").read_text())
    row = re.search(rf"\| `{folder}/` .*", (ROOT / "docs" / "trained_models.md").read_text())[0]
    accuracies = [s["test_accuracy"] for s in (settings, settings.get("plain")) if s]
    assert re.findall(r"[\d.]+(?= %)", row) == [f"{100 * a:.2f}" for a in accuracies]


@pytest.mark.parametrize("page", speed.pages())
def test_pages_have_the_speeds_of_the_committed_files(page):
    text = page.read_text()
    assert report.insert(text, "benchmarks.report", speed.pages()[page]) == text


def test_the_answer_is_in_the_first_ten_lines():
    lines = (speed.FOLDER / "README.md").read_text().splitlines()[:10]
    assert all(any(f"- {name}" in line for line in lines) for name in speed.BACKENDS.values())
