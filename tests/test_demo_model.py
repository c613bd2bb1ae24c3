"""A model on pictures that are distorted by given amounts, and the HTML that shows it."""

import base64
import io
import re

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from stn_keras import SpatialTransformer, localization
from stn_keras.data.placement import placed
from stn_keras.saved import LoadError, compact, load
from stn_keras.serving import demo_result
from stn_keras.serving.demo_model import DemoModel, Distortion
from stn_keras.system.files import FileError

pytestmark = pytest.mark.slow


def network(theta, transform="affine", shape=(12, 12, 1), names=("transformer",), classes=3):
    """A classifier whose transformers always warp by `theta`."""
    images = keras.Input(shape)
    x = images
    for name in names:
        head = localization.head(transform, start=theta, name=f"{name}_theta")
        localize = keras.Sequential([keras.layers.Flatten(), head], name=f"{name}_localization")
        x = SpatialTransformer(localize, transform=transform, output_size=(6, 6), name=name)(x)
    return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))


def plain(shape=(12, 12, 1), classes=3):
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(images)))


@pytest.fixture
def folder(tmp_path, rng):
    """A model with all optional files in its folder; pictures are 8×8, the canvas is 12×12."""
    network([0.5, 0, 0.25, 0, 0.5, 0]).save(tmp_path / "last.keras")
    plain().save(tmp_path / "plain.keras")
    (tmp_path / "config.json").write_text('{"classes": ["ant", "bee", "<cat>"]}')
    images = rng.integers(0, 256, (5, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "test_images.npz", images=images, labels=[0, 1, 2, 0, 1])
    return tmp_path


@pytest.fixture
def model(folder):
    return DemoModel(folder / "last.keras")


def test_placements_are_those_of_the_arguments(rng):
    """Against flips, shifts and quarter turns of arrays."""
    images = rng.integers(0, 256, (2, 10, 10, 3), np.uint8)
    assert_array_equal(placed(images), images)
    assert_allclose(placed(images, angle=np.pi / 2), np.rot90(images, -1, (1, 2)), atol=1e-3)
    shifted = np.array(placed(images, shift=(3, -2)))
    assert_allclose(shifted[:, :-2, 3:], images[:, 2:, :-3], atol=1e-3)
    assert not shifted[:, -2:].any() and not shifted[:, :, :3].any()
    on_canvas = np.array(placed(images, (14, 14)))
    assert_allclose(on_canvas[:, 2:-2, 2:-2], images, atol=1e-3)
    assert on_canvas.sum() == pytest.approx(images.sum())


def test_a_tilted_square_is_small_where_it_is_far():
    square = np.zeros((1, 40, 40, 1), "float32")
    square[:, 10:30, 10:30] = 1
    tilted = np.array(placed(square, tilt=0.5))[0, ..., 0]
    heights = tilted.sum(axis=0)
    left, right = heights[:20].max(), heights[20:].max()
    assert right > 1.2 * left > 0
    assert_allclose(np.array(placed(square, tilt=-0.5))[0, :, ::-1, 0], tilted, atol=1e-3)
    larger = np.array(placed(square, scale=1.5)).sum()
    assert larger == pytest.approx(1.5**2 * square.sum(), rel=0.01)


def test_pictures_are_distorted_on_the_models_canvas(model):
    picture = model.images[0]
    assert_array_equal(model.distort(picture)[2:-2, 2:-2], picture)
    moved = model.distort(picture, Distortion(shift_x=25, shift_y=-25))  # by 3 of 12 pixels
    assert_array_equal(moved[:7, 5:], picture[1:, :-1])
    dark = np.zeros_like(picture)
    cluttered = model.distort(dark, Distortion(clutter=3))
    assert cluttered.any() and (cluttered > 0).mean() < 0.3
    assert_array_equal(cluttered, model.distort(dark, Distortion(clutter=3)))


def test_the_result_is_what_the_models_say(model):
    picture, distortion = model.images[1], Distortion(rotation=30, scale=0.8)
    result = model.classify(picture, distortion)
    batch = model.distort(picture, distortion)[None].astype("float32")
    for found, classifier in (
        (result.probabilities, model.classifier),
        (result.plain, model.plain),
    ):
        assert_allclose(found, classifier.probabilities(batch)[0], atol=1e-6)
    assert_array_equal(result.image, batch)
    seen = result.seen["transformer"]
    assert seen.warped.shape == (1, 6, 6, 1) and seen.matrix.shape == (1, 2, 3)


def test_points_of_the_picture_are_distorted_with_it(model):
    """The corners of the middle of 8×8 pixels, on a canvas of 12×12."""
    picture = model.images[0]
    low, high = np.array([1, 6]) / 7 * 8 + 1.5
    wanted = [[low, low], [high, low], [high, high], [low, high]]
    assert_allclose(model.classify(picture).points, [wanted], atol=1e-4)
    turned = model.points(picture, Distortion(rotation=90, shift_x=25))[0]
    assert_allclose(turned, np.roll(wanted, -1, axis=0) + [3, 0], atol=1e-4)


def test_a_picture_is_read_at_the_size_of_the_test_images(model, folder, rng):
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(folder / "a.png")
    assert model.read(folder / "a.png").shape == (8, 8, 1)


def test_a_model_alone_and_of_any_size(tmp_path, rng):
    images = keras.Input((None, None, 3))
    head = localization.head("rigid")(keras.layers.GlobalAveragePooling2D()(images))
    x = SpatialTransformer(transform="rigid", name="transformer")([images, head])
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(images, outputs).save(tmp_path / "a.keras")
    model = DemoModel(tmp_path / "a.keras")
    Image.fromarray(rng.integers(0, 256, (300, 600, 3), np.uint8)).save(tmp_path / "a.png")
    picture = model.read(tmp_path / "a.png")
    assert picture.shape == (128, 256, 3)
    result = model.classify(picture, Distortion(rotation=10, clutter=2))
    assert result.plain is None and result.seen["transformer"].warped.shape == (1, 128, 256, 3)


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(LoadError, match="there is no file"):
        DemoModel(folder / "none.keras")
    with pytest.raises(ValueError, match="plain.keras has no SpatialTransformer layer, so"):
        DemoModel(folder / "plain.keras")
    path = folder / "test_images.npz"
    for arrays in ({"images": np.zeros((2, 8, 8, 3), "uint8"), "labels": [0, 1]}, {"images": [0]}):
        np.savez(path, **arrays)
        with pytest.raises(FileError, match="test_images.npz .*; "):
            DemoModel(folder / "last.keras")
    path.write_bytes(b"no arrays")
    with pytest.raises(FileError, match="test_images.npz is damaged; "):
        DemoModel(folder / "last.keras")


def test_a_compact_model_has_no_optimizer_and_predicts_the_same(tmp_path, rng, set_policy):
    set_policy("mixed_bfloat16")
    model = network([0.5, 0, 0.25, 0, 0.5, 0])
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(4, 12, 12, 1)), np.zeros((4, 3)), verbose=0)
    model.save(tmp_path / "a.keras")
    set_policy("float32")
    compact(tmp_path / "a.keras", tmp_path / "b.keras")
    found = load(tmp_path / "b.keras")
    assert {layer.compute_dtype for layer in found.layers} == {"float32"}
    assert getattr(found, "optimizer", None) is None
    for a, b in zip(model.get_weights(), found.get_weights(), strict=True):
        assert_array_equal(a, b)
    images = rng.normal(size=(2, 12, 12, 1)).astype("float32")
    assert_allclose(found(images), np.array(model(images), "float32"), rtol=0.05, atol=0.05)
    sizes = [(tmp_path / name).stat().st_size for name in ("a.keras", "b.keras")]
    assert sizes[1] < sizes[0]


# HTML


def test_the_figure_and_its_readings(model):
    page = demo_result.draw(model.classify(model.images[0]), model.classifier.classes, label=2)
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).std() > 0
    for words in ("+0.0°", "0.50, 0.50", "+1.5, +0.0 px", "0 % of samples"):
        assert words in page


def test_points_and_a_box_follow_the_warp_of_the_picture(model, monkeypatch):
    drawn = []
    monkeypatch.setattr(demo_result, "mark", lambda _, points, boxes: drawn.append((points, boxes)))
    result = model.classify(model.images[0])
    demo_result.draw(result, model.classifier.classes)
    (points, boxes), (moved, their_boxes) = drawn
    low, high = points[0, 0] + 0.5, points[2, 0] + 0.5
    assert_allclose(boxes, [[low, low, high, high]], atol=1e-4)
    shift = np.array([1.5, 0])  # pixels to the right, of 12×12; half of them become 6×6
    assert_allclose(moved, points - 3 - shift, atol=1e-4)
    assert_allclose(their_boxes, boxes - 3 - np.tile(shift, 2), atol=1e-4)


def test_classes_are_bars_and_the_text_is_escaped(model):
    result = model.classify(model.images[0])
    page = demo_result.draw(result, model.classifier.classes, label=2)
    assert "<cat>" not in page and page.count("&lt;cat&gt;") >= 3
    bars = np.array(re.findall(r"width:([\d.]+)%", page), float)
    assert_allclose(bars, 100 * np.concatenate([result.probabilities, result.plain]), atol=0.06)
    right = [bool(shares.argmax() == 2) for shares in (result.probabilities, result.plain)]
    assert page.count(", right") == sum(right) and page.count(", wrong") == 2 - sum(right)
    unknown = demo_result.draw(result, model.classifier.classes)
    assert ", right" not in unknown and ", wrong" not in unknown
    assert page.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]{9,}"', page)) == 1


def test_several_transformers_of_other_kinds(tmp_path):
    theta = np.zeros(32)
    theta[::2] = 0.1
    network(theta, "thin_plate_spline", (8, 8, 3), ("one", "two"), 12).save(tmp_path / "a.keras")
    model = DemoModel(tmp_path / "a.keras")
    page = demo_result.draw(model.classify(np.zeros((8, 8, 3), "uint8")), model.classifier.classes)
    assert page.count("<img") == 2 and ">one</figcaption>" in page and ">two</figcaption>" in page
    assert page.count("32 numbers, not a matrix") == 2 * 2
    assert page.count("<tr") == demo_result.MOST_CLASSES


def test_a_region_of_no_place_is_told(tmp_path):
    network(np.full(6, np.nan)).save(tmp_path / "a.keras")
    model = DemoModel(tmp_path / "a.keras")
    page = demo_result.draw(
        model.classify(np.zeros((12, 12, 1), "uint8")), model.classifier.classes
    )
    assert "100 % of samples" in page
