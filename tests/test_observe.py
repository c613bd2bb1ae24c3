"""The transformers that are found, their names, and the colours of figures."""

import contextlib
import warnings
from concurrent import futures

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import SpatialTransformer, affine_grid, localization
from stn_keras.layers.recording import recording
from stn_keras.observe import draw, observe, transformers

SIZE = (8, 12)
HALF = [0.5, 0.0, 0.25, 0.0, 0.5, 0.0]  # the middle, moved right: all of it inside
QUARTER = [1.0, 0.0, 0.5, 0.0, 1.0, 0.0]  # the last quarter of the columns lies outside


def warp(name="st", theta=HALF, **options):
    bias = keras.initializers.Constant(theta)
    head = layers.Dense(6, kernel_initializer="zeros", bias_initializer=bias)
    network = keras.Sequential([layers.GlobalAveragePooling2D(), head])
    return SpatialTransformer(network, name=name, **options)


def functional(*parts, shape=(*SIZE, 3), name=None):
    x = images = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(images, x, name=name)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (2, *SIZE, 3), np.uint8)


class Block(layers.Layer):
    """A layer with two transformers of the same name; it calls one twice."""

    def __init__(self, name):
        super().__init__(name=name)
        self.parts = [warp("st"), warp("st", theta=QUARTER)]

    def call(self, images):
        return self.parts[1](self.parts[0](self.parts[0](images)))

    def compute_output_shape(self, shape):
        return shape


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.front = keras.Sequential([warp()], name="front")

    def call(self, images):
        return self.front(images)


shared = functional(warp("one"), name="shared")
MODELS = {
    "at the top": (lambda: functional(warp("a"), warp("b")), ["a", "b"]),
    "sequential": (lambda: keras.Sequential([keras.Input((*SIZE, 3)), warp()]), ["st"]),
    "three levels": (
        lambda: functional(keras.Sequential([functional(warp(), name="deep")], name="front")),
        ["st"],
    ),
    "the same name": (
        lambda: functional(
            functional(warp(), name="a"), keras.Sequential([warp()], name="b"), warp()
        ),
        ["a.st", "b.st", "st"],
    ),
    "shared": (lambda: functional(shared, shared), ["one", "one.2"]),
    "in a layer": (lambda: functional(Block("block")), ["block.st", "block.st.2", "block.st.2.2"]),
    "subclassed": (Subclassed, ["st"]),
}


@pytest.mark.parametrize("build, names", MODELS.values(), ids=MODELS)
def test_all_calls_are_seen_under_names_of_their_own(images, build, names):
    model = build()
    seen = observe(model, images.astype("float32"))
    assert sorted(seen) == sorted(names)
    for one in seen.values():
        assert one.images.shape == one.warped.shape == (2, *SIZE, 3)
        assert one.grid.shape == (2, *SIZE, 2) and one.matrix.shape == (2, 2, 3)
        assert_array_equal(one.nonfinite, [0, 0])


def test_what_is_seen_is_what_the_layer_got_and_gave(images):
    model = functional(warp("a"), layers.Rescaling(2.0), warp("b", theta=QUARTER))
    seen = observe(model, images.astype("float32"))
    assert_array_equal(seen["a"].images, images)
    assert_allclose(seen["b"].images, 2 * seen["a"].warped)
    assert_allclose(seen["b"].warped, keras.ops.convert_to_numpy(model(images)), rtol=1e-5)
    assert_allclose(seen["a"].outside, [0, 0])
    assert_allclose(seen["b"].outside, [0.25, 0.25])
    assert_allclose(seen["b"].theta, [QUARTER] * 2)


TRANSFORMS = {
    "rigid": ([0.5, 0.1, -0.1], {}),
    "similarity": ([0.6, 0.4, 0.1, 0.1], {}),
    "affine": ([0.6, 0.3, 0.1, -0.4, 0.7, 0.0], {}),
    "projective": ([0.6, 0.2, 0.1, -0.2, 0.6, 0.1, 0.3, -0.2], {}),
    "thin_plate_spline": (np.linspace(-0.1, 0.1, 32), {}),
    "antialiased": ([0.5, 0.1, 0.0], {"transform": "rigid", "antialias": 2}),
}


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_grid_is_where_pixels_came_from_and_the_matrix_how_at_the_middle(name, align_corners):
    theta, options = TRANSFORMS[name]
    if align_corners and "antialias" in options:
        pytest.skip("needs pixel edges")
    height, width = 20, 40
    y, x = np.mgrid[:height, :width].astype("float32")
    options = {"transform": name, "output_size": (31, 15), "fill_mode": "nearest", **options}
    layer = SpatialTransformer(align_corners=align_corners, **options)
    inputs = keras.Input((height, width, 2)), keras.Input((len(theta),))
    model = keras.Model(inputs, layer(list(inputs)))
    (one,) = observe(model, [np.stack([x, y], -1)[None], np.array([theta], "float32")]).values()
    size = np.array([width, height])
    told = (one.grid + 1) * (size - align_corners) / 2 - (not align_corners) / 2
    inside = ((told > 0.5) & (told < size - 1.5)).all(-1)
    assert inside.mean() > 0.2
    assert_allclose(one.warped[inside], told[inside], atol=1e-3)
    if one.matrix is not None:
        step = np.array(affine_grid([np.eye(2, 3).ravel()], (31, 15), align_corners=align_corners))
        middle = slice(15, 16), slice(6, 9)
        near = step[0][middle].reshape(-1, 2)
        wanted = near @ one.matrix[0, :, :2].T + one.matrix[0, :, 2]
        assert_allclose(one.grid[0][middle].reshape(-1, 2), wanted, atol=0.01)


def test_a_model_can_be_observed_drawn_and_called_in_several_threads_at_once(images):
    model = functional(warp("a"), warp("b", theta=QUARTER))
    wanted = observe(model, images)["b"].warped

    def work(k):
        if k % 3 == 0:
            assert list(draw(model, images)) == ["a", "b"]
        elif k % 3 == 1:
            assert_allclose(keras.ops.convert_to_numpy(model(images)), wanted, rtol=1e-5)
        else:
            seen = observe(model, images)
            assert list(seen) == ["a", "b"]
            assert_array_equal(seen["b"].warped, wanted)
        return True

    with futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))


def test_a_layer_records_nothing_once_observed(images):
    model = functional(warp())
    for inputs, error in ((images, contextlib.nullcontext()), (images[..., :2], None)):
        with error or pytest.raises(Exception):
            observe(model, inputs)
        with recording() as calls:
            pass
        model(images)
        assert calls == []


def test_of_a_dataset_the_first_batch_is_taken(images):
    tf = pytest.importorskip("tensorflow")
    model, labels = functional(warp()), np.arange(2)
    wanted = observe(model, images)["st"]
    for arrays in (images, (images, labels)):
        dataset = tf.data.Dataset.from_tensor_slices(arrays)
        assert_array_equal(observe(model, dataset.batch(2))["st"].images, wanted.images)
        assert_array_equal(drawn(model, dataset.batch(2))[0], images)
        for wrong in (dataset, dataset.batch(2).take(0)):
            with pytest.raises(ValueError, match=r"in batches.*Received: a _\w*Dataset"):
                draw(model, wrong)


def test_models_without_and_those_that_hide_them(images):
    plain = functional(layers.Rescaling(1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert transformers(plain) == observe(plain, images) == draw(plain, images) == {}
    hidden = functional(Block("block"))
    hidden.get_layer("block").call = lambda images: images
    with pytest.warns(UserWarning, match=r"'block.st'.*nothing to see"):
        assert draw(hidden, images) == {}


def drawn(model, images, name="st"):
    """The pictures in a figure: images and warps, (batch, height, width, 3) or without 3."""
    axes = draw(model, images)[name].axes
    pictures = [np.asarray(axis.images[0].get_array()) for axis in axes]
    half = len(pictures) // 2
    return np.stack(pictures[:half]), np.stack(pictures[half:])


def normalised(*parts, mean=(125.3, 123.0, 113.9), deviation=(63.0, 62.1, 66.7)):
    variance = [number**2 for number in deviation]
    return functional(layers.Normalization(mean=mean, variance=variance), *parts)


def test_pictures_are_drawn_as_they_are(images):
    found, warped = drawn(normalised(warp()), images)
    assert found.dtype == warped.dtype == np.uint8
    assert_array_equal(found, images)
    wanted = keras.ops.convert_to_numpy(warp()(images.astype("float32")))
    assert_allclose(warped, wanted, atol=0.51)


def test_white_stays_white_and_low_contrast_low():
    images = np.full((3, *SIZE, 3), 255, np.uint8)
    images[1] = 100
    images[1, 2:6, 3:9] = 110
    images[2] = 1
    for model in (normalised(warp()), functional(warp())):
        for one in (images, images[:1], images[1:2], images[2:]):  # `predict` draws one by one
            found, warped = drawn(model, one)
            assert_array_equal(found, one)
            assert {*np.unique(warped)} <= {*range(100, 111), *np.unique(one)}


@pytest.mark.parametrize("scale, dtype", [(1, "float32"), (1 / 255, "float32"), (1, "int32")])
def test_pictures_of_other_types(images, scale, dtype):
    found, _ = drawn(functional(warp()), (scale * images).astype(dtype))
    assert_array_equal(found, images)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_the_colours(images, set_policy, policy):
    set_policy(policy)
    assert_array_equal(drawn(normalised(warp()), images)[0], images)


def test_another_order_of_channels_is_the_same_picture(images):
    picked = layers.Lambda(lambda x: keras.ops.flip(x, axis=-1))
    assert_array_equal(drawn(functional(picked, warp()), images)[0], images)


def test_of_two_pictures_the_one_that_is_warped_is_drawn(images):
    moving, fixed = inputs = keras.Input((*SIZE, 3)), keras.Input((*SIZE, 3))
    model = keras.Model(inputs, [warp("a")(moving), warp("b")(layers.Rescaling(-1 / 9)(fixed))])
    pair = [images, images[:, ::-1]]
    for name, wanted in zip("ab", pair):
        assert_array_equal(drawn(model, pair, name)[0], wanted)


def test_each_picture_normalised_by_itself(images):
    images[1] //= 4
    model = functional(layers.LayerNormalization(axis=(1, 2, 3)), warp())
    assert_array_equal(drawn(model, images)[0], images)


def test_a_second_transformer_sees_what_the_first_has_made(images):
    model = normalised(warp("a", theta=QUARTER), layers.Rescaling(3.0, 1.0), warp("b"))
    _, first = drawn(model, images, "a")
    second, last = drawn(model, images, "b")
    assert_array_equal(first, second)
    assert_array_equal(first[:, :, -3:], 0)  # outside
    assert_allclose(last, drawn(functional(warp()), second)[1], atol=1)


def test_opacity_is_laid_on_white(rng):
    images = rng.integers(0, 256, (1, *SIZE, 4), np.uint8)
    images[:, :4, :, 3] = 0
    found, _ = drawn(functional(layers.Rescaling(1 / 255), warp(), shape=(*SIZE, 4)), images)
    assert_array_equal(found[:, :4], np.full_like(found[:, :4], 255))


def test_grey_pictures_and_channels_first(rng):
    images = rng.integers(0, 256, (2, 1, *SIZE), np.uint8)
    head = keras.Sequential([layers.Flatten(), localization.head()])
    layer = SpatialTransformer(head, name="st", data_format="channels_first")
    found, warped = drawn(functional(layer, shape=(1, *SIZE)), images)
    assert_array_equal(found, images[:, 0])
    assert_array_equal(warped, images[:, 0])  # a fresh head is the identity


def test_feature_maps_are_scaled(images):
    model = functional(layers.Conv2D(5, 3, padding="same"), warp())
    found, warped = drawn(model, images)
    assert found.shape == (2, *SIZE) and (found.min(), found.max()) == (0, 255)
    half = functional(layers.AveragePooling2D(2), warp())
    found, _ = drawn(half, images)
    assert found.shape == (2, 4, 6, 3) and (found.min(), found.max()) == (0, 255)


def test_feature_maps_are_shown_as_their_mean():
    maps = np.zeros((1, *SIZE, 2), "float32")
    maps[:, :4, :, 1], maps[:, 4:6] = 6, 10
    found, _ = drawn(functional(warp(), shape=(*SIZE, 2)), maps - 1)
    assert_array_equal(found[0, ::3, 0], [76, 76, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_dead_transformers_and_dead_inputs_are_drawn(images, value):
    dead = warp(theta=[value] * 6)
    found, _ = drawn(functional(dead), images)
    assert_array_equal(found, images)
    assert_array_equal(observe(functional(dead), images)["st"].nonfinite, [1, 1])
    found, _ = drawn(functional(layers.Rescaling(value), warp()), images)
    assert found.shape == (2, *SIZE, 3)


@pytest.mark.parametrize("options", [{"antialias": 2}, {"fill_mode": "reflect"}])
def test_pictures_are_warped_as_the_layer_warps(images, options):
    theta = [1.4, 0.3, 0.2, -0.2, 1.5, 0.1]
    for option in ({}, {"output_size": (5, 4), "interpolation": "bicubic"}):
        model = functional(layers.Rescaling(1 / 255), warp(theta=theta, **options, **option))
        _, warped = drawn(model, images)
        wanted = np.clip(255 * keras.ops.convert_to_numpy(model(images)), 0, 255)
        assert_allclose(warped, wanted, atol=0.6)
