"""Ways of calling the samplers: symbolic tensors, batches of one or none, integers, pixels."""

import keras
import numpy as np
import pytest
import reference
from autodiff import float64, gradients
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from stn_keras import (
    DenseWarp,
    Orientation,
    SpatialTransformer,
    VelocityIntegration,
    affine_grid,
    grid_sample,
    localization,
    pixel_sample,
    transforms,
)
from stn_keras.checks.images import FILL_MODES

BACKEND = keras.backend.backend()
NAMES = list(transforms.TRANSFORMS)
FAST_NAMES = ["affine", "projective", "thin_plate_spline"]


def thetas(rng, name, batch):
    identity = transforms.get(name).identity
    return (identity + rng.normal(0, 0.1, (batch, len(identity)))).astype("float32")


def test_functions_in_a_functional_model(rng, tmp_path, quick):
    image, theta = keras.Input((6, 5, 3)), keras.Input((6,))
    flow = keras.layers.Conv2D(2, 1)(image)
    own = keras.layers.Dense(8)(theta)
    outputs = [
        grid_sample(image, affine_grid(theta, (4, 3)), interpolation="bicubic", fill_mode="wrap"),
        pixel_sample(image, flow, fill_mode="nearest"),
        grid_sample(image, transforms.Projective().grid(own, (3, 4)), fill_value=(1, 2, 3)),
    ]
    model = keras.Model([image, theta], outputs)
    inputs = rng.uniform(size=(2, 6, 5, 3)).astype("float32"), thetas(rng, "affine", 2)
    grid = affine_grid(inputs[1], (4, 3))
    wanted = grid_sample(inputs[0], grid, interpolation="bicubic", fill_mode="wrap")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = model(list(inputs))
    assert_allclose(float64(found[0]), float64(wanted), 1e-5, 1e-6)
    for output, again, symbolic in zip(found, loaded(list(inputs)), outputs):
        assert_array_equal(float64(output), float64(again))
        assert tuple(output.shape)[1:] == symbolic.shape[1:]
    assert len(keras.models.clone_model(model)(list(inputs))) == 3


@pytest.mark.parametrize("name", NAMES)
def test_transforms_of_symbolic_parameters(rng, name):
    transform = transforms.get(name)
    theta = keras.Input((transform.num_parameters,))
    outputs = [transform.grid(theta, (3, 4))]
    if isinstance(transform, transforms.MatrixTransform):
        outputs.append(transform.matrix(theta))
    numbers = thetas(rng, name, 2)
    found = keras.tree.flatten(keras.Model(theta, outputs)(numbers))
    assert_allclose(float64(found[0]), float64(transform.grid(numbers, (3, 4))), 1e-5, 1e-6)
    assert [tuple(x.shape)[1:] for x in found] == [x.shape[1:] for x in outputs]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grid_sample(keras.Input((4, 5, 1)), keras.Input((4,))), "`grid` must have shape"),
        (lambda: grid_sample(keras.Input((4,)), keras.Input((4, 5, 2))), "`images` must have rank"),
        (lambda: pixel_sample(keras.Input((4, 5, 1)), keras.Input((4, 5, 3))), "`coordinates`"),
        (lambda: affine_grid(keras.Input((5,)), (3, 4)), "`theta` must have shape"),
    ],
)
def test_symbolic_tensors_of_a_wrong_shape_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def traced(function):
    """`function(number)` of a number that is not known yet, or has a gradient."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)(tf.constant(1.0))
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)(1.0)
    import torch

    return function(torch.tensor(1.0, requires_grad=True))


@pytest.mark.parametrize(
    "call",
    [
        lambda number: grid_sample(np.ones((1, 4, 5, 1)), np.ones((1, 2, 2, 2)), fill_value=number),
        lambda number: SpatialTransformer(fill_value=[number]),
        lambda number: localization.head(start=[number] * 6),
    ],
)
def test_numbers_that_are_traced_are_refused(call):
    with pytest.raises(ValueError, match="`(fill_value|start)` must be"):
        traced(call)


@pytest.mark.parametrize(
    "name",
    [name if name in FAST_NAMES else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_one_image_or_one_theta_serves_all(rng, quick, name):
    layer = SpatialTransformer(transform=name)

    def run(images, theta):
        found = layer([images, theta]), *gradients(lambda *x: layer(x), (images, theta), 1.0)
        return map(float64, found)

    images, theta = rng.uniform(size=(3, 4, 5, 2)).astype("float32"), thetas(rng, name, 3)
    one, all_images = images[:1], np.repeat(images[:1], 3, 0)
    for found, wanted, summed in zip(run(one, theta), run(all_images, theta), (0, 1, 0)):
        wanted = wanted.sum(0, keepdims=True) if summed else wanted
        assert_allclose(found, wanted, 1e-4, 1e-4)
    alike = np.repeat(theta[:1], 3, 0)
    for found, wanted, summed in zip(run(images, theta[:1]), run(images, alike), (0, 0, 1)):
        wanted = wanted.sum(0, keepdims=True) if summed else wanted
        assert_allclose(found, wanted, 1e-4, 1e-4)


@pytest.mark.parametrize("shapes", [((1, 4, 5, 2), (6,)), ((None, 4, 5, 2), (6,))])
def test_one_theta_in_a_functional_model(rng, shapes):
    images = keras.Input(batch_shape=shapes[0])
    theta = keras.Input((6,))
    model = keras.Model([images, theta], SpatialTransformer()([images, theta]))
    batch = 1 if shapes[0][0] else 3
    pictures = rng.uniform(size=(batch, 4, 5, 2)).astype("float32")
    numbers = thetas(rng, "affine", 3 if batch == 1 else 1)
    assert model([pictures, numbers]).shape[0] == 3


@pytest.mark.parametrize("size", [(4, 5), (2, 4, 5)])
def test_other_batch_sizes_are_named(size):
    images, grid = np.zeros((4, *size, 1)), np.zeros((3, *size, len(size)))
    with pytest.raises(ValueError, match=r"images.shape=\(4, .*grid.shape=\(3, "):
        grid_sample(images, grid)


@pytest.mark.parametrize(
    ("name", "options"),
    list(
        zip(
            NAMES,
            [
                {},
                {"fill_mode": "reflect", "interpolation": "nearest"},
                {"fill_value": 1},
                {"interpolation": "bicubic"},
                {"antialias": 2, "output_size": (2, 3)},
                {"fill_mode": "wrap"},
                {"align_corners": True},
            ],
        )
    ),
)
def test_no_images_have_no_samples_and_no_gradient(uncompiled, name, options):
    layer = SpatialTransformer(transform=name, **options)
    tensors = np.zeros((0, 4, 5, 1), "float32"), thetas(np.random.default_rng(0), name, 0)
    assert tuple(layer(tensors).shape) == (0, *(layer.output_size or (4, 5)), 1)
    found = gradients(lambda *x: layer(x), tensors, 1.0)
    assert [tuple(x.shape) for x in found] == [x.shape for x in tensors]


def test_no_images_where_compiled():
    """JAX compiles what `uncompiled` runs step by step."""
    tensors = np.zeros((0, 4, 5, 1), "float32"), np.zeros((0, 6), "float32")
    for options in ({}, {"fill_mode": "nearest"}):
        found = gradients(lambda *x: SpatialTransformer(**options)(x), tensors, 1.0)  # noqa: B023
        assert [tuple(x.shape) for x in found] == [x.shape for x in tensors]
    assert affine_grid(tensors[1], (2, 3)).shape[0] == 0


@pytest.mark.parametrize("shape", [(1, 0, 5, 1), (1, 4, 0, 1), (1, 0, 4, 5, 1)])
def test_sides_of_no_pixels_are_refused(shape):
    axes = len(shape) - 2
    with pytest.raises(ValueError, match="`images` must have sides of at least one pixel"):
        grid_sample(np.zeros(shape), np.zeros((1, *(2,) * axes, axes)))
    if axes == 2:
        with pytest.raises(ValueError, match="`images` must have sides"):
            SpatialTransformer()([np.zeros(shape), np.zeros((1, 6))])


@pytest.mark.parametrize("size", [(4, 5), (2, 4, 5)])
def test_no_channels_have_no_gradient(size):
    tensors = np.zeros((2, *size, 0)), np.zeros((2, *size, len(size)))
    assert tuple(grid_sample(*tensors).shape) == (2, *size, 0)
    for found, tensor in zip(gradients(grid_sample, tensors, 1.0), tensors):
        assert_array_equal(float64(found), np.zeros(tensor.shape))


def test_nearest_has_a_gradient_of_zeros_in_the_grid_alone(rng):
    images, grid = rng.uniform(size=(1, 4, 5, 1)), rng.uniform(-1, 1, (1, 2, 3, 2))
    for mode in FILL_MODES:
        options = {"interpolation": "nearest", "fill_mode": mode}
        (found,) = gradients(lambda g: grid_sample(images, g, **options), (grid,), 1.0)  # noqa: B023
        assert_array_equal(float64(found), 0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("interpolation", "size"), [("nearest", (3, 4)), ("bilinear", (2, 3, 4)), ("bicubic", (3, 4))]
)
def test_wrap_repeats_the_image(rng, quick, interpolation, size, align_corners):
    images = rng.uniform(size=(1, *size, 2))
    grid = rng.uniform(-4, 4, (1, *(3,) * len(size), len(size)))
    options = {
        "interpolation": interpolation,
        "fill_mode": "wrap",
        "align_corners": align_corners,
    }
    found = grid_sample(images, grid, **options)
    assert_allclose(float64(found), reference.grid_sample(images, grid, **options), 1e-10, 1e-10)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_integers_are_sampled_as_floats_and_rounded(rng, quick, dtype):
    limits = np.iinfo(dtype)
    images = rng.integers(limits.min, limits.max, (1, 4, 5, 2), dtype, endpoint=True)
    grid = rng.uniform(-1.2, 1.2, (1, 3, 4, 2))
    for interpolation in ("bilinear", "bicubic"):
        found = grid_sample(images, grid, interpolation=interpolation, fill_mode="nearest")
        wanted = reference.grid_sample(images, grid, "nearest", interpolation=interpolation)
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        wanted = np.clip(np.round(wanted), limits.min, limits.max)
        assert np.max(np.abs(float64(found) - wanted)) <= (0 if dtype != "int32" else 1)


@pytest.mark.parametrize("fill", [-7, 2**24 + 1, 576073699, 3e9])
def test_integers_outside_are_the_fill_value_exactly(fill):
    labels, far = np.ones((1, 4, 5, 1), "int32"), np.full((1, 2, 3, 2), 9.0, "float32")
    wanted = min(fill, 2**31 - 1)
    options = {"interpolation": "nearest", "fill_value": fill}
    for found in (
        grid_sample(labels, far, **options),
        SpatialTransformer(transform="translation", **options)([labels, far[0, 0, :1]]),
    ):
        assert_array_equal(ops.convert_to_numpy(found), np.full(found.shape, wanted, "int32"))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32"])
def test_samples_above_the_greatest_integer_are_clipped_to_it(dtype):
    if (BACKEND, dtype) == ("torch", "uint32"):
        pytest.skip("Keras makes int64 of it")
    greatest = np.full((1, 4, 5, 1), np.iinfo(dtype).max, dtype)
    found = pixel_sample(greatest, [[[[1.3, 2.6]]]], interpolation="bicubic")  # overshoots
    assert_allclose(float64(found), np.iinfo(dtype).max, rtol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("size", [(3, 4), (2, 3, 4)])
def test_points_in_pixels(rng, quick, size, data_format):
    images = rng.uniform(size=(1, *size, 2))
    points = rng.uniform(-2, 5, (1, *(3,) * len(size), len(size)))
    grid = (2 * points + 1) / np.array(size[::-1]) - 1
    wanted = reference.grid_sample(images, grid, "nearest")
    if data_format == "channels_first":
        images, wanted = (np.moveaxis(x, -1, 1) for x in (images, wanted))
    found = pixel_sample(images, points, fill_mode="nearest", data_format=data_format)
    assert_allclose(float64(found), wanted, 1e-10, 1e-10)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
def test_subgradients_on_kinks_are_pytorch_s(rng, quick, fill_mode, align_corners):
    torch = pytest.importorskip("torch")
    size = (4, 8)
    images, upstream = rng.uniform(size=(1, *size, 1)), rng.normal(size=(1, 3, 7, 1))
    x = rng.choice([0, 1, 3, 6, 7, 2.25, 4.75], (1, 3, 7))  # whole pixels and both edges
    y = rng.choice([0, 1, 2, 3, 1.25], (1, 3, 7))
    points = np.stack([x, y], -1)
    length = np.array(size[::-1])
    if align_corners:  # with steps that are exact in binary
        images, length = rng.uniform(size=(1, 5, 9, 1)), np.array([9, 5])
        grid = 2 * points / (length - 1) - 1
    else:
        grid = (2 * points + 1) / length - 1
    leaf = torch.tensor(grid, requires_grad=True)
    padding = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}[fill_mode]
    moved = torch.tensor(images).permute(0, 3, 1, 2)
    samples = torch.nn.functional.grid_sample(
        moved, leaf, padding_mode=padding, align_corners=align_corners
    )
    (samples * torch.tensor(upstream).permute(0, 3, 1, 2)).sum().backward()
    options = {"fill_mode": fill_mode, "align_corners": align_corners}
    (found,) = gradients(lambda g: grid_sample(images, g, **options), (grid,), upstream)
    assert_allclose(float64(found), leaf.grad.numpy(), 1e-8, 1e-8)


@pytest.mark.parametrize("size", [(0, 5), (4, 0)])
def test_a_layer_of_open_sizes_refuses_images_without_pixels(quick, size):
    layer = SpatialTransformer()
    layer.build([(None, None, None, 1), (None, 6)])
    with pytest.raises(ValueError, match="`images` must have sides of at least one pixel"):
        layer([np.zeros((1, *size, 1), "float32"), np.zeros((1, 6), "float32")])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's tensors have no rank")
def test_an_unknown_rank_is_named():
    import tensorflow as tf

    unknown = [tf.TensorSpec(None)]
    images, grid = np.zeros((1, 4, 5, 1), "float32"), np.zeros((1, 4, 5, 2), "float32")
    theta, layer = np.zeros((1, 6), "float32"), SpatialTransformer()
    layer([images, theta])  # an unbuilt layer of any kind asks for shapes first
    for name, function in (
        ("images", lambda x: grid_sample(x, grid)),
        ("images", lambda x: layer([x, theta])),
        ("grid", lambda x: grid_sample(images, x)),
        ("coordinates", lambda x: pixel_sample(images, x)),
        ("theta", lambda x: affine_grid(x, (4, 5))),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must have a known rank.*set_shape"):
            tf.function(function, unknown, autograph=False).get_concrete_function()


@pytest.mark.skipif(BACKEND != "jax", reason="a setting of JAX")
def test_ranks_are_not_promoted(rng):
    import jax

    images = rng.uniform(size=(2, 4, 5, 3)).astype("float32")
    with jax.numpy_rank_promotion("raise"):
        for name in NAMES:
            options = {"fill_mode": "wrap"} if name == "affine" else {"fill_value": (1, 2, 3)}
            layer = SpatialTransformer(transform=name, **options)
            tensors = images, thetas(rng, name, 2)
            for found in gradients(lambda *x: layer(x), tensors, 1.0):  # noqa: B023
                assert np.all(np.isfinite(float64(found)))


@pytest.mark.parametrize("name", ["affine", "projective"])
def test_forward_mode(rng, name):
    images, theta = ops.convert_to_tensor(rng.uniform(size=(2, 4, 5, 2))), thetas(rng, name, 2)
    theta, step = theta.astype("float64") + 0.03, rng.normal(size=theta.shape)
    layer = SpatialTransformer(transform=name, dtype="float64")

    def warp(theta):
        return layer([images, theta])

    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(theta)
        with tf.autodiff.ForwardAccumulator(tensor, tf.constant(step)) as accumulator:
            output = warp(tensor)
        tangent = accumulator.jvp(output)
    elif BACKEND == "torch":
        import torch

        _, tangent = torch.func.jvp(warp, (torch.tensor(theta),), (torch.tensor(step),))
    else:
        pytest.skip("documented: JAX differentiates it in reverse mode only")
    wanted = (float64(warp(theta + 1e-6 * step)) - float64(warp(theta - 1e-6 * step))) / 2e-6
    assert_allclose(float64(tangent), wanted, 1e-4, 1e-4)


def with_values(network, images, rng):
    """A network whose last layer is not at its start."""
    network(images)
    for weight in network.trainable_variables:
        weight.assign(rng.normal(0, 0.1, weight.shape))
    return network


@pytest.mark.skipif(BACKEND != "torch", reason="torch.autocast")
@pytest.mark.parametrize("name", [*NAMES, "volume", "displacement", "velocity", "head", "angle"])
def test_coordinates_stay_float32_under_autocast(rng, name):
    import torch

    images, field = rng.uniform(size=(2, 2, 20, 21, 2)).astype("float32")
    volumes, turns = np.tile(images[..., None], 2), rng.normal(0, 0.1, (2, 6)).astype("float32")
    features = rng.uniform(size=(2, 16)).astype("float32")
    head = with_values(localization.head(), features, rng)
    angle = with_values(Orientation(keras.layers.Flatten(), 1.5), images, rng)
    calls = {
        "volume": lambda: SpatialTransformer(transform=transforms.Rigid(axes=3))([volumes, turns]),
        "displacement": lambda: DenseWarp()([images, field]),
        "velocity": lambda: VelocityIntegration(3)(field),
        "head": lambda: head(features),
        "angle": lambda: angle(np.zeros_like(images)),  # of the biases alone
    }

    def warp():
        return SpatialTransformer(transform=name)(
            [images, thetas(np.random.default_rng(0), name, 2)]
        )

    call = calls.get(name, warp)
    wanted = call()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = call()
    assert found.dtype == torch.float32
    assert_array_equal(float64(found), float64(wanted))


@pytest.mark.skipif(BACKEND != "torch", reason="torch.func")
@pytest.mark.parametrize("options", [{}, {"fill_mode": "reflect"}, {"interpolation": "bicubic"}])
def test_torch_func(rng, options):
    import torch

    images = torch.tensor(rng.uniform(size=(3, 4, 5, 2)))
    theta = torch.tensor(thetas(rng, "affine", 3).astype("float64"))

    def loss(theta, image):
        grid = affine_grid(theta[None], (4, 5))
        return (grid_sample(image[None], grid, **options) ** 2).sum()

    found = torch.func.vmap(torch.func.grad(loss))(theta, images)
    leaf = theta.clone().requires_grad_()
    sum(loss(*pair) for pair in zip(leaf, images)).backward()
    assert_allclose(found.numpy(), leaf.grad.numpy(), 1e-8, 1e-8)
    jacobian = torch.func.jacrev(lambda t: loss(t, images[0]))(theta[0])
    assert_allclose(jacobian.numpy(), leaf.grad[0].numpy(), 1e-8, 1e-8)
    hessian = torch.func.hessian(lambda t: loss(t, images[0]))(theta[0])
    assert_allclose(hessian.numpy(), hessian.numpy().T, 1e-6, 1e-6)
