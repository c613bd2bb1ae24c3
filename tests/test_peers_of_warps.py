"""The tables of docs/comparison.md on points and boxes, on crops, and on registration.

As in `test_peers`, the tests show that what a library has works, and that what it lacks fails, if
there is something to call.
"""

import importlib

import keras
import numpy as np
import pytest

from stn_keras import Warp, geometry, transforms

pytestmark = pytest.mark.slow

if keras.backend.backend() != "tensorflow":
    pytest.skip("one backend shows what the peers do", allow_module_level=True)

SIZE = 24, 32
POINTS = np.float32([[[3, 2], [10.5, 7.25]]])
BOXES = np.float32([[[8, 6, 20, 15]]])
MATRIX = np.float32([[[0.9, -0.2, 3], [0.1, 1.1, -2], [0.002, 0.001, 1]]])  # input → output pixels
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def library(name):
    """A module of another library, if one is installed that fits the other packages."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {error}")


def scene(dx=0, dy=0):
    x, y = X + dx, Y + dy
    return (np.sin(x / 3) + np.cos(y / 4) + np.sin((x + y) / 7)).astype("float32")


def warp_of(matrix):
    transform = transforms.Projective()
    theta = transform.from_matrix(geometry.from_pixel_matrix(matrix, SIZE))
    return transform.warp(theta, SIZE)


def close(found, wanted, atol=1e-3):
    return np.allclose(np.array(found), np.array(wanted), rtol=0, atol=atol)


def test_points_and_boxes_by_a_matrix():
    kornia, torch, cv2 = map(library, ("kornia.geometry", "torch", "cv2"))
    warp, matrix = warp_of(MATRIX), torch.tensor(MATRIX)
    wanted = warp.to_output(POINTS)
    assert close(kornia.transform_points(matrix, torch.tensor(POINTS)), wanted)
    assert close(cv2.perspectiveTransform(POINTS, MATRIX[0]), wanted)
    boxes = library("kornia.geometry.boxes").Boxes  # which end at the centres of their pixels
    boxes = boxes.from_tensor(torch.tensor(BOXES - 0.5), mode="xyxy_plus").transform_boxes(matrix)
    assert close(boxes.to_tensor("xyxy_plus") + 0.5, warp.boxes(BOXES))


def test_keras_turns_boxes():
    """Its arguments are an angle and so on: a quarter of a turn about the middle pixel."""
    zeros, turn, size = np.zeros(1, "float32"), np.float32([90]), (24, 24)
    shifts, shears, scale = (zeros, zeros), (zeros, zeros), np.ones(1, "float32")
    transform = keras.utils.bounding_boxes.affine_transform
    assert close(transform(BOXES, turn, *shifts, scale, *shears, *size), [[[6, 3, 15, 15]]])


def test_torchvision_s_points_and_boxes():
    warp, functional = warp_of(MATRIX), library("torchvision.transforms.v2.functional")
    torch, tensors = library("torch"), library("torchvision.tv_tensors")
    corners = np.float32([[0, 0], [32, 0], [32, 24], [0, 24]])  # it counts pixels from the edge
    moved = np.array(warp.to_output(corners[None] - 0.5))[0] + 0.5
    options = {"startpoints": corners.tolist(), "endpoints": moved.tolist()}
    points = tensors.KeyPoints(torch.tensor(POINTS[0]) + 0.5, canvas_size=SIZE)
    assert close(functional.perspective(points, **options) - 0.5, warp.to_output(POINTS)[0])
    boxes = tensors.BoundingBoxes(torch.tensor(BOXES[0]), format="XYXY", canvas_size=SIZE)
    assert close(functional.perspective(boxes, **options), warp.boxes(BOXES)[0])


@pytest.mark.parametrize("scale, right", [(0, True), (0.25, False)])
def test_torchvision_approximates_the_inverse_of_a_displacement(scale, right):
    functional, torch = library("torchvision.transforms.v2.functional"), library("torch")
    displacement = np.float32(scale * (np.stack([X, Y], -1)[None] - 8) + 2)
    normalised = torch.tensor(displacement / np.float32([16, 12]))
    points = library("torchvision.tv_tensors").KeyPoints([[16.0, 12.0]], canvas_size=SIZE)
    found = functional.elastic(points, displacement=normalised)
    wanted = Warp.from_displacement(displacement).to_output([[[16.0, 12.0]]])
    assert close(found, wanted[0], 0.1) == right


def test_inverse_matrices():
    kornia, torch, cv2 = map(library, ("kornia.geometry", "torch", "cv2"))
    affine = MATRIX[:, :2]
    wanted = warp_of(np.concatenate([affine, [[[0, 0, 1]]]], axis=1)).matrix[:, :2]
    assert close(kornia.invert_affine_transform(torch.tensor(affine)), wanted)
    assert close(cv2.invertAffineTransform(affine[0])[None], wanted)


def test_kornia_s_crops():
    kornia, torch = map(library, ("kornia.geometry", "torch"))
    picture = torch.tensor(scene())[None, None]
    turned = torch.tensor([[[12.0, 2], [12, 11], [3, 11], [3, 2]]], requires_grad=True)
    crop = kornia.crop_and_resize(picture, turned, (10, 10))
    assert close(crop[0, 0].detach(), np.rot90(scene()[2:12, 3:13]))
    assert torch.autograd.grad((crop**2).sum(), turned)[0].abs().min() > 0
    with pytest.raises(RuntimeError, match="expanded size"):
        kornia.crop_and_resize(picture, turned.repeat(2, 1, 1), (10, 10))
    volume, corners = torch.rand(1, 1, 4, 5, 6), torch.tensor([[0, 0, 0], [5, 0, 0], [5, 4, 0]])
    corners = torch.cat([corners, torch.tensor([[0, 4, 0]])])
    corners = torch.cat([corners, corners + torch.tensor([0, 0, 3])])[None].float()
    assert close(kornia.crop_and_resize3d(volume, corners, (4, 5, 6)), volume)


def test_tensorflow_s_crops():
    import tensorflow as tf

    boxes, picture = tf.Variable([[0.1, 0.1, 0.6, 0.5]] * 2), scene()[None, ..., None]
    with tf.GradientTape() as tape:
        crops = tf.image.crop_and_resize(picture, boxes, [0, 0], (5, 6))
        total = tf.reduce_sum(crops**2)
    assert np.abs(tape.gradient(total, boxes)).min() > 0
    stripes = np.tile(np.float32([0, 1, 0]), 8)[None, None, :, None]  # a third on average
    shrunk = tf.image.crop_and_resize(stripes, [[0, 0, 1, 1]], [0], (1, 8))
    assert not close(shrunk, 1 / 3, 0.2)


@pytest.mark.parametrize("model", ["translation", "similarity", "homography", "rigid"])
def test_kornia_s_registration(model):
    kornia, torch = map(library, ("kornia.geometry.transform", "torch"))
    moving, fixed = (torch.tensor(x)[None, None] for x in (scene(), scene(2, 1)))
    options = {"pyramid_levels": 1, "lr": 1e-2, "num_iterations": 60, "tolerance": 1e-7}
    if model == "rigid":
        options["warper"] = kornia.HomographyWarper
        model = kornia.image_registrator.Similarity(scale=False)
    registrator = kornia.ImageRegistrator(model, **options)
    found = registrator.register(moving, fixed).detach()
    assert close(found[0, :2, 2] * torch.tensor([16, 12]), [2, 1], 0.2)
    pair = [torch.cat([x, x]) for x in (moving, fixed)]
    with pytest.raises(RuntimeError, match="batch size"):
        registrator.register(*pair)
    with pytest.raises(Exception, match="5"):
        registrator.register(torch.rand(1, 1, 8, 9, 10), torch.rand(1, 1, 8, 9, 10))
    with pytest.raises(ValueError, match="affine is not supported"):
        kornia.ImageRegistrator("affine")


def test_opencv_s_registration():
    cv2 = library("cv2")
    moving, fixed, start = scene(), scene(2, 1), np.eye(2, 3, dtype="float32")
    for motion in (cv2.MOTION_TRANSLATION, cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE):
        correlation, found = cv2.findTransformECC(fixed, 2 * moving + 1, start.copy(), motion)
        assert correlation > 0.99 and close(found @ [16, 12, 1], [18, 13], 0.1)
    mask = np.full(SIZE, 255, "uint8")
    mask[4:8, 4:8] = 0
    _, found = cv2.findTransformECCWithMask(fixed, moving, mask, mask, start.copy())
    assert close(found @ [16, 12, 1], [18, 13], 0.1)
    grey = [((x + 3) * 40).astype("uint8") for x in (fixed, moving)]
    flow = cv2.DISOpticalFlow_create().calc(*grey, None)
    assert close(np.median(flow[8:-8, 8:-8], axis=(0, 1)), [2, 1], 0.3)
    noise = np.random.default_rng(0).random((2, *SIZE)).astype("float32")
    with pytest.raises(cv2.error, match="not converge"):
        cv2.findTransformECC(*noise, start.copy(), cv2.MOTION_AFFINE)
