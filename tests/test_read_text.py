"""The generator of bent words, the decoder, the measures, and a tiny run of the example."""

import csv

import numpy as np
import pytest
from PIL import Image

from examples import consistency, read_photos, read_text, word_data, word_reader
from stn_keras import SpatialTransformer, pixel_sample, saved
from stn_keras.data import words


@pytest.fixture(autouse=True)
def fonts_of_matplotlib(monkeypatch):
    monkeypatch.setattr(word_data, "PACKAGES", dict.fromkeys(word_data.PACKAGES, {}))
    dejavu = word_data.fonts("training", None)
    monkeypatch.setattr(word_data, "fonts", lambda split, folder: dejavu)
    return dejavu


@pytest.fixture
def strip(fonts_of_matplotlib):
    return words.strip("spatial", fonts_of_matplotlib[0])


def random_bends(strip, count=20):
    rng = np.random.default_rng()
    return [word_data.random_bend(strip, rng.integers(3), rng) for _ in range(count)]


def test_labels_are_the_words():
    labels = words.encode(["Ab", "zzz", "Café"])
    assert labels.tolist()[0] == [1, 2, 0, 0, 0, 0, 0, 0]
    assert words.spell(labels).tolist() == ["ab", "zzz", "cafe"]


@pytest.mark.parametrize("word", ["", "two words", "abcdefghi", "a1", "ß"])
def test_other_words_are_refused(word):
    with pytest.raises(ValueError, match="a to z"):
        words.encode([word])


def test_the_decoder_joins_equal_neighbours_and_drops_blanks():
    columns = [[0, 1, 1, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 3, 26]]
    assert words.decode(np.eye(27)[columns]).tolist() == ["aab", "", "ccz"]


def test_the_way_to_the_picture_and_back(strip):
    left, top, right, bottom = strip.outline
    points = np.random.default_rng().uniform([left, top], [right, bottom], (100, 2))
    for bend in random_bends(strip):
        there = bend.to_picture(points)
        np.testing.assert_allclose(bend.to_strip(there), points, atol=1e-6)
        assert np.all(there > -0.51) and np.all(there < np.array(words.SIZE[::-1]) - 0.49)


def test_an_arc_of_a_half_circle(strip):
    """The baseline of a word bent by 180° is a half circle: as wide as two radii."""
    baseline = words.Bend(strip, arc=180).lines()[0]
    width, height = np.ptp(baseline, axis=0)
    assert width == pytest.approx(2 * height, rel=1e-5)
    assert baseline[16, 1] == baseline[:, 1].min()  # the ends point down


def test_unevenness_of_a_known_wave():
    x = np.linspace(0, 2 * np.pi, 1001)[:-1]
    wave = np.stack([x, 3 * np.sin(x)], -1)
    lines = np.stack([wave, wave - [0, 6]])[None]
    assert word_reader.unevenness(lines) == pytest.approx([3 / np.sqrt(2) / 6])
    missing = np.where(np.arange(1000)[:, None] % 2, lines, np.nan)
    assert word_reader.unevenness(missing) == pytest.approx([3 / np.sqrt(2) / 6])


def test_a_straight_word_is_even_and_a_bent_one_is_not(strip):
    straight, bent = (words.Bend(strip, arc=arc).lines()[None] for arc in (0, 90))
    assert word_reader.unevenness(straight) < 1e-2 < word_reader.unevenness(bent)


def test_the_truth_straightens_a_word(strip):
    bend = words.Bend(strip, arc=-70, tilt=10, perspective=(0.3, -0.2))
    straight = words.Bend(strip)
    size = word_data.STRAIGHT_SIZE
    pictures = [words.picture([way]) for way in (bend, straight)]
    seen = [
        np.asarray(pixel_sample(picture, way.straightening(size)[None]))
        for picture, way in zip(pictures, (bend, straight))
    ]
    before, after = (np.corrcoef(*(x.ravel() for x in pair))[0, 1] for pair in (pictures, seen))
    assert before < 0.5 < 0.85 < after


def test_the_same_seed_draws_the_same_words(fonts_of_matplotlib):
    first, again, other = (word_data.draw(fonts_of_matplotlib, 6, seed) for seed in (0, 0, 1))
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(again, name))
    assert not np.array_equal(first.labels, other.labels)
    assert first.images.shape == (6, 48, 128, 1) and first.images.dtype == np.uint8
    assert first.strengths.tolist() == [0, 1, 2, 0, 1, 2]


def test_readers_have_as_many_parameters_with_and_without_a_transformer():
    counts = {model: read_text.build(model).count_params() for model in read_text.TRANSFORMS}
    assert max(counts.values()) <= 400_000
    assert max(counts.values()) / min(counts.values()) < 1.02, counts


@pytest.mark.parametrize("transform", [t for t in read_text.TRANSFORMS.values() if t])
def test_every_transformer_begins_with_the_same_crop(transform):
    theta = word_reader.start(transform)[None].astype("float32")
    grid = np.asarray(transform.grid(theta, (4, 8)))
    still = np.asarray(transform.grid(transform.identity[None], (4, 8)))
    np.testing.assert_allclose(grid, word_reader.START * still, atol=1e-6)


def test_only_a_bend_is_inconsistent(monkeypatch):
    spline = read_text.TRANSFORMS["spline"]
    layer = consistency.Consistent(
        word_reader.localize(spline), transform=spline, output_size=(4, 8)
    )
    images = np.random.default_rng().uniform(0, 1, (4, *words.SIZE, 1)).astype("float32")

    def loss():
        layer(images, training=True)
        return float(layer.losses[0])

    assert loss() > 1e-3
    still = spline.warp(np.zeros((4, 32), "float32"), words.SIZE)
    monkeypatch.setattr(consistency, "random_bend", lambda count, seeds: still)
    assert loss() == pytest.approx(0, abs=1e-9)


def test_edits():
    assert word_reader.edits("kitten", "sitting") == 3
    assert word_reader.edits("", "abc") == word_reader.edits("abc", "") == 3
    assert word_reader.character_errors(["ab", "c"], ["ab", "d"]) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_a_tiny_run_and_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(word_data, "COUNTS", {"training": 96, "validation": 12, "test": 12})
    monkeypatch.setattr(read_text, "DATA", tmp_path / "words")
    monkeypatch.chdir(tmp_path)
    flags = ["--epochs", "1", "--precision", "float32", "--output-dir", str(tmp_path)]
    read_text.main([*flags, "--models", str(tmp_path / "models"), "--cells", "spline-0", "truth-1"])
    rows = {path.stem: list(csv.DictReader(path.open())) for path in tmp_path.glob("*.csv")}
    assert rows.keys() == {"spline-0", "truth-1"}
    (row,) = rows["spline-0"]
    assert float(row["test_uneven_before_strong"]) > float(row["test_uneven_before_straight"])
    assert 0 <= float(row["test_words_mild"]) <= 100
    assert rows["truth-1"][0]["test_uneven_after_mild"] == ""
    assert (tmp_path / "models" / "spline-0" / "last.keras").exists()
    reader = saved.load(tmp_path / "models" / "spline-0" / "reader.keras")
    assert type(reader.get_layer("transformer")) is SpatialTransformer
    assert (tmp_path / "logs" / "spline-0" / "transformer").is_dir()
    with np.load(tmp_path / "spline-0.npz") as arrays:
        assert arrays["seen"].shape[1:] == (32, 96, 1)


@pytest.mark.slow
def test_the_words_of_a_page_are_drawn():
    page = Image.fromarray(np.random.default_rng().integers(0, 256, (191, 384), np.uint8))
    pictures = read_photos.cut(page, read_photos.PAGE)
    assert pictures.shape == (len(read_photos.PAGE), 48, 128, 1)
    true = [word for word, *_ in read_photos.PAGE]
    figure = read_photos.draw(*map(read_text.build, ("spline", "plain")), pictures, true)
    assert len(figure.axes) == 2 * len(pictures)
