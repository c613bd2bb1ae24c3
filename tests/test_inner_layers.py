"""First and second derivatives through layers inside functions of the backend."""

import keras
import numpy as np
import pytest
from autodiff import derivative, float64
from keras import layers, ops
from numpy.testing import assert_allclose

from stn_keras import DenseWarp, SpatialTransformer, VelocityIntegration, localization


def around():
    """Functions of the backend, by name, that wrap a function of a number."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return {
            "function": tf.function,
            "compiled": lambda f: tf.function(f, jit_compile=True),
            "recomputed": tf.recompute_grad,
            "cond": lambda f: tf.function(lambda x: tf.cond(x < 9.0, lambda: f(x), lambda: x)),
            "mapped": lambda f: tf.function(lambda x: tf.map_fn(f, x[None])[0]),
        }
    if keras.backend.backend() == "jax":
        import jax

        return {
            "function": jax.jit,
            "recomputed": jax.checkpoint,
            "cond": lambda f: lambda x: jax.lax.cond(x < 9.0, f, lambda x: x, x),
            "mapped": lambda f: lambda x: jax.vmap(f)(x[None])[0],
        }
    from torch.utils.checkpoint import checkpoint

    return {"recomputed": lambda f: lambda x: checkpoint(f, x, use_reentrant=False)}


AROUND = around()
FIELD = np.random.default_rng(0).uniform(-2, 2, (1, 16, 17, 2)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(1, 16, 17, 2)).astype("float32")


def with_a_network():
    theta = localization.head("similarity", start=(0.2, 0.9, 0.1, -0.1))
    layer = SpatialTransformer(keras.Sequential([layers.Flatten(), theta]), transform="similarity")
    layer.build(IMAGES.shape)
    theta.kernel.assign(np.random.default_rng(2).normal(0, 0.01, theta.kernel.shape))
    return layer


LAYERS = {
    "SpatialTransformer": with_a_network,
    "SpatialTransformer on theta": lambda: (
        lambda x: SpatialTransformer(transform="attention")([x, 0.4 + x[:, 0, :3, 0] / 9])
    ),
    "DenseWarp": lambda: lambda x: DenseWarp()([x, x + ops.array(FIELD)]),
    "VelocityIntegration": lambda: lambda x: VelocityIntegration(2)(x + ops.array(FIELD)),
}


def total(layer):
    """A scalar of a layer's output, as a function of the contrast of its images."""
    return lambda scale: ops.sum(layer(ops.tanh(scale * ops.convert_to_tensor(IMAGES))) ** 2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wrapped", AROUND)
def test_a_gradient_is_that_of_the_plain_layer(name, wrapped):
    function, scale = total(LAYERS[name]()), ops.convert_to_tensor(0.7, "float32")
    wanted = float64(derivative(function)(scale)[0])
    assert abs(wanted) > 1
    found = float64(derivative(AROUND[wrapped](function))(scale)[0])
    assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SpatialTransformer", "DenseWarp"])
def test_a_second_derivative_is_that_of_the_plain_layer(name):
    wrap, scale = next(iter(AROUND.values())), ops.convert_to_tensor(0.7, "float32")

    def curvature(function):
        return derivative(lambda x: derivative(function)(x)[0])

    function = total(LAYERS[name]())
    wanted = float64(curvature(function)(scale)[0])
    assert abs(wanted) > 1
    if keras.backend.backend() == "torch":
        found = curvature(wrap(function))(scale)[0]
    else:
        found = wrap(lambda x: curvature(function)(x)[0])(scale)
    assert_allclose(float64(found), wanted, rtol=1e-3)


@pytest.mark.slow
def test_a_second_derivative_through_a_function_between_both_tapes():
    """Both tapes are outside, so the backend differentiates its own gradient function."""
    if keras.backend.backend() == "torch":
        pytest.skip("has no such functions")
    wrap, scale = next(iter(AROUND.values())), ops.convert_to_tensor(0.7, "float32")
    function = total(LAYERS["SpatialTransformer"]())

    def curvature(function):
        return float64(derivative(lambda x: derivative(function)(x)[0])(scale)[0])

    assert_allclose(curvature(wrap(function)), curvature(function), rtol=1e-4)
