"""Boxes follow a warp."""

import keras
import numpy as np
import pytest
from autodiff import float64
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import DenseWarp, SpatialTransformer, Warp, transforms
from stn_keras.sampler.boxes import FORMATS

SIZE = (40, 60)
BOXES = np.array([[[10, 5, 30, 25], [0, 0, 60, 40]]], "float32")


def turned(angle=0.5 * np.pi):
    return transforms.Rigid().warp([[angle, 0.0, 0.0]], SIZE)


def test_the_identity_keeps_boxes():
    assert_allclose(float64(turned(0.0).boxes(BOXES)), BOXES, atol=1e-4)


def test_a_quarter_of_a_turn():
    """About the middle, (30, 20): the upper left corner comes to be the lower left one."""
    found = float64(turned().boxes(BOXES[:, :1]))
    assert_allclose(found, [[[15, 20, 35, 40]]], atol=1e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_formats_are_keras_s(format):
    convert = keras.utils.bounding_boxes.convert_format
    warp = turned(0.3)
    given = convert(BOXES, "xyxy", format, *SIZE)
    wanted = convert(warp.boxes(BOXES), "xyxy", format, *SIZE)
    assert_allclose(float64(warp.boxes(given, format)), float64(wanted), atol=1e-3)


def test_a_sampled_warp_has_the_boxes_of_its_matrix():
    """Boxes that end outside of the output, too."""
    warp = transforms.Similarity().warp([[1.0, 0.6, 0.2, 0.0]], SIZE, (30, 30))
    sampled = Warp.from_grid(warp.grid(), SIZE)
    for clip in (False, True):
        wanted = float64(warp.boxes(BOXES, clip=clip))
        assert_allclose(float64(sampled.boxes(BOXES, clip=clip)), wanted, atol=0.01)


def test_curved_sides_are_inside():
    theta = transforms.ThinPlateSpline((2, 2)).identity
    theta[0] = -0.3
    warp = transforms.ThinPlateSpline((2, 2)).warp(theta[None], SIZE)
    x, y = np.meshgrid(np.linspace(9.5, 29.5, 9), np.linspace(4.5, 24.5, 9))
    points = np.stack([x.ravel(), y.ravel()], axis=-1)[None].astype("float32")
    moved = float64(warp.to_output(points)) + 0.5
    left, top, right, bottom = float64(warp.boxes(BOXES[:, :1]))[0, 0]
    assert_allclose([left, top, right, bottom], [*moved[0].min(0), *moved[0].max(0)], atol=0.1)


def test_empty_boxes_are_marked():
    right = transforms.Translation().warp([[1.0, 0.0]], SIZE)  # 30 pixels to the right
    boxes = [
        [[10, 5, 30, 25], [-1, -1, -1, -1], [40, 5, 30, 9], [np.nan, 0, 9, 9], [20, 5, 50, 25]]
    ]
    found = float64(right.boxes(np.array(boxes, "float32"), clip=True))
    assert_array_equal(found[0, :4], -1)
    assert_allclose(found[0, 4], [0, 5, 20, 25], atol=1e-3)
    assert_allclose(float64(right.boxes(boxes))[0, 0], [-20, 5, 0, 25], atol=1e-3)


def test_a_box_across_the_horizon_has_none():
    tilted = transforms.Projective().warp([[1, 0, 0, 0, 1, 0, 0, 1.5]], SIZE)
    whole = float64(tilted.boxes([[[0, -100, 60, 100]]]))
    assert_array_equal(whole, -1)


def test_a_model_predicts_boxes(rng):
    """In a graph, for batches of unknown size."""
    layer = SpatialTransformer(transform="box", output_size=(30, 30))

    def followed(images, theta, thetas, field, boxes):
        glimpses = layer.warp([images, thetas])
        return [
            layer.warp([images, theta]).boxes(boxes),
            DenseWarp().warp([images, field]).boxes(boxes, clip=True),
            glimpses.boxes(boxes[:, None]),
            glimpses.to_output(boxes[:, None, :, :2]),
        ]

    shapes = (*SIZE, 1), (4,), (None, 4), (*SIZE, 2), (None, 4)
    inputs = [keras.Input(shape) for shape in shapes]
    given = [np.zeros((2, *SIZE, 1)), [[0.5, 0.6, 0.1, 0]] * 2, rng.uniform(0.4, 0.6, (2, 3, 4))]
    given += [rng.normal(0, 0.1, (2, *SIZE, 2)), np.tile(BOXES, (2, 1, 1))]
    given = [np.array(x, "float32") for x in given]
    found = keras.Model(inputs, followed(*inputs)).predict(given, verbose=0)
    for one, wanted in zip(found, followed(*given), strict=True):
        assert_allclose(one, float64(wanted), atol=1e-3)
