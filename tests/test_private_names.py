"""Without a private name of another library, a result is slower or an error says what to do."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from stn_keras import SpatialTransformer
from stn_keras.backend import private


def warped():
    images = np.arange(40, dtype="float32").reshape(1, 4, 5, 2)
    theta = np.array([[0.8, 0.1, 0.2, -0.1, 0.9, 0.1]], "float32")
    return keras.ops.convert_to_numpy(SpatialTransformer()([images, theta]))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="names of PyTorch")
@pytest.mark.parametrize("name", ["_are_functorch_transforms_active", "_current_level"])
def test_without_pytorchs_names_the_library_samples_itself(monkeypatch, name):
    import torch

    wanted = warped()
    assert not private.torch_transforms_active()
    monkeypatch.delattr(torch._C if name.startswith("_are") else torch.autograd.forward_ad, name)
    assert private.torch_transforms_active()
    assert_allclose(warped(), wanted, rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="names of TensorFlow")
def test_without_litert_s_names_nothing_quantizes(monkeypatch):
    import tensorflow as tf

    assert private.lite_quantizer() is not None
    monkeypatch.setattr(tf.lite, "TFLiteConverter", lambda functions: object())
    assert private.lite_quantizer() is None
