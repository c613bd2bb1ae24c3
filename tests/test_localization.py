"""Localization networks start at the identity, whatever they see."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stn_keras import localization, transforms

IDENTITY = [1, 0, 0, 0, 1, 0]


def test_a_fresh_head_answers_the_identity_in_float32(rng, set_policy):
    set_policy("mixed_bfloat16")
    head = localization.head()
    theta = head(rng.normal(size=(4, 10)).astype("float32"))
    assert theta.dtype == "float32"
    assert_array_equal(theta, [IDENTITY] * 4)
    assert_array_equal(head.kernel, np.zeros((10, 6)))


def test_a_fresh_cnn_answers_the_identity(rng):
    network = localization.cnn()
    theta = network(rng.uniform(size=(2, 32, 32, 3)).astype("float32"))
    assert_array_equal(theta, [IDENTITY] * 2)
    assert network.count_params() == 48_422


@pytest.mark.parametrize("make", [localization.head, localization.cnn, localization.Identity])
def test_an_unknown_transform_is_refused(make):
    with pytest.raises(ValueError, match="`transform` must be.*Received: transform='afine'"):
        make("afine")


@pytest.mark.parametrize("transform", ["affine", transforms.Affine()])
def test_the_initializer_survives_its_config(transform):
    initializer = localization.Identity(transform)
    config = keras.saving.serialize_keras_object(initializer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.transform == transforms.Affine()
    assert_array_equal(again((6,)), IDENTITY)
    assert_array_equal(again((2, 3), dtype="float64"), np.reshape(IDENTITY, (2, 3)))
    assert again((6,), dtype="bfloat16").dtype == "bfloat16"
