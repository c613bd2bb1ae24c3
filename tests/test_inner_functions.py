"""Gradients through functions, loops and maps of TensorFlow that contain a warp."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from stn_keras import grid_sample

if keras.backend.backend() != "tensorflow":
    pytest.skip("functions of TensorFlow", allow_module_level=True)
import tensorflow as tf

GRID = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 17, 18, 2)).astype("float32")


def warp(images):
    return grid_sample(images, GRID)


def in_a_loop(images):
    return tf.while_loop(lambda k, x: k < 1, lambda k, x: (k + 1, warp(x)), (0, images))[1]


def mapped(images):
    return tf.map_fn(
        lambda pair: grid_sample(pair[0][None], pair[1][None])[0],
        (images, GRID),
        fn_output_signature=tf.float32,
    )


def vectorized(images):
    return tf.vectorized_map(
        lambda pair: grid_sample(pair[0][None], pair[1][None])[0], (images, tf.constant(GRID))
    )


AROUND = {
    "function": tf.function(warp),
    "compiled": tf.function(warp, jit_compile=True),
    "recomputed": tf.recompute_grad(warp),
    "loop": tf.function(in_a_loop),
    "cond": tf.function(lambda x: tf.cond(tf.reduce_sum(x) < 1e9, lambda: warp(x), lambda: x)),
    "map": tf.function(mapped),
    "vectorized": tf.function(vectorized),
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("traced_before", [False, True])
def test_what_lies_before_the_warp_has_the_gradient_of_the_plain_warp(rng, name, traced_before):
    images = tf.constant(rng.normal(size=(2, 17, 18, 3)), tf.float32)
    upstream = rng.normal(size=(2, 17, 18, 3)).astype("float32")
    scale = tf.Variable(0.7)

    def gradient(function):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(function(tf.tanh(scale * images)) * upstream)
        return tape.gradient(total, scale)

    if traced_before:
        AROUND[name](images)
    assert_allclose(
        gradient(AROUND[name]), gradient(warp), rtol=1e-4, atol=1e-3
    )  # of a sum of 2,000
