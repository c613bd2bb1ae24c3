"""The images on which `train.py` trains and measures, and what it prints about them."""

import numpy as np
import pytest
from PIL import Image

from stn_keras.data import cifar10, pictures
from stn_keras.training import messages, splits
from stn_keras.training.runs import UsageError

SIZE = 4


@pytest.fixture
def shade(tmp_path):
    """Fills a folder with pictures, a number of each class, all of different shades."""

    def fill(folder, **counts):
        for name, count in counts.items():
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((SIZE, SIZE, 3), len(shades), np.uint8)
                shades.append(pixels)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
        return tmp_path

    shades: list = []
    return fill


def test_the_last_images_of_cifar10_are_held_out_and_none_is_trained_on(monkeypatch, rng):
    images, labels = rng.integers(0, 256, (30, 32, 32, 3), np.uint8), rng.integers(0, 10, 30)
    test = images[::-1], labels[::-1]
    monkeypatch.setattr(cifar10, "load", lambda data_dir: ((images, labels), test))
    data = splits.load(validation_images=4)
    assert len(data.training.images) == len(data.training.labels) == 26
    found = [np.concatenate(arrays) for arrays in zip(data.training, data.validation)]
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], np.eye(10)[labels])
    np.testing.assert_array_equal(data.test.images, test[0])
    assert data.classes == list(cifar10.CLASS_NAMES) and data.shown is data.test.images
    with pytest.raises(UsageError, match="less than the 30 images there are. Received: 30"):
        splits.load(validation_images=30)


def test_a_fifth_of_a_folder_is_held_out(shade):
    data = splits.load(shade(".", cat=12, dog=8), image_size=SIZE)
    assert len(data.training.images) == 16 and len(data.validation.images) == 4
    assert data.test is None and data.shown is data.validation.images
    shades = np.concatenate([data.training.images, data.validation.images])[:, 0, 0, 0]
    assert sorted(shades) == [*range(20)]
    is_dog = np.concatenate([data.training.labels, data.validation.labels])[:, 1]
    np.testing.assert_array_equal(is_dog, shades >= 12)


@pytest.mark.parametrize("validation", ["val", "valid"])
def test_a_folder_that_is_split_keeps_its_split(shade, validation):
    shade("train", cat=5, dog=5)
    shade(validation, cat=3)
    folder = shade("test", dog=2)
    (folder / "test" / "dog" / "broken.png").write_text("no picture")
    data = splits.load(folder, image_size=SIZE)
    for split, shades in ((data.training, range(10)), (data.validation, range(10, 13))):
        assert sorted(split.images[:, 0, 0, 0]) == [*shades]
    assert data.test.labels.tolist() == [[0, 1], [0, 1]] and len(data.skipped) == 1
    with pytest.raises(UsageError, match=f"{validation} has the validation images. Received: 2"):
        splits.load(folder, image_size=SIZE, validation_images=2)
    assert len(splits.load(folder, image_size=SIZE, validation_images=3).validation.images) == 3


def test_a_split_without_validation_holds_a_fifth_out(shade):
    shade("train", cat=5, dog=5)
    data = splits.load(shade("test", cat=1, dog=1), image_size=SIZE)
    assert [len(s.images) for s in (data.training, data.validation, data.test)] == [8, 2, 2]


def test_a_split_with_a_class_of_its_own(shade):
    shade("train", cat=2, dog=2)
    with pytest.raises(pictures.PictureError, match="cow is not one of the classes"):
        splits.load(shade("val", cow=1), image_size=SIZE)


def blank(count):
    return splits.Split(np.zeros((count, SIZE, SIZE, 3)), np.zeros((count, 2)))


def test_what_was_found_is_printed_in_one_line(capsys):
    data = splits.Splits("pets", ["cat", "dog"], blank(1073), blank(50), blank(49), ["why"] * 9)
    messages.print_data(data)
    captured = capsys.readouterr()
    assert captured.out == (
        "pets: 2 classes (cat, dog), 1,172 images: 1,073 for training, 50 for validation, "
        "49 for test; 9 files skipped\n"
    )
    assert captured.err == "Skipped: why\n" * 6 + (
        "Skipped: 3 more\n"
        "Warning: the test accuracy rests on 49 images only; each counts for 2.0%\n"
    )


@pytest.mark.parametrize("number, words", [(1, "1 epoch"), (2, "2 epochs"), (0, "0 epochs")])
def test_one_is_singular(number, words):
    assert messages.counted(number, "epoch") == words
    assert messages.counted(1, "class") == "1 class" and messages.counted(2, "class") == "2 classes"


def test_a_sentence_says_how_much_warps_vary():
    settled = messages.describe_spread(0.39, 6.05, (32, 32))
    assert settled.startswith(
        "Warps vary by 0.4 pixels between images: the transformer has settled"
    )
    assert "settled" not in messages.describe_spread(1.1, 6.05, (32, 32))
    assert "settled" in messages.describe_spread(1.1, 6.05, (20, 64))
    assert "NaN" in messages.describe_spread(float("nan"), float("nan"), (32, 32))
