"""Transforms of users: their settings count for the warp, whatever they are, also when changed."""

import dataclasses
import pathlib
import re
import textwrap

import keras
import numpy as np
import pytest
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose

from stn_keras import SpatialTransformer, affine_grid, grid_sample, transforms
from stn_keras.transforms import projective

ONE = np.ones((1, 1), "float32")


class Zoom(transforms.MatrixTransform):
    identity = np.ones(1, "float32")

    def __init__(self, factor):
        self.factor = factor

    def matrix(self, theta, size=(1, 1)):
        scale = self.parameters(theta)[:, :, None] * self.factor
        return scale * ops.diag([1.0, 1.0, 0.0]) + ops.diag([0.0, 0.0, 1.0])


@dataclasses.dataclass(frozen=True)
class Dataclass(transforms.MatrixTransform):
    factor: float = dataclasses.field(default=1.0, compare=False)
    identity = Zoom.identity
    matrix = Zoom.matrix


class Curved(transforms.Transform):
    """A transform that is not a matrix, but a function of coordinates."""

    identity = Zoom.identity

    def __init__(self, factor):
        self.factor = factor

    def pixels(self, theta, input_size, output_size, align_corners):
        return Zoom(self.factor).pixels(theta, input_size, output_size, align_corners)


class Shifted(transforms.Rigid):
    """A transform of the library with an attribute in addition to its settings."""

    identity = Zoom.identity

    def __init__(self, factor):
        super().__init__()
        object.__setattr__(self, "factor", factor)

    matrix = Zoom.matrix


OWN = [Zoom, Dataclass, Curved, Shifted]


def warped(images, factor):
    theta = np.array([[factor, 0, 0, 0, factor, 0]], "float32")
    return float64(grid_sample(images, affine_grid(theta, images.shape[1:3])))


def images_of(rng):
    return rng.uniform(size=(1, 5, 6, 2)).astype("float32")


@pytest.mark.parametrize("make", OWN)
def test_each_instance_warps_by_its_own_settings(rng, make):
    images = images_of(rng)
    for factor in (1.0, 0.5, 1.0):
        layer = SpatialTransformer(transform=make(factor))
        assert_allclose(float64(layer([images, ONE])), warped(images, factor), atol=1e-6)


@pytest.mark.parametrize("change", ["attribute", "array", "variable"])
def test_settings_may_change_between_calls(rng, change):
    images, start = images_of(rng), np.array([1.0], "float32")
    own = Zoom({"attribute": 1.0, "array": start}.get(change) or keras.Variable(1.0))
    layer = SpatialTransformer(transform=own)
    assert_allclose(float64(layer([images, ONE])), images, atol=1e-6)
    if change == "attribute":
        own.factor = 0.5
    elif change == "array":
        start[:] = 0.5
    else:
        own.factor.assign(0.5)
    assert_allclose(float64(layer([images, ONE])), warped(images, 0.5), atol=1e-6)


class Trained(keras.Model):
    def __init__(self):
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
        self.warp = SpatialTransformer(transform=Zoom(self.factor))

    def call(self, images):
        return self.warp([images, ops.ones_like(images[:, 0, 0, :1])])


def test_a_variable_of_a_transform_trains(rng):
    images = np.repeat(images_of(rng), 4, axis=0)
    model = Trained()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    wanted = np.repeat(warped(images[:1], 0.8), 4, axis=0)
    losses = model.fit(images, wanted, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert_allclose(
        float64(model(images[:1])), warped(images[:1], float64(model.factor)), atol=1e-5
    )


def test_gradients_of_own_transforms_are_those_of_the_affine_one(rng):
    images, upstream = images_of(rng), rng.normal(size=(1, 5, 6, 2))
    theta = np.array([[0.83]], "float32")
    found = gradients(
        lambda x, t: SpatialTransformer(transform=Zoom(0.9))([x, t]), (images, theta), upstream
    )
    full = (theta * 0.9)[:, :, None] * np.eye(2, 3, dtype="float32")
    to_images, to_theta = gradients(
        lambda x, t: SpatialTransformer()([x, t]), (images, full), upstream
    )
    assert_allclose(float64(found[0]), float64(to_images), atol=1e-5)
    trace = float64(to_theta)[0, 0, 0] + float64(to_theta)[0, 1, 1]
    assert_allclose(float64(found[1]).item(), 0.9 * trace, rtol=1e-4)


def moved(family):
    """A transform of the library, and one of a user, that sample one pixel further to the right."""

    def pixels(self, *where):
        x, y = family().pixels(*where)
        return [x + 1, y]

    identity = family().identity
    attributes = {"pixels": pixels, "identity": identity}
    return [type("Moved", (base,), attributes)() for base in (family, transforms.Transform)]


def halved(family):
    """The same by a matrix: they sample a region of half the width and height."""

    def matrix(self, theta, size=(1, 1)):
        return family().matrix(theta, size) * ops.cast([[[0.5], [0.5], [1.0]]], "float32")

    own = type("Halved", (family,), {"matrix": matrix, "identity": family().identity})()
    apart = {"pixels": lambda self, *where: own.pixels(*where), "identity": own.identity}
    return own, type("Apart", (transforms.Transform,), apart)()


FAMILIES = [type(transforms.get(name)) for name in transforms.TRANSFORMS]


@pytest.mark.parametrize("change", [moved, halved])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_of_a_subclass_takes_the_place_of_its_family_s(rng, family, change):
    if change is halved and family is transforms.ThinPlateSpline:
        pytest.skip("it has no matrix")
    own, wanted = change(family)
    images, upstream = images_of(rng), rng.normal(size=(1, 5, 6, 2))
    theta = own.identity[None] + rng.uniform(-0.1, 0.1, (1, len(own.identity))).astype("float32")
    grids = [float64(transform.grid(theta, (5, 6))) for transform in (own, wanted)]
    assert_allclose(*grids, atol=1e-5)
    layers = [SpatialTransformer(transform=transform) for transform in (own, wanted)]
    assert_allclose(*(float64(layer([images, theta])) for layer in layers), atol=1e-5)
    found, expected = (
        gradients(lambda x, t: layer([x, t]), (images, theta), upstream) for layer in layers
    )
    assert_allclose(float64(found[0]), float64(expected[0]), atol=1e-4)
    assert_allclose(float64(found[1]), float64(expected[1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [Zoom, Curved, Shifted])
def test_equal_means_of_one_class_with_equal_settings(make):
    assert make(1.0) == make(1.0)
    assert hash(make(1.0)) == hash(make(1.0))
    assert make(1.0) != make(0.5)
    assert make(np.ones(1)) != make(np.ones(1))  # may change
    assert make(1.0) != Dataclass(1.0)


def test_equal_settings_of_the_library_s_transforms():
    assert transforms.Rigid() == transforms.Rigid()
    assert transforms.Rigid(1.0) != transforms.Rigid()
    assert transforms.Similarity(scale=[0.5, 2]) == transforms.Similarity(scale=(0.5, 2))
    assert transforms.ThinPlateSpline((3, 4)) != transforms.ThinPlateSpline((4, 3))


def test_the_transform_that_contributing_writes_zooms():
    text = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"   ```python\n(.*?)   ```", text, re.DOTALL)
    names = dict(vars(projective))  # which has the imports, as the page says
    exec(textwrap.dedent(code), names)
    theta = names["Zoom"]().identity[None] / 2
    (found,) = float64(names["Zoom"]().grid(theta, (1, 2)))
    assert_allclose(found[0], [[-0.25, 0], [0.25, 0]])
