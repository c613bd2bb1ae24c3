"""Several glimpses of one image: each is the warp that it would be alone; boxes give RoIAlign."""

import functools
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference
from autodiff import compiled, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, localization, metrics, regularizers, transforms
from stn_keras.geometry import from_boxes, from_rotated_boxes, stack_boxes
from stn_keras.observe import draw, observe

NATIVE = keras.backend.backend() == "torch"  # whose own sampler rounds the identity
ROOT = pathlib.Path(__file__).parents[1]
BOXES = [[[1.0, 2, 7, 5], [0, 0, 9, 6]], [[2.5, 1.5, 3.5, 5], [-0.4, 0.3, 4, 6.2]]]


def random_images(rng, size=(6, 9), batch=2, channels=3):
    return rng.uniform(-1, 1, (batch, *size, channels))


def random_theta(rng, transform, glimpses=3, batch=2):
    shape = (batch, glimpses, transform.num_parameters)
    return transform.identity + rng.uniform(-0.4, 0.4, shape)


def one_by_one(layer, images, theta):
    """Each glimpse by a call of its own."""
    warps = [float64(layer([images, theta[:, k]])) for k in range(theta.shape[1])]
    return np.stack(warps, axis=1)


@pytest.mark.parametrize("output_size", [(4, 5), None])
@pytest.mark.parametrize("fill_mode", ["constant", "nearest"])
def test_glimpses_are_the_reference(rng, output_size, fill_mode):
    images, theta = random_images(rng), random_theta(rng, transforms.Affine())
    options = {"fill_mode": fill_mode, "fill_value": 0.5}
    layer = SpatialTransformer(output_size=output_size, dtype="float64", **options)
    grids = [reference.affine_grid(theta[:, k], output_size or (6, 9)) for k in range(3)]
    wanted = np.stack([reference.grid_sample(images, grid, **options) for grid in grids], 1)
    for given in (theta, theta.reshape(2, 3, 2, 3)):
        found = layer([images, given])
        assert found.shape == layer.compute_output_shape([images.shape, given.shape])
        assert_allclose(float64(found), wanted, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        *({"transform": name} for name in transforms.TRANSFORMS),
        {"interpolation": "bicubic", "align_corners": True},
        {"interpolation": "nearest", "fill_mode": "wrap"},
        {"transform": "box", "antialias": 3, "data_format": "channels_first"},
    ],
    ids=str,
)
def test_a_glimpse_is_the_warp_that_it_would_be_alone(rng, quick, options):
    layer = SpatialTransformer(output_size=(4, 5), dtype="float64", **options)
    images, theta = random_images(rng), random_theta(rng, layer.transform)
    if layer.data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    found = layer([images, theta])
    assert found.shape == layer.compute_output_shape([images.shape, theta.shape])
    assert_allclose(float64(found), one_by_one(layer, images, theta), atol=1e-6)


@pytest.mark.parametrize("antialias", [1, 2])
def test_glimpses_of_volumes(rng, quick, antialias):
    box = transforms.Box(axes=3)
    layer = SpatialTransformer(transform=box, output_size=(2, 3, 2), antialias=antialias)
    images, theta = random_images(rng, (4, 5, 6)), random_theta(rng, box)
    assert_allclose(float64(layer([images, theta])), one_by_one(layer, images, theta), atol=1e-5)


def test_the_grid_has_the_glimpses(rng, quick):
    layer = SpatialTransformer(transform="similarity")
    theta = random_theta(rng, layer.transform)
    wanted = [float64(layer.grid(theta[:, k], (4, 5))) for k in range(3)]
    assert_allclose(float64(layer.grid(theta, (4, 5))), np.stack(wanted, 1), atol=1e-9)
    assert layer.grid(keras.Input((3, 4)), (4, 5)).shape == (None, 3, 4, 5, 2)


def test_one_image_serves_all_thetas_and_there_may_be_no_glimpse(rng, quick):
    layer = SpatialTransformer(transform="box", output_size=(2, 2))
    images, theta = random_images(rng, batch=1), random_theta(rng, layer.transform)
    found, wanted = layer([images, theta]), layer([np.repeat(images, 2, 0), theta])
    assert_array_equal(float64(found), float64(wanted))
    assert layer([images, theta[:, :0]]).shape == (2, 0, 2, 2, 3)


def test_gradients_are_finite_differences(rng, quick):
    layer = SpatialTransformer(
        transform="box", output_size=(2, 2), antialias=2, fill_mode="nearest", dtype="float64"
    )
    inputs = [random_images(rng), np.array(BOXES)]

    def crops(images, boxes):
        return layer([images, from_boxes(boxes, (6, 9))])

    upstream = rng.normal(size=crops(*inputs).shape)
    found = gradients(crops, inputs, upstream)
    for _ in range(3):
        along = [rng.normal(size=x.shape) for x in inputs]
        ahead, behind = (
            np.sum(upstream * float64(crops(*(x + h * a for x, a in zip(inputs, along)))))
            for h in (1e-6, -1e-6)
        )
        slope = sum(np.sum(float64(gradient) * a) for gradient, a in zip(found, along))
        assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


def roi_align(image, box, size, samples):
    """He et al., 2017: the mean of `samples`² bilinear samples in each bin of a box, of which the
    centre, the sides and the angle are given. The first pixel reaches from 0 to 1."""
    x, y, width, height, angle = box
    found = np.zeros((*size, image.shape[-1]))
    for row, column, i, j in np.ndindex(*size, samples, samples):
        u = width * ((column + (j + 0.5) / samples) / size[1] - 0.5)
        v = height * ((row + (i + 0.5) / samples) / size[0] - 0.5)
        at_x = x + u * math.cos(angle) - v * math.sin(angle) - 0.5
        at_y = y + u * math.sin(angle) + v * math.cos(angle) - 0.5
        for (k, above), (m, left) in (
            (vertical, horizontal)
            for vertical in reference.neighbours(at_y, "bilinear")
            for horizontal in reference.neighbours(at_x, "bilinear")
        ):
            pixel = reference.pixel(image, (k, m), "nearest", 0.0, False)
            found[row, column] += above * left * pixel / samples**2
    return found


def test_boxes_give_roi_align(rng, quick):
    images, options = random_images(rng), {"output_size": (3, 2), "antialias": 2}
    corners = np.array(BOXES)
    sides = corners[..., 2:] - corners[..., :2]
    upright = np.concatenate([corners[..., :2] + sides / 2, sides, np.zeros((2, 2, 1))], -1)
    rotated = upright + [0, 0, 0, 0, 0.7]
    for transform, theta, boxes in [
        ("box", from_boxes(BOXES, (6, 9)), upright),
        ("affine", from_rotated_boxes(rotated, (6, 9)), rotated),
    ]:
        layer = SpatialTransformer(transform=transform, fill_mode="nearest", **options)
        wanted = [[roi_align(x, box, (3, 2), 2) for box in some] for x, some in zip(images, boxes)]
        assert_allclose(float64(layer([images, theta])), wanted, atol=1e-5)


def test_boxes_of_volumes(rng):
    theta = from_boxes([[[0.0, 1, 2, 8, 4, 3]]], (4, 5, 10))
    assert_allclose(float64(theta), [[[0.8, 0.6, 0.25, -0.2, 0, 0.25]]], atol=1e-6)


def test_boxes_are_inputs_of_a_model(rng, quick, tmp_path):
    images, boxes = keras.Input((6, 9, 3)), keras.Input((None, 4))
    crops = SpatialTransformer(transform="box", output_size=(2, 3))
    model = keras.Model([images, boxes], crops([images, from_boxes(boxes, (6, 9))]))
    assert model.output_shape == (None, None, 2, 3, 3)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    inputs = random_images(rng).astype("float32"), np.array(BOXES, "float32")
    wanted = crops([inputs[0], from_boxes(inputs[1], (6, 9))])
    assert_allclose(float64(model(list(inputs))), float64(wanted), atol=1e-6)
    assert_allclose(model.predict(list(inputs), verbose=0), float64(wanted), atol=1e-6)


def test_as_many_boxes_as_each_image_has():
    found = [[[1.0, 2, 3, 4]], [], [[5.0, 6, 7, 8], [9, 10, 11, 12]]]
    stacked, order = stack_boxes(found, 3)
    assert stacked.shape == (3, 2, 4) and list(order) == [0, 4, 5]
    rows = np.array([[2, 5, 6, 7, 8], [0, 1, 2, 3, 4], [2, 9, 10, 11, 12]], "float32")
    same, order = stack_boxes(rows, 3)
    assert_array_equal(same, stacked)
    assert_array_equal(same.reshape(-1, 4)[order], rows[:, 1:])
    assert stack_boxes([[], []], 2)[0].shape == (2, 0, 4)


@pytest.mark.parametrize(
    "boxes", [[[[0, 0, 1, 1]]], np.ones((2, 3, 4)), [[2, 0, 0, 1, 1]], "ab", [[[1]], [[1, 2]]]]
)
def test_boxes_that_do_not_fit_are_refused(boxes):
    with pytest.raises(ValueError, match=r"`boxes` must be a list of 2 arrays.*Received: boxes="):
        stack_boxes(boxes, 2)


@pytest.mark.parametrize("convert, count", [(from_boxes, 4), (from_rotated_boxes, 5)])
def test_boxes_of_other_numbers_are_refused(convert, count):
    with pytest.raises(ValueError, match=rf"\(\.\.\., {count}\).*boxes.shape=\(2, 3\)"):
        convert(np.ones((2, 3)), (6, 9))


def glimpsing(glimpses=2, transform="attention"):
    """A network whose glimpses share the last layer."""
    return keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5 * glimpses, activation="tanh"),
            keras.layers.Reshape((glimpses, 5)),
            localization.head(transform),
        ]
    )


def test_a_network_starts_at_the_identity_and_learns_each_glimpse(rng, tmp_path):
    images = random_images(rng).astype("float32")
    layer = SpatialTransformer(glimpsing(), transform="attention")
    assert layer.compute_output_shape(images.shape) == (2, 2, 6, 9, 3)
    model = keras.Sequential([keras.Input((6, 9, 3)), layer, keras.layers.Flatten()])
    start = model.predict(images, verbose=0).reshape(2, 2, 6, 9, 3)
    assert_allclose(start, np.stack([images] * 2, 1), atol=1e-6 if NATIVE else 0)
    model.compile("sgd", "mse")
    model.fit(images, np.zeros((2, 324)), verbose=0)
    theta = layer.theta(images)
    assert theta.shape == (2, 2, 3) and np.abs(float64(theta[:, 0] - theta[:, 1])).max() > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_allclose(float64(loaded(images)), float64(model(images)), atol=1e-6)


def test_heads_of_their_own_start_at_different_places(rng, quick):
    images = keras.Input((6, 9, 3))
    features = keras.layers.Flatten()(images)
    starts = [(0.5, -0.5, 0), (0.5, 0.5, 0)]
    heads = [
        localization.head("attention", start, name=f"theta{k}") for k, start in enumerate(starts)
    ]
    network = keras.Model(images, ops.stack([head(features) for head in heads], axis=1))
    layer = SpatialTransformer(network, transform="attention", output_size=(3, 4))
    pictures = random_images(rng).astype("float32")
    assert_allclose(float64(layer.theta(pictures)), [starts] * 2)
    assert layer(pictures).shape == (2, 2, 3, 4, 3)


def test_a_compiled_call_gives_the_same(rng):
    layer = SpatialTransformer(transform="box", output_size=(4, 4), fill_value=0.5)
    inputs = random_images(rng, (20, 30)), random_theta(rng, layer.transform)
    inputs = [ops.convert_to_tensor(x, "float32") for x in inputs]
    found = compiled(lambda *tensors: layer(list(tensors)))(*inputs)
    assert_allclose(float64(found), float64(layer(inputs)), atol=1e-5)


def test_observe_shows_each_glimpse(rng, quick):
    layer = SpatialTransformer(glimpsing(), transform="attention", name="look")
    model = keras.Sequential([keras.Input((12, 12, 3)), layer])
    images = rng.uniform(0, 1, (2, 12, 12, 3)).astype("float32")
    warped, seen = float64(model(images)), observe(model, images)
    assert list(seen) == ["look", "look.2"]
    for k, one in enumerate(seen.values()):
        assert_allclose(one.warped, warped[:, k], atol=1e-6)
        assert one.matrix.shape == (2, 2, 3)
    assert list(draw(model, images)) == ["look", "look.2"]


@pytest.mark.parametrize("transform", ["affine", "thin_plate_spline"])
def test_measures_of_theta_average_over_the_glimpses_or_refuse_them(rng, transform):
    theta = random_theta(rng, transforms.get(transform))
    apart = theta.reshape(6, -1)
    for measure in (metrics.outside_share, metrics.nonfinite_share):
        options = {} if measure is metrics.nonfinite_share else {"transform": transform}
        found, wanted = float64(measure(theta, **options)), float64(measure(apart, **options))
        assert_allclose(found, wanted.reshape(2, 3).mean(1), atol=1e-6)
    squares = float64(metrics.identity_distance(apart, transform)).reshape(2, 3) ** 2
    found = float64(metrics.identity_distance(theta, transform))
    assert_allclose(found, np.sqrt(squares.mean(1)), rtol=1e-6)
    penalty = regularizers.FromIdentity(transform, strength=1.0)
    assert_allclose(float64(penalty(theta)), squares.mean(1).sum(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"theta.shape=\(2, 3, \d+\)"):
        metrics.warp_spread(theta, transform)


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (functools.partial(SpatialTransformer, transform="box"), (2, 3, 5), r"glimpses, 4\)"),
        (functools.partial(SpatialTransformer, transform="box"), (2, 3, 1, 4), r"\(2, 3, 1, 4\)"),
        (functools.partial(SpatialTransformer, transform="box"), (3, 3, 4), "same batch size"),
    ],
)
def test_thetas_that_do_not_fit_are_refused(rng, layer, inputs, message):
    with pytest.raises(ValueError, match=message):
        layer()([random_images(rng), np.ones(inputs)])


def test_iterations_need_one_warp_per_image(rng):
    layer = SpatialTransformer(glimpsing(), transform="attention", iterations=2)
    with pytest.raises(ValueError, match=r"`iterations` needs.*theta.shape=\(2, 2, 3\)"):
        layer(random_images(rng))


MEMORY = """
import ctypes, math, pathlib, keras, numpy as np, stn_keras

def memory(key):
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split(key)[1].split()[0])

layer = stn_keras.SpatialTransformer(transform="box", output_size=(7, 7))
images = keras.ops.ones((1, 200, 200, 256))
theta = keras.ops.convert_to_tensor(np.random.uniform(0.1, 0.5, (1, 64, 4)), "float32")
call = layer
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    call = tf.function(layer)
keras.ops.convert_to_numpy(call([images, theta]))  # compiles
ctypes.CDLL(None).malloc_trim(0)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS:")
result = call([images, theta])
float(keras.ops.sum(result))
print(memory("VmHWM:") - before, *(4 * math.prod(x.shape) for x in (images, result)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's measures of memory")
def test_the_images_are_not_copied():
    """Input and output fit into 1.2 times their memory."""
    # What is freed goes back to the system, and counts when it is allocated again.
    frees = {"MALLOC_MMAP_THRESHOLD_": "500000", "TF_ENABLE_ONEDNN_OPTS": "0"}
    run = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=ROOT,
        env={**os.environ, **frees},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    added, images, result = map(int, run.stdout.split())
    assert images + added <= 1.2 * (images + result)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_warp_has_the_glimpses_first(rng, quick, data_format):
    images, theta = random_images(rng), random_theta(rng, transforms.Similarity())
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    options = {"transform": "similarity", "output_size": (4, 5), "data_format": data_format}
    layer = SpatialTransformer(dtype="float64", **options)
    warp = layer.warp([images, theta])
    alone = [layer.warp([images, theta[:, k]]) for k in range(3)]
    warped = float64(warp(images, data_format=data_format))
    assert_allclose(warped, float64(layer([images, theta])), atol=1e-6)
    points, boxes = rng.uniform(0, 5, (2, 1, 7, 2)), np.array(BOXES)[:, None]
    for found, wanted in [
        (warp.to_input(points), [one.to_input(points[:, 0]) for one in alone]),
        (warp.to_output(points), [one.to_output(points[:, 0]) for one in alone]),
        (warp.boxes(boxes), [one.boxes(boxes[:, 0]) for one in alone]),
        (warp.matrix, [one.matrix for one in alone]),
        (warp.displacement(), [one.displacement() for one in alone]),
        (warp.jacobian(), [one.jacobian() for one in alone]),
        (warp.grid(), [one.grid() for one in alone]),
    ]:
        assert_allclose(float64(found), np.stack(list(map(float64, wanted)), 1), atol=1e-5)
    back = warp.to_input(warp.to_output(points))
    assert_allclose(float64(back), np.tile(points, (1, 3, 1, 1)), atol=1e-4)


def test_points_of_other_glimpses_are_refused(rng):
    warp = transforms.Box().warp(random_theta(rng, transforms.Box()), (6, 9))
    for shape in [(2, 7, 2), (2, 2, 7, 2), (3, 3, 7, 2)]:
        with pytest.raises(ValueError, match=r"`points` must have shape.*\(2, 3\)"):
            warp.to_input(np.zeros(shape))


@pytest.mark.parametrize("count", [3, None])
def test_a_model_holds_the_warp_of_its_glimpses(rng, tmp_path, count):
    box = transforms.Box()
    layer = SpatialTransformer(transform=box, output_size=(4, 5))

    def followed(images, theta, points, boxes):
        warp = layer.warp([images, theta])
        return [
            warp(images, interpolation="nearest"),
            warp.to_output(points),
            box.warp(theta, (6, 9)).to_input(points),
            warp.boxes(boxes, clip=True),
            warp.matrix,
            warp.displacement(),
            warp.jacobian(),
            warp.grid(),
            warp.warp.inverse().grid(),
        ]

    shapes = (6, 9, 3), (count, 4), (count, None, 2), (1, None, 4)
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, followed(*inputs))
    model.save(tmp_path / "model.keras")
    given = [
        random_images(rng),
        random_theta(rng, box),
        rng.uniform(0, 5, (2, 3, 7, 2)),
        np.array(BOXES)[:, None],
    ]
    given = [ops.convert_to_tensor(x, "float32") for x in given]
    for one in (model, keras.saving.load_model(tmp_path / "model.keras")):
        for spec, found, wanted in zip(model.outputs, one(given), followed(*given), strict=True):
            assert [n or m for n, m in zip(spec.shape, found.shape, strict=True)] == [*found.shape]
            assert_allclose(float64(found), float64(wanted), atol=1e-5)


def test_a_model_holds_the_warp_of_glimpses_that_a_network_chooses(rng):
    layer = SpatialTransformer(glimpsing(), transform="attention", output_size=(3, 4))
    images = keras.Input((6, 9, 3))
    model = keras.Model(images, [layer(images), layer.warp(images)(images)])
    called, warped = model(random_images(rng).astype("float32"))
    assert warped.shape == (2, 2, 3, 4, 3)
    assert_allclose(float64(warped), float64(called), atol=1e-6)


def test_symbolic_glimpses_that_do_not_fit_are_refused():
    images, theta = keras.Input((6, 9, 3)), keras.Input((2, 4))
    warp = SpatialTransformer(transform="box").warp([images, theta])
    several = SpatialTransformer(glimpsing(), transform="attention", iterations=2)
    for call, words in {
        lambda: transforms.Box().warp(keras.Input((2, 5)), (6, 9)): "`theta` must have shape",
        lambda: warp.to_input(keras.Input((7, 2))): "`points` must have shape",
        lambda: warp.to_input(keras.Input((3, 7, 2))): r"`points` must have.*\(None, 2\)",
        lambda: warp.boxes(keras.Input((1, 7, 5))): "`boxes` must have shape",
        lambda: several.warp(images): "`theta` must have shape",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="unsupported operand"):
        warp @ warp
