"""A warp as a value: pictures, points and boxes follow it, and come back."""

import keras
import numpy as np
import pytest
from autodiff import compiled, derivative, float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import stn_keras
from stn_keras import DenseWarp, SpatialTransformer, Warp, geometry, transforms

SIZE, OUTPUT = (40, 56), (48, 32)
VOLUME, OUTPUT_VOLUME = (12, 20, 16), (10, 14, 18)
PLANES = [
    transforms.Translation(),
    transforms.Attention(),
    transforms.Box(),
    transforms.Rigid(),
    transforms.Similarity(),
    transforms.Affine(),
    transforms.Projective(),
    transforms.ThinPlateSpline(),
]
SPACES = [
    kind(axes=3)
    for kind in (
        transforms.Translation,
        transforms.Attention,
        transforms.Box,
        transforms.Rigid,
        transforms.Similarity,
        transforms.Affine,
    )
]


def of_transform(rng, transform, align_corners=False, batch=2):
    """A warp of a random theta near the identity."""
    noise = rng.uniform(-0.1, 0.1, (batch, transform.num_parameters))
    theta = (transform.identity + noise).astype("float32")
    sizes = (SIZE, OUTPUT) if transform.axes == 2 else (VOLUME, OUTPUT_VOLUME)
    return transform.warp(theta, *sizes, align_corners)


def smooth_field(rng, size, amplitude=2.0, batch=2, dtype="float32"):
    """A displacement that does not fold."""
    grids = np.meshgrid(*(np.arange(n) / n for n in size), indexing="ij")
    phase = rng.uniform(0, 2 * np.pi, (batch, len(size), *(1,) * len(size)))
    waves = np.sin(2 * np.pi * sum(grids) + phase) * np.cos(np.pi * grids[0] - phase)
    return (amplitude * np.moveaxis(waves, 1, -1)).astype(dtype)


def of_field(rng, axes=2, batch=2):
    size, amplitude = (SIZE, 2.0) if axes == 2 else (VOLUME, 0.5)
    return Warp.from_displacement(smooth_field(rng, size, amplitude, batch))


def inside(rng, size, count=1000, batch=2):
    """Random points `(x, y)` or `(x, y, z)` of images of a size."""
    return rng.uniform(-0.5, np.array(size[::-1]) - 0.5, (batch, count, len(size))).astype(
        "float32"
    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("transform", PLANES + SPACES, ids=repr)
def test_points_of_a_transform_come_back(rng, transform, align_corners):
    warp = of_transform(rng, transform, align_corners)
    points = inside(rng, warp.output_size)
    assert_allclose(float64(warp.to_output(warp.to_input(points))), points, atol=0.01)


@pytest.mark.parametrize("axes", [2, 3])
def test_points_of_a_field_come_back(rng, axes):
    warp = of_field(rng, axes)
    points = inside(rng, warp.output_size)
    assert_allclose(float64(warp.to_output(warp.to_input(points))), points, atol=0.01)


@pytest.mark.parametrize("turn", [0.5 * np.pi, np.pi])
def test_the_search_starts_well_where_a_grid_turns_or_mirrors(rng, turn):
    theta = np.array([[turn, 0.5, 0.2, 0.0]], "float32")
    grid = ops.convert_to_numpy(transforms.Similarity().grid(theta, (30, 30)))
    grid = grid * np.array([-1.0, 1.0], "float32")
    warp = Warp.from_grid(grid, (60, 60))
    points = inside(rng, (30, 30), batch=1)
    assert_allclose(float64(warp.to_output(warp.to_input(points))), points, atol=0.01)


@pytest.mark.parametrize("axes", [2, 3])
def test_points_of_a_field_are_scipy_s(rng, axes):
    ndimage = pytest.importorskip("scipy.ndimage")
    warp = of_field(rng, axes)
    size = warp.input_size
    points = rng.uniform(0, np.array(size[::-1]) - 1, (2, 1000, axes)).astype("float32")
    positions = np.stack([float64(x) for x in warp.pixels()], axis=-1)

    def interpolated(points):
        return np.stack(
            [
                [ndimage.map_coordinates(one[..., k], p.T[::-1], order=1) for k in range(axes)]
                for one, p in zip(positions, np.asarray(points, "float64"))
            ]
        ).swapaxes(1, 2)

    assert_allclose(float64(warp.to_input(points)), interpolated(points), atol=1e-4)
    found = float64(warp.to_output(points))
    known = (
        np.isfinite(found).all(-1)
        & (found > 0).all(-1)
        & (found < np.array(size[::-1]) - 1).all(-1)
    )
    assert known.mean() > 0.5
    assert_allclose(
        interpolated(np.where(known[..., None], found, 0))[known], points[known], atol=0.01
    )


def test_matrices_are_opencv_s(rng):
    cv2 = pytest.importorskip("cv2")
    warp = of_transform(rng, transforms.Projective())
    points, matrix = inside(rng, OUTPUT), float64(warp.matrix)
    there = [
        cv2.perspectiveTransform(p[None].astype("float64"), m)[0] for p, m in zip(points, matrix)
    ]
    assert_allclose(float64(warp.to_input(points)), there, atol=1e-3)
    back = [
        cv2.perspectiveTransform(p[None].astype("float64"), np.linalg.inv(m))[0]
        for p, m in zip(points, matrix)
    ]
    assert_allclose(float64(warp.to_output(points)), back, atol=1e-3)


def test_points_may_be_normalised(rng):
    warp = of_transform(rng, transforms.Affine())
    points = rng.uniform(-1, 1, (2, 5, 2)).astype("float32")
    wanted = geometry.transform_points(warp.square(), points)
    assert_allclose(float64(warp.to_input(points, normalized=True)), float64(wanted), atol=1e-5)
    back = warp.to_output(wanted, normalized=True)
    assert_allclose(float64(back), points, atol=1e-4)


def test_an_output_pixel_shows_what_it_looks_at(rng):
    """The convention: `output(p) = input(to_input(p))`."""
    warp = of_transform(rng, transforms.ThinPlateSpline(), batch=1)
    image = rng.uniform(size=(1, *SIZE, 1)).astype("float32")
    pixel = np.array([[[7.0, 11.0]]], "float32")
    position = warp.to_input(pixel)[:, :, None]
    sample = stn_keras.pixel_sample(image, position)
    assert_allclose(float64(warp(image))[0, 11, 7], float64(sample)[0, 0, 0], atol=1e-5)


KINDS = {
    "affine": lambda rng: of_transform(rng, transforms.Affine()),
    "projective": lambda rng: of_transform(rng, transforms.Projective()),
    "spline": lambda rng: of_transform(rng, transforms.ThinPlateSpline()),
    "volumes": lambda rng: of_transform(rng, transforms.Affine(axes=3)),
    "field": of_field,
    "field of volumes": lambda rng: of_field(rng, axes=3),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_the_inverse_is_a_warp(rng, kind):
    warp = KINDS[kind](rng)
    inverse = warp.inverse()
    assert (inverse.input_size, inverse.output_size) == (warp.output_size, warp.input_size)
    points = inside(rng, warp.input_size, 100)
    there, wanted = float64(inverse.to_input(points)), float64(warp.to_output(points))
    known = np.isfinite(there) & np.isfinite(wanted)
    assert known.mean() > 0.5
    assert_allclose(there[known], wanted[known], atol=0.1)


@kinds
@pytest.mark.parametrize("other", ["affine", "field"])
def test_two_warps_are_one(rng, kind, other):
    first = KINDS[kind](rng)
    size, axes = first.output_size, len(first.output_size)
    if other == "field":
        second = Warp.from_displacement(smooth_field(rng, size, 0.5))
    else:
        second = transforms.Affine(axes=axes).warp(
            transforms.Affine(axes=axes).identity[None] * 0.9, size
        )
    points = rng.integers(3, np.array(size[::-1]) - 3, (2, 100, axes)).astype("float32")
    both = first @ second
    wanted = first.to_input(second.to_input(points))
    assert_allclose(float64(both.to_input(points)), float64(wanted), atol=1e-3)
    assert (both.matrix is None) == (first.matrix is None or second.matrix is None)


@pytest.mark.parametrize("middle", [OUTPUT, (1, 7)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_matrices_of_two_conventions_are_one_matrix(rng, align_corners, middle):
    noise = rng.uniform(-0.1, 0.1, (2, 2, 6))
    thetas = (transforms.Affine().identity + noise).astype("float32")
    sizes = (SIZE, middle), (middle, (30, 20))
    first, second = (
        transforms.Affine().warp(theta, *pair, aligned)
        for theta, pair, aligned in zip(thetas, sizes, (align_corners, not align_corners))
    )
    both = first @ second
    assert_allclose(float64(both.matrix), float64(first.matrix) @ float64(second.matrix), atol=1e-4)
    points = inside(rng, second.output_size, 10)
    wanted = first.to_input(second.to_input(points))
    assert_allclose(float64(both.to_input(points)), float64(wanted), atol=1e-4)
    symbolic = [
        transforms.Affine().warp(keras.Input((2, 3)), *pair, aligned)
        for pair, aligned in zip(sizes, (True, False))
    ]
    assert (symbolic[0] @ symbolic[1]).matrix.shape == (None, 3, 3)


def test_two_fields_are_composed_as_displacements(rng):
    first, second = (smooth_field(rng, SIZE) for _ in range(2))
    both = Warp.from_displacement(first) @ Warp.from_displacement(second)
    wanted = geometry.compose_displacements(first, second)
    assert_array_equal(float64(both.displacement()), float64(wanted))


@kinds
def test_displacement_and_jacobian(rng, kind):
    warp = KINDS[kind](rng)
    axes = len(warp.output_size)
    field = Warp.from_displacement(warp.displacement(), warp.input_size)
    assert_allclose(float64(field.pixels()[0]), float64(warp.pixels()[0]), atol=1e-3)
    jacobian = float64(warp.jacobian())
    assert jacobian.shape == (2, *warp.output_size, axes, axes)
    if kind == "affine":
        wanted = np.broadcast_to(float64(warp.matrix)[:, None, None, :2, :2], jacobian.shape)
        assert_allclose(jacobian, wanted, atol=1e-3)


@pytest.mark.parametrize("method", ["to_input", "to_output"])
@pytest.mark.parametrize("kind", ["affine", "field"])
def test_gradients_are_finite_differences(rng, method, kind):
    """Of the points and of what the warp is made from; in `to_output` by the implicit function."""
    points = rng.uniform(5.2, 5.8, (1, 3, 2)) + rng.integers(0, 10, (1, 3, 2))
    if kind == "affine":
        tensor = transforms.Affine().identity[None] + rng.uniform(-0.1, 0.1, (1, 6))
    else:
        tensor = smooth_field(rng, SIZE, batch=1, dtype="float64")

    def moved(tensor, points):
        if kind == "affine":
            return getattr(transforms.Affine().warp(tensor, SIZE), method)(points)
        return getattr(Warp.from_displacement(tensor), method)(points)

    upstream = rng.normal(size=points.shape)
    directions = [rng.normal(size=tensor.shape), rng.normal(size=points.shape)]
    found = gradients(moved, [tensor, points], upstream)
    for k, (gradient, direction) in enumerate(zip(found, directions)):
        ends = []
        for step in (1e-6, -1e-6):
            arguments = [tensor, points]
            arguments[k] = arguments[k] + step * direction
            ends.append(np.sum(float64(moved(*map(ops.convert_to_tensor, arguments))) * upstream))
        slope = (ends[0] - ends[1]) / 2e-6
        assert_allclose(np.sum(float64(gradient) * direction), slope, rtol=1e-4, atol=1e-4)


def test_points_without_an_image_are_nan(rng):
    translation = np.full((1, 8, 8, 2), [3.0, 0.0], "float32")
    found = float64(Warp.from_displacement(translation).to_output([[[4.0, 2.0], [0.0, 2.0]]]))
    assert_allclose(found, [[[1, 2], [np.nan, np.nan]]], atol=1e-5)
    fold = np.zeros((1, 9, 9, 2), "float32")
    fold[:, :, 3:6, 0] = [4, 0, -4]  # x looks at 0 1 2 7 4 1 6 7 8
    found = float64(
        Warp.from_displacement(fold).to_output([[[8.0, 4.0], [2.0, 4.0], [np.nan, 1.0]]])
    )
    assert_allclose(found[0, 0], [8, 4], atol=1e-4)
    assert np.isnan(found[0, 2]).all()
    singular = transforms.Affine().warp([[1.0, 0, 0, 1, 0, 0]], (8, 8))
    assert np.isnan(float64(singular.to_output([[[4.0, 2.0]]]))).all()
    assert np.isnan(float64(singular.inverse().grid())).all()


def test_a_noisy_field_ends(rng):
    """The steps are bounded, and what is found is right or NaN."""
    warp = Warp.from_displacement(rng.normal(0, 4, (1, 16, 16, 2)).astype("float32"))
    points = inside(rng, (16, 16), batch=1)
    found = float64(warp.to_output(points))
    known = np.isfinite(found).all(-1)
    assert 0 < known.mean() < 1
    back = float64(warp.to_input(np.where(known[..., None], found, 0)))
    assert_allclose(back[known], points[known], atol=0.2)


@kinds
def test_there_may_be_no_points_and_no_boxes(rng, kind):
    warp = KINDS[kind](rng)
    points = np.empty((2, 0, len(warp.output_size)), "float32")
    assert warp.to_input(points).shape == warp.to_output(points).shape == points.shape
    if len(warp.output_size) == 2:
        assert warp.boxes(np.empty((2, 0, 4), "float32"), clip=True).shape == (2, 0, 4)


def test_gradients_of_points_without_an_image_are_zeros(rng):
    field = ops.convert_to_tensor(np.full((1, 4, 4, 2), [9.0, 0.0], "float32"))

    def total(field):
        found = Warp.from_displacement(field).to_output([[[1.0, 1.0]]])
        return ops.sum(ops.where(ops.isfinite(found), found, 0))

    assert_array_equal(float64(derivative(total)(field)[0]), 0)


def test_labels_stay_integers_and_other_sizes_follow(rng):
    warp = of_transform(rng, transforms.Affine(), batch=1)
    labels = rng.integers(0, 200, (1, *SIZE, 1), dtype="uint8")
    warped = ops.convert_to_numpy(warp(labels, interpolation="nearest"))
    assert warped.dtype == labels.dtype and warped.shape == (1, *OUTPUT, 1)
    y, x = np.meshgrid(*(2 * np.arange(n) + 1 - n for n in SIZE), indexing="ij")
    ramp = (x / SIZE[1] + y / SIZE[0]).astype("float32")[None, ..., None]
    half = ramp.reshape(1, SIZE[0] // 2, 2, SIZE[1] // 2, 2, 1).mean((2, 4))
    for kind in KINDS:
        warp = KINDS[kind](rng)
        if len(warp.output_size) == 2:
            full, small = (float64(warp(image, fill_mode="nearest")) for image in (ramp, half))
            middle = (slice(None), *(slice(n // 3, n // 2) for n in warp.output_size))
            assert_allclose(small[middle], full[middle], atol=1e-4)


def test_layers_give_the_warp_of_their_calls(rng):
    images = rng.uniform(size=(2, *SIZE, 3)).astype("float32")
    bias = stn_keras.localization.Identity("similarity")
    localize = keras.layers.Dense(4, kernel_initializer="random_normal", bias_initializer=bias)
    network = keras.Sequential([keras.layers.GlobalAveragePooling2D(), localize])
    layer = SpatialTransformer(network, transform="similarity", output_size=OUTPUT, iterations=2)
    assert_allclose(float64(layer.warp(images)(images)), float64(layer(images)), atol=1e-4)
    theta = transforms.Affine().identity[None] * 0.9
    layer = SpatialTransformer(data_format="channels_first", antialias=2)
    assert layer.warp([images.transpose(0, 3, 1, 2), theta]).output_size == SIZE
    field = smooth_field(rng, OUTPUT, 0.1)
    layer = DenseWarp(units="normalized", fill_mode="nearest")
    warped = layer.warp([images, field])(images, fill_mode="nearest")
    assert_allclose(float64(warped), float64(layer([images, field])), atol=1e-4)


def test_it_works_in_traced_code(rng):
    field, points = smooth_field(rng, SIZE), inside(rng, SIZE, 50)

    def moved(field, points):
        return Warp.from_displacement(field).to_output(points)

    arguments = [ops.convert_to_tensor(x) for x in (field, points)]
    assert_allclose(float64(compiled(moved)(*arguments)), float64(moved(*arguments)), atol=1e-3)

    def loss(field, points):
        found = moved(field, points)
        return ops.sum(ops.where(ops.isfinite(found), found, 0))

    wanted = derivative(loss)(*arguments)
    found = compiled(derivative(loss))(*arguments)
    for one, other in zip(found, wanted):
        assert_allclose(float64(one), float64(other), atol=1e-2)


def test_a_model_may_call_a_layer_and_ask_for_its_warp(rng, tmp_path):
    """With several looks of its network, which stays one in the file."""
    images = keras.Input((*SIZE, 1))
    bias = stn_keras.localization.Identity("attention")
    localize = keras.layers.Dense(3, kernel_initializer="random_normal", bias_initializer=bias)
    network = keras.Sequential([keras.layers.GlobalAveragePooling2D(), localize])
    settings = {"transform": "attention", "iterations": 2, "output_size": OUTPUT}
    layer = SpatialTransformer(network, **settings)
    model = keras.Model(images, [layer(images), layer.warp(images)(images)])
    given = rng.uniform(size=(2, *SIZE, 1)).astype("float32")
    model.save(tmp_path / "model.keras")
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        warped, other = one(given)
        assert_allclose(float64(other), float64(warped), atol=1e-4)
        assert one.count_params() == 6


@pytest.mark.parametrize("known", [True, False])
def test_a_functional_model_is_saved_with_its_warps(rng, tmp_path, known):
    size = SIZE if known else (None, None)
    images, points = keras.Input((*size, 1)), keras.Input((None, 2))
    boxes, field = keras.Input((None, 4)), keras.Input((*OUTPUT, 2))
    network = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), stn_keras.localization.head()]
    )
    warp = SpatialTransformer(network, output_size=OUTPUT).warp(images)
    dense = DenseWarp().warp([warp(images), field])
    outputs = [
        warp(images, interpolation="nearest"),
        warp.to_output(points),
        (warp @ dense).to_input(points),
        warp.inverse().boxes(boxes, "xywh"),
        warp.matrix,
        dense.jacobian(),
    ]
    model = keras.Model([images, points, boxes, field], outputs)
    inputs = [
        rng.uniform(size=(2, *SIZE, 1)).astype("float32"),
        inside(rng, SIZE, 5),
        np.full((2, 1, 4), 3.0, "float32"),
        smooth_field(rng, OUTPUT),
    ]
    wanted = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for spec, one, other in zip(model.outputs, wanted, loaded(inputs), strict=True):
        assert len(spec.shape) == len(one.shape)
        assert_allclose(float64(other), float64(one), atol=1e-5)
    assert_allclose(
        float64(wanted[1]),
        float64(
            SpatialTransformer(output_size=OUTPUT)
            .warp([inputs[0], transforms.Affine().identity[None]])
            .to_output(inputs[1])
        ),
        atol=1e-4,
    )


def test_bad_input_is_named(rng):
    warp, affine = of_field(rng), transforms.Affine().warp(np.zeros((2, 6)), OUTPUT, SIZE)
    for call, words in {
        lambda: warp.to_input(np.zeros((3, 2))): "`points` must have shape",
        lambda: warp.to_output(np.zeros((2, 3, 3))): "`points` must have shape",
        lambda: warp.to_input(np.zeros((3, 1, 2))): "`points` must have the batch size",
        lambda: warp.to_input([[["a", "b"]]]): "`points` must be",
        lambda: warp.to_input(np.zeros((2, 1, 2)), "pixels"): "`normalized` must be",
        lambda: warp.boxes(np.zeros((2, 3, 5))): "`boxes` must have shape",
        lambda: warp.boxes(np.zeros((2, 3, 4)), "coco"): "`format` must be one of",
        lambda: of_field(rng, axes=3).boxes(np.zeros((2, 3, 4))): "`boxes` must have shape",
        lambda: warp(np.zeros((2, 3, 4))): "`pictures` must have",
        lambda: warp(np.zeros((3, 4, 4, 1))): "`warp` must have the same batch size",
        lambda: warp @ of_field(rng, axes=3): "input size of `second`",
        lambda: warp @ warp.from_displacement(np.zeros((1, 3, 3, 2))): "input size of `second`",
        lambda: warp @ of_field(rng, batch=3): "same batch size.*2 and 3 images",
        lambda: affine @ of_transform(rng, transforms.Rigid(), batch=3): "same batch size",
        lambda: affine @ np.eye(3): "takes two warps.*ndarray",
        lambda: warp @ transforms.Box().warp(np.zeros((2, 3, 4)), SIZE): "two warps.*Glimpses",
        lambda: Warp.from_grid(np.zeros((1, 3, 3)), (3, 3)): "`grid` must have shape",
        lambda: Warp.from_grid(np.zeros((1, 3, 3, 2)), (3, 3, 3)): "`input_size` must be",
        lambda: Warp.from_displacement(np.zeros((1, 3, 3, 3))): "`displacement` must have shape",
        lambda: transforms.Affine().warp(np.zeros((1, 6)), (3,)): "`input_size` must be",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


def test_warps_of_other_inputs_than_a_call_s_are_refused():
    images, theta = np.zeros((1, 8, 8, 1)), np.zeros((1, 6))
    for layer, wanted in (SpatialTransformer(), "theta"), (DenseWarp(), "displacement"):
        for inputs in images, keras.Input((8, 8, 1)), [images], [images, theta, theta], None:
            with pytest.raises(ValueError, match=rf"called on \[images, {wanted}\].*Received: "):
                layer.warp(inputs)


def test_a_functional_model_refuses_options_when_it_is_built():
    images, points = keras.Input((8, 8, 3)), keras.Input((4, 2))
    warp = SpatialTransformer().warp([images, keras.Input((6,))])
    for call, words in {
        lambda: warp(images, interpolation="cubic"): "`interpolation` must be",
        lambda: warp(images, fill_value=[1, 2]): "`fill_value` must be",
        lambda: warp(points): "`pictures` must have rank 4",
        lambda: warp.to_input(points, "pixels"): "`normalized` must be",
        lambda: warp.boxes(keras.Input((1, 4)), clip="yes"): "`clip` must be",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_symbolic_warp_composes_with_another_one_only(swapped):
    images, theta = keras.Input((8, 8, 3)), keras.Input((6,))
    eager = transforms.Affine().warp(transforms.Affine().identity[None], (8, 8))
    pair = [SpatialTransformer().warp([images, theta]), eager]
    first, second = reversed(pair) if swapped else pair
    with pytest.raises(ValueError, match="two warps of symbolic tensors"):
        first @ second
