"""Any argument either works or is refused by a ValueError or TypeError that names it."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from keras import ops

from stn_keras import (
    DenseWarp,
    Orientation,
    SpatialTransformer,
    VelocityIntegration,
    affine_grid,
    geometry,
    grid_sample,
    localization,
    losses,
    metrics,
    regularizers,
    transforms,
)

pytestmark = pytest.mark.slow

ODD = st.sampled_from(
    [None, True, False, -1, 0, 1, 3, 0.5, -2.0, np.nan, np.inf, -np.inf, 1j, "", "affine"]
    + [b"x", (), [], (0, 1), (2, 3), (2, 2, 2), (1.5, 2), ("a", "b"), (-1, 4), (np.nan, 2.0)]
    + [[[1], [2, 3]], {}, {"a": 1}, object(), np.zeros(2), np.zeros((2, 3, 3))]
)

examples = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def seeded(request):
    """Draws with pytest's `--seed`, so that a failure can be repeated."""
    seed(request.config.option.seed)(request.function)


@pytest.fixture(autouse=True)
def eagerly(uncompiled):
    pass


def mostly(good):
    """Seldom something that makes no sense."""
    return st.one_of(good, good, good, good, good, good, good, ODD)


def works_or_is_refused(call, arguments):
    """The result of `call(**arguments)`; None if it refuses one of them by its name."""
    try:
        return call(**arguments)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(f"`{name}`" in message for name in arguments), f"{type(error)}: {message}"
        return None


FINITE = st.floats(-3, 3, width=32)
SIZE = st.tuples(st.integers(1, 5), st.integers(1, 5))
VOLUME = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
OF_VOLUMES = [transforms.Rigid(axes=3, max_rotation=1.0), transforms.Affine(axes=3)]


@st.composite
def arrays(draw, shapes):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(shapes)
    dtype = draw(st.sampled_from(["float32", "float64", "float16"]))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0]))
    return np.asarray(scale * rng.normal(size=shape), dtype)


LENGTH = st.integers(0, 4)


def shape(*lengths):
    """Mostly that shape, with 1 … 4 in place of None; sometimes any shape."""
    right = st.tuples(*(st.integers(1, 4) if n is None else st.just(n) for n in lengths))
    return st.one_of(right, right, right, right, st.lists(LENGTH, max_size=5).map(tuple))


@st.composite
def call_of_grid_sample(draw):
    odd = mostly
    return {
        "images": draw(odd(arrays(shape(2, None, None, 3)))),
        "grid": draw(odd(arrays(shape(2, None, None, 2)))),
        "interpolation": draw(odd(st.sampled_from(["nearest", "bilinear", "bicubic"]))),
        "fill_mode": draw(odd(st.sampled_from(["constant", "nearest", "reflect"]))),
        "fill_value": draw(odd(st.one_of(FINITE, st.tuples(FINITE, FINITE, FINITE)))),
        "align_corners": draw(st.booleans()),
        "data_format": draw(odd(st.sampled_from(["channels_last", "channels_first", None]))),
    }


def finite(result, *inputs):
    """Finite inputs give finite outputs."""
    if result is not None and all(np.all(np.isfinite(x)) for x in inputs):
        assert np.all(np.isfinite(ops.convert_to_numpy(result)))


@examples
@given(call_of_grid_sample())
def test_grid_sample(arguments):
    result = works_or_is_refused(grid_sample, arguments)
    if result is not None:
        fill = np.asarray(arguments["fill_value"], float)
        finite(result, arguments["images"], arguments["grid"], fill)


@examples
@given(
    theta=mostly(arrays(st.one_of(shape(2, 6), shape(2, 2, 3), shape(1, 12)))),
    output_size=mostly(st.one_of(SIZE, st.tuples(LENGTH, LENGTH, LENGTH))),
    align_corners=st.booleans(),
)
def test_affine_grid(**arguments):
    result = works_or_is_refused(affine_grid, arguments)
    finite(result, arguments["theta"])


@st.composite
def any_transform(draw):
    name = draw(st.sampled_from(list(transforms.TRANSFORMS)))
    options = {
        "rigid": {"max_rotation": mostly(st.floats(0.1, 3))},
        "similarity": {
            "max_rotation": mostly(st.floats(0.1, 3)),
            "scale": mostly(st.tuples(st.floats(0, 0.9), st.floats(1.1, 3))),
        },
        "thin_plate_spline": {"control_points": mostly(st.tuples(*[st.integers(2, 4)] * 2))},
    }.get(name, {})
    if name not in ("projective", "thin_plate_spline"):
        options |= {"axes": mostly(st.sampled_from([2, 3]))}
    drawn = {option: draw(values) for option, values in options.items()}
    return works_or_is_refused(transforms.TRANSFORMS[name], drawn)


@examples
@given(st.data(), any_transform(), st.booleans())
def test_transforms(data, transform, align_corners):
    if transform is None:
        return
    arguments = {
        "theta": data.draw(mostly(arrays(shape(2, transform.num_parameters)))),
        "output_size": data.draw(mostly(st.tuples(*[st.integers(1, 5)] * transform.axes))),
        "align_corners": align_corners,
    }
    result = works_or_is_refused(transform.grid, arguments)
    if not isinstance(transform, transforms.Projective):  # it sends points to infinity
        finite(result, arguments["theta"])


@examples
@given(st.data())
def test_spatial_transformer(data):
    arguments = {
        "transform": data.draw(mostly(st.sampled_from([*transforms.TRANSFORMS, *OF_VOLUMES]))),
        "output_size": data.draw(mostly(st.one_of(SIZE, VOLUME, st.none()))),
        "interpolation": data.draw(mostly(st.sampled_from(["nearest", "bilinear", "bicubic"]))),
        "fill_mode": data.draw(mostly(st.sampled_from(["constant", "nearest", "reflect"]))),
        "fill_value": data.draw(mostly(FINITE)),
        "data_format": data.draw(mostly(st.sampled_from(["channels_last", None]))),
        "antialias": data.draw(mostly(st.integers(1, 2))),
        "iterations": data.draw(mostly(st.just(1))),
        "gradient_scale": data.draw(mostly(st.floats(0, 1))),
    }
    layer = works_or_is_refused(SpatialTransformer, arguments)
    if layer is None:
        return
    images = data.draw(arrays(shape(2, *[None] * layer.transform.axes, 1)))
    theta = data.draw(arrays(shape(2, layer.transform.num_parameters)))
    inputs = {"images": images, "theta": theta}
    result = works_or_is_refused(lambda images, theta: layer([images, theta]), inputs)
    if layer.transform != transforms.Projective() and np.all(np.isfinite(arguments["fill_value"])):
        finite(result, images, theta)


@examples
@given(
    function=st.sampled_from([metrics.identity_distance, metrics.outside_share]),
    theta=mostly(arrays(shape(2, 6))),
    transform=mostly(st.sampled_from(["affine", "affine", "attention", "projective"])),
    size=mostly(SIZE),
)
def test_metrics(function, **arguments):
    result = works_or_is_refused(function, arguments)
    finite(result, arguments["theta"])


@examples
@given(
    kind=st.sampled_from([regularizers.FromIdentity, regularizers.Outside]),
    transform=mostly(st.sampled_from(["affine", "translation"])),
    strength=mostly(st.floats(0, 10)),
    size=mostly(SIZE),
    theta=mostly(arrays(shape(2, 6))),
)
def test_regularizers(kind, theta, **arguments):
    penalty = works_or_is_refused(kind, arguments)
    if penalty is not None:
        result = works_or_is_refused(penalty, {"theta": theta})
        finite(result, theta)


@examples
@given(
    build=st.sampled_from([localization.head, localization.cnn]),
    transform=mostly(st.sampled_from(list(transforms.TRANSFORMS))),
    start=mostly(st.one_of(st.none(), arrays(shape(6)))),
)
def test_localization(build, **arguments):
    network = works_or_is_refused(build, arguments)
    assert network is None or isinstance(network, keras.Layer)


@examples
@given(st.data())
def test_orientation(data):
    arguments = {
        "network": data.draw(mostly(st.just(keras.layers.Flatten()))),
        "max_rotation": data.draw(mostly(st.floats(0.1, 3))),
        "weight": data.draw(mostly(st.floats(0, 2))),
        "disc": data.draw(st.booleans()),
        "bins": data.draw(mostly(st.integers(2, 40))),
        "data_format": data.draw(mostly(st.sampled_from(["channels_last", None]))),
        "seed": data.draw(mostly(st.one_of(st.none(), st.integers(0, 9)))),
    }
    layer = works_or_is_refused(Orientation, arguments)
    if layer is not None:
        images = data.draw(arrays(shape(2, None, None, 1)))
        call = functools.partial(layer, training=True)
        works_or_is_refused(lambda images, **options: call(images), arguments | {"images": images})


def fields():
    return arrays(st.one_of(shape(2, None, None, 2), shape(2, None, None, None, 3)))


@examples
@given(st.data())
def test_dense_warp(data):
    arguments = {
        "units": data.draw(mostly(st.sampled_from(["pixels", "normalized"]))),
        "interpolation": data.draw(mostly(st.sampled_from(["nearest", "bilinear", "bicubic"]))),
        "fill_mode": data.draw(mostly(st.sampled_from(["constant", "nearest", "reflect", "wrap"]))),
        "fill_value": data.draw(mostly(FINITE)),
        "align_corners": data.draw(st.booleans()),
        "data_format": data.draw(mostly(st.sampled_from(["channels_last", None]))),
    }
    layer = works_or_is_refused(DenseWarp, arguments)
    if layer is None:
        return
    images = data.draw(arrays(st.one_of(shape(2, None, None, 1), shape(2, None, None, None, 1))))
    inputs = {"images": images, "displacement": data.draw(fields())}

    def call(images, displacement, **options):
        return layer([images, displacement])

    result = works_or_is_refused(call, inputs | arguments | {"inputs": None})
    if np.all(np.isfinite(arguments["fill_value"])):
        finite(result, images)


@examples
@given(data=st.data())
def test_displacements(data):
    arguments = {"steps": data.draw(mostly(st.integers(0, 1)))}
    layer = works_or_is_refused(VelocityIntegration, arguments)
    if layer is not None:
        velocity = data.draw(fields())  # Keras refuses what is no array
        result = works_or_is_refused(lambda velocity: layer(velocity), {"velocity": velocity})
        finite(result, velocity)
    velocity = data.draw(mostly(fields()))
    other = data.draw(st.one_of(st.just(velocity), mostly(fields())))
    size = data.draw(mostly(st.one_of(SIZE, st.tuples(*[st.integers(1, 5)] * 3))))
    function, arguments = data.draw(
        st.sampled_from(
            [
                (geometry.compose_displacements, {"first": velocity, "second": other}),
                (geometry.resize_displacement, {"displacement": velocity, "size": size}),
                (geometry.jacobian_determinant, {"displacement": velocity}),
            ]
        )
    )
    works_or_is_refused(function, arguments)


@examples
@given(
    norm=mostly(st.sampled_from(["l1", "l2"])),
    window=mostly(st.sampled_from([1, 3, 9])),
    y_true=arrays(shape(2, None, None, 2)),
    y_pred=arrays(shape(2, None, None, 2)),
)
def test_losses(norm, window, **images):
    for make, arguments in (
        (losses.DisplacementGradient, {"norm": norm}),
        (losses.BendingEnergy, {}),
        (losses.LocalCrossCorrelation, {"window": window}),
    ):
        loss = works_or_is_refused(make, arguments)
        if loss is not None:
            result = works_or_is_refused(loss, images)
            if all(array.size for array in images.values()):
                finite(result, *images.values())
