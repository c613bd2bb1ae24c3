"""The outline of the sampled region, the content of figures, and their complete files."""

import numpy as np
import pytest
from matplotlib import pyplot
from numpy.testing import assert_allclose
from PIL import Image

from stn_keras import affine_grid, plots, transforms

IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
QUARTER_TURN = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]  # the output's right is the input's down
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype="uint8")
HISTORY = {
    "epoch": [0, 1, 2],
    "loss": [2.0, 1.5, 1.0],
    "accuracy": [0.2, 0.4, 0.5],
    "val_loss": [2.1, 1.6, 1.2],
    "val_accuracy": [0.3, 0.4, 0.6],
}


def grid(theta, size=(8, 12), **options):
    return np.array(affine_grid([theta], size, **options))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("theta", [IDENTITY, [0.5, 0.1, 0.25, -0.2, -0.7, 0.1]])
def test_outline_has_the_transformed_corners(theta, align_corners):
    line = plots.outline(
        grid(theta, align_corners=align_corners)[0], (8, 12), align_corners=align_corners
    )
    # Half a pixel outside the corner pixels' centres, in pixels counted from the middle.
    scale = np.array([11, 7]) if align_corners else np.array([12, 8])
    corners = np.array([[-6, -4], [6, -4], [6, 4], [-6, 4], [-6, -4]]) * 2 / scale
    matrix = np.reshape(theta, (2, 3))
    wanted = (corners @ matrix[:, :2].T + matrix[:, 2]) * scale / 2 + [5.5, 3.5]
    assert_allclose(line[[0, 13, 22, 35, 44]], wanted, atol=1e-5)


def test_outline_starts_where_the_output_starts():
    start, after = plots.outline(grid(QUARTER_TURN, (6, 6))[0], (6, 6))[:2]
    assert_allclose(start, [5.5, -0.5], atol=1e-6)  # the input's top-right corner
    assert_allclose(after, [5.5, 0], atol=1e-6)  # and on, downwards


def test_outline_of_a_single_sample_is_that_sample():
    assert_allclose(plots.outline(np.full((1, 1, 2), 0.5), (8, 8)), [[5.5, 5.5]])


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_warps_show_image_and_outline_whole(scale):
    theta = [scale, 0.0, 0.0, 0.0, scale, 0.0]
    grids = np.concatenate([grid(IDENTITY), grid(theta)])
    figure = plots.warps(IMAGES, IMAGES, grids, titles=["cat", "ship"])
    top = figure.axes[:2]
    assert [axis.get_title() for axis in top] == ["cat", "ship"]
    reach = max(scale, 1)
    for axis in top:
        (left, right), (bottom, above) = axis.get_xlim(), axis.get_ylim()
        assert left < 5.5 - 6 * reach and right > 5.5 + 6 * reach
        assert above < 3.5 - 4 * reach and bottom > 3.5 + 4 * reach  # y points down
    line, dot = top[1].lines
    assert_allclose(line.get_xydata()[0], [5.5 - 6 * scale, 3.5 - 4 * scale], atol=1e-5)
    assert_allclose(dot.get_xydata(), line.get_xydata()[:1])
    assert (top[1].images[0].get_array() == IMAGES[1]).all()
    assert top[0].images[0].get_interpolation() == "nearest"


@pytest.mark.parametrize("titles", [None, ["cat", "ship"]])
@pytest.mark.parametrize("size", [(8, 12), (12, 8)])
def test_warps_leave_no_strip_of_the_figure_empty(size, titles):
    grids = np.concatenate([grid(IDENTITY, size), grid([2.0, 0, 1, 0, 0.5, 0], size)])
    images = np.zeros((2, *size, 3), "uint8")
    drawn = (plots.pixels(plots.warps(images, images, grids, titles)) < 255).any(axis=-1)
    for axis in (0, 1):
        first, *_, last = np.flatnonzero(drawn.any(axis=axis))
        assert first < 20 and last > drawn.shape[1 - axis] - 20


def test_warps_of_grey_images_and_of_a_diverged_transform():
    grey = np.linspace(0, 1, 2 * 8 * 12).reshape(2, 8, 12, 1)
    grids = np.concatenate([grid(IDENTITY), np.full((1, 8, 12, 2), np.nan)])
    figure = plots.warps(grey, grey, grids)
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert plots.pixels(figure).shape[2] == 3


def test_warps_refuse_batches_that_differ():
    with pytest.raises(ValueError, match=r"one batch size.*\(2, 8, 12, 3\), \(1, 8, 12, 3\)"):
        plots.warps(IMAGES, IMAGES[:1], grid(IDENTITY))


def test_curves_draw_train_and_validation_from_epoch_one():
    loss, accuracy = plots.curves({"run": HISTORY}).axes
    for axis, column in ((loss, "loss"), (accuracy, "accuracy")):
        train, validation = axis.lines
        assert_allclose(train.get_xydata(), np.column_stack([[1, 2, 3], HISTORY[column]]))
        assert_allclose(validation.get_ydata(), HISTORY[f"val_{column}"])
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["run"]


def test_curves_of_seeds_are_their_mean_within_a_band():
    other = {name: 3 * np.array(values) for name, values in HISTORY.items() if name != "epoch"}
    cut_short = {name: values[:2] for name, values in other.items()}
    loss, _ = plots.curves({"two seeds": [HISTORY, cut_short]}).axes
    assert_allclose(loss.lines[1].get_xydata(), [[1, 4.2], [2, 3.2]])
    band = loss.collections[1].get_paths()[0].get_extents()
    assert_allclose([band.x0, band.x1, band.y0, band.y1], [1, 2, 1.6, 6.3])


def test_curves_draw_the_reference_over_the_accuracies():
    published = ([2, 3], [0.39, 0.43])
    _, accuracy = plots.curves({"run": HISTORY}, published).axes
    assert_allclose(accuracy.lines[-1].get_xydata(), np.column_stack(published))
    assert accuracy.lines[-1].get_label() == "published log"


def test_a_missing_column_is_not_drawn():
    loss, accuracy = plots.curves({"run": {"loss": [1.0, 0.5]}}).axes
    assert len(loss.lines) == 1 and not accuracy.lines


def test_curves_of_two_evaluated_sets_tell_them_apart():
    history = HISTORY | {"test_accuracy": [0.3, 0.4, 0.45]}
    figure = plots.curves({"run": history}, evaluation=("val", "test"), note="Why.")
    loss, accuracy = figure.axes
    _, validation, test = accuracy.lines
    assert_allclose(test.get_ydata(), history["test_accuracy"])
    assert test.get_linestyle() != validation.get_linestyle()
    names = [text.get_text() for text in loss.get_legend().get_texts()]
    assert names == ["validation", "test", "training"]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["run"]
    assert figure.get_supxlabel() == "Why."


def test_a_set_that_is_missing_is_not_in_the_legend():
    loss, _ = plots.curves({"run": HISTORY}, evaluation=("val", "test")).axes
    names = [text.get_text() for text in loss.get_legend().get_texts()]
    assert names == ["validation", "training"]


def test_one_epoch_is_seen():
    loss, _ = plots.curves({"run": {"loss": [1.0]}}).axes
    assert loss.lines[0].get_marker() == "o"


def test_pixels_and_saved_file_are_the_same_picture(tmp_path):
    figure = plots.curves({"run": HISTORY})
    plots.save(figure, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    saved = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    drawn = plots.pixels(figure)
    assert drawn.dtype == np.uint8 and (drawn == saved).all() and len(np.unique(drawn)) > 50


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    class FullDisk:
        def savefig(self, path, **options):
            path.write_bytes(b"half")
            raise OSError("No space left on device")

    (tmp_path / "curves.png").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        plots.save(FullDisk(), tmp_path / "curves.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_no_figure_is_left_in_global_state():
    plots.pixels(plots.curves({"run": HISTORY}))
    plots.pixels(plots.warps(IMAGES[:1], IMAGES[:1], grid(IDENTITY)))
    assert not pyplot.get_fignums()


def test_points_and_boxes_are_drawn_before_and_after():
    warp = transforms.Translation().warp([[0.5, 0.0]], (8, 12))  # moves to the left by 3 pixels
    points, boxes = np.array([[[5.0, 4.0]]] * 2), np.array([[[3.0, 2.0, 9.0, 6.0]]] * 2)
    figure = plots.follow(IMAGES, warp, points, boxes)
    for row, shift in zip(np.reshape(figure.axes, (2, 2)), (0, 3)):
        for axis in row:
            assert_allclose(axis.lines[0].get_xydata(), [[5 - shift, 4]], atol=1e-5)
            assert_allclose(
                axis.patches[0].get_bbox().extents, [2.5 - shift, 1.5, 8.5 - shift, 5.5]
            )
    assert plots.pixels(plots.follow(IMAGES[..., :1], warp)).ndim == 3
