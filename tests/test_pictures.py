"""Pictures of every kind, and folders of them."""

import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from stn_keras import plots
from stn_keras.data.pictures import PictureError, find, load, read, split_folders


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (5, 7, 3), np.uint8)


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_colours_come_as_they_are(tmp_path, pixels):
    assert_array_equal(read(save(tmp_path / "a.png", pixels)), pixels)


def test_grey_is_repeated_and_colours_become_grey(tmp_path, pixels):
    grey = pixels[..., 0]
    assert_array_equal(read(save(tmp_path / "a.png", grey)), np.stack([grey] * 3, -1))
    assert_array_equal(read(tmp_path / "a.png", channels=1), grey[..., None])
    assert read(save(tmp_path / "b.png", pixels), channels=1).shape == (5, 7, 1)


def test_sixteen_bits_keep_the_upper_eight(tmp_path, rng):
    deep = rng.integers(0, 2**16, (5, 7), np.uint16)
    assert_array_equal(read(save(tmp_path / "a.png", deep), channels=1)[..., 0], deep >> 8)


def test_floats_are_stretched(tmp_path, rng):
    values = rng.normal(size=(5, 7)).astype("float32")
    found = read(save(tmp_path / "a.tiff", values), channels=1)[..., 0]
    wanted = 255 * (values - values.min()) / np.ptp(values)
    assert_allclose(found, wanted, atol=0.501)


def test_transparent_parts_become_white(tmp_path, pixels):
    opacity = np.zeros((5, 7, 1), np.uint8)
    opacity[:, :3] = 255
    path = save(tmp_path / "a.png", np.concatenate([pixels, opacity], -1))
    found = read(path)
    assert_array_equal(found[:, :3], pixels[:, :3])
    assert np.all(found[:, 3:] == 255)
    assert_array_equal(read(path, channels=4)[..., 3:], opacity)


def test_palettes_and_other_modes(tmp_path, pixels):
    image = Image.fromarray(pixels).quantize(256)
    image.save(tmp_path / "a.gif")
    assert_array_equal(read(tmp_path / "a.gif"), np.asarray(image.convert("RGB")))
    for mode, name in (("1", "b.png"), ("LA", "c.png"), ("CMYK", "d.jpg"), ("YCbCr", "e.jpg")):
        assert read(save(tmp_path / name, pixels, mode)).shape == (5, 7, 3)


def test_a_camera_held_upright(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    found = read(save(tmp_path / "a.png", pixels, exif=exif))
    assert_array_equal(found, np.rot90(pixels, -1))


def test_a_size_is_height_then_width_and_averages(tmp_path):
    board = np.uint8(np.indices((64, 64)).sum(axis=0) % 2 * 255)
    found = read(save(tmp_path / "a.png", board), (8, 4))
    assert found.shape == (8, 4, 3) and np.all(np.abs(found.astype(int) - 127) < 10)


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "truncated"])
def test_what_is_no_picture_is_named(tmp_path, pixels, content):
    path = save(tmp_path / "a.png", pixels)
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(PictureError, match="a.png can't be read"):
        read(path)
    with pytest.raises(PictureError, match="none.png does not exist; check the path"):
        read(tmp_path / "none.png")


def test_a_folder_per_class(tmp_path, rng):
    counts = {"dog": 8, "cat": 4}
    for name, count in counts.items():
        for k in range(count):
            array = np.full((3 + k, 9), k + 100 * (name == "dog"), np.uint8)
            save(tmp_path / name / f"{'deeper/' * (k % 2)}{k}.png", array)
    (tmp_path / "dog" / "broken.jpg").write_bytes(b"no")
    (tmp_path / "dog" / ".hidden").write_bytes(b"no")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README").write_text("not a class")
    images, labels, classes, unreadable = load(tmp_path, 6)
    assert images.shape == (12, 6, 6, 3) and images.dtype == np.uint8
    assert classes == ["cat", "dog"] and len(unreadable) == 1 and "broken.jpg" in unreadable[0]
    assert sorted(images[:, 0, 0, 0]) == [0, 1, 2, 3, *range(100, 108)]
    assert_array_equal(labels, images[:, 0, 0, 0] >= 100)
    for part in (slice(0, 6), slice(6, 12)):  # each class in its share, wherever one cuts
        assert abs(np.mean(labels[part]) - 2 / 3) < 0.2
    assert_array_equal(load(tmp_path, 6)[0], images)


def test_folders_that_are_none_of_classes(tmp_path, pixels):
    with pytest.raises(PictureError, match="(?s)nowhere is not a folder.*pictures/cat/1.jpg"):
        load(tmp_path / "nowhere", 6)
    save(tmp_path / "a.png", pixels)
    save(tmp_path / "only" / "a.png", pixels)
    with pytest.raises(PictureError, match=r"(?s)1 subfolder\..*pictures/dog/1.jpg"):
        load(tmp_path, 6)
    with pytest.raises(PictureError, match="only has no subfolders"):
        load(tmp_path / "only", 6)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "b.png").write_text("no picture")
    with pytest.raises(PictureError, match="(?s)none has no picture.*b.png can't be read"):
        load(tmp_path, 6)


def test_the_classes_of_another_folder(tmp_path, pixels):
    save(tmp_path / "dog" / "a.png", pixels)
    images, labels, classes, _ = load(tmp_path, 6, classes=["cat", "dog"])
    assert images.shape == (1, 6, 6, 3) and labels.tolist() == [1] and classes == ["cat", "dog"]
    with pytest.raises(PictureError, match="dog is not one of the classes to train on: cat, cow"):
        load(tmp_path, 6, classes=["cat", "cow"])
    (tmp_path / "dog" / "a.png").write_text("no picture")
    with pytest.raises(PictureError, match="no picture that can be read"):
        load(tmp_path, 6, classes=["cat", "dog"])


@pytest.mark.parametrize(
    "names, splits",
    [
        (["train", "val", "test"], ["train", "val", "test"]),
        (["train", "validation"], ["train", "val"]),
        (["train", "valid", ".cache"], ["train", "val"]),
        (["train", "test"], ["train", "test"]),
        (["car", "train"], []),
        (["test", "val"], []),
        ([], []),
    ],
    ids=lambda names: " ".join(names),
)
def test_folders_of_a_split(tmp_path, names, splits):
    for name in names:
        (tmp_path / name).mkdir()
    found = split_folders(tmp_path)
    assert {*found} == {*splits}
    shown = {name for name in names if name[0] != "."} if splits else set()
    assert {path.name for path in found.values()} == shown


def test_a_split_beside_classes(tmp_path):
    for name in ("train", "val", "cat"):
        (tmp_path / name).mkdir()
    with pytest.raises(PictureError, match=r"\(train, val\) and others: cat"):
        split_folders(tmp_path)
    assert split_folders(tmp_path / "nowhere") == {}


def test_figures_of_ours_are_no_pictures_of_a_class(tmp_path, pixels):
    for name in ("cat", "dog"):
        for k in range(3):
            save(tmp_path / name / f"{k}.png", pixels)
    before = load(tmp_path, 6)
    figure = plots.curves({"run": {"loss": [2.0, 1.0]}})
    for path in ("cat/0.png.st.png", "dog/deep/WARPS.PNG"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        plots.save(figure, tmp_path / path)
        assert read(tmp_path / path).ndim == 3  # pictures they are
    after = load(tmp_path, 6)
    for found, wanted in zip(after, before, strict=True):
        assert_array_equal(found, wanted)


def test_the_files_of_a_folder(tmp_path, pixels):
    names = ["b.png", "a/c.jpg", "a.txt", "broken.png"]
    for name in (*names, ".hidden/d.png", ".e.png"):
        save(tmp_path / f"{name}.png", pixels).rename(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no")
    found = [str(path.relative_to(tmp_path)) for path in find(tmp_path)]
    assert found == ["a/c.jpg", "a.txt", "b.png", "broken.png"]
    with pytest.raises(PictureError, match="nowhere is not a folder"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["png", "jpg", "svg", "pdf"])
def test_figures_are_saved_in_every_format(tmp_path, suffix):
    plots.save(plots.curves({"run": {"loss": [2.0, 1.0]}}), tmp_path / f"a.{suffix}")
    assert find(tmp_path) == ([] if suffix == "png" else [tmp_path / f"a.{suffix}"])


def test_damaged_metadata_do_not_cost_the_picture(tmp_path, pixels):
    path = save(tmp_path / "a.png", pixels)
    data = path.read_bytes()
    body = b"eXIf" + b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0"
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path.write_bytes(data[:33] + chunk + data[33:])
    assert_array_equal(read(path), pixels)


def test_links_are_followed_once_and_dangling_ones_reported(tmp_path, pixels):
    for name in ("pets/cat/0.png", "pets/dog/0.png", "store/1.png"):
        save(tmp_path / name, pixels)
    (tmp_path / "pets/cat/more").symlink_to(tmp_path / "store")
    (tmp_path / "store/back").symlink_to(tmp_path / "pets/cat")
    (tmp_path / "pets/dog/far.png").symlink_to("nowhere")
    (tmp_path / "pets/bird").symlink_to("nowhere")
    images, _, classes, unreadable = load(tmp_path / "pets", 4)
    assert len(images) == 3 and classes == ["cat", "dog"]
    assert ["bird" in unreadable[0], "far.png" in unreadable[1]] == [True, True]


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "VAL"), ("training", "Testing")])
def test_a_split_in_any_case(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    found = split_folders(tmp_path)
    assert "train" in found and {path.name for path in found.values()} == {*names}


@pytest.mark.parametrize("names", [("train", "training"), ("train", "test", "TEST")])
def test_two_folders_for_one_part_of_a_split_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(PictureError, match="Expected one train folder"):
        split_folders(tmp_path)
