"""The losses of `register` count only the pixels that its masks keep."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from stn_keras import backend, losses
from stn_keras.registration import similarities

LOSSES = {name: name for name in similarities.SIMILARITIES} | {
    "of each pixel": keras.losses.MeanAbsoluteError(),
    "of each picture": lambda fixed, warped: ops.mean((fixed - warped) ** 2, axis=(1, 2, 3)),
    "in windows": losses.LocalCrossCorrelation(5, data_format="channels_first"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_masked_pixels_do_not_count(rng, name):
    fixed, warped = rng.normal(size=(2, 2, 12, 16, 2)).astype("float32")
    mask = np.ones((2, 12, 16, 1), "float32")
    mask[:, :, 9:] = 0
    similarity = similarities.get(LOSSES[name])
    found, slopes = value_and_gradient(similarity, fixed, warped, mask)
    alone, wanted = value_and_gradient(similarity, *(x[:, :, :9] for x in (fixed, warped, mask)))
    assert_allclose(found, alone, rtol=1e-4)
    assert_allclose(slopes[:, :, :9], wanted, rtol=1e-3, atol=1e-6)
    assert not slopes[:, :, 9:].any()


def value_and_gradient(similarity, *arrays):
    fixed, warped, weights = map(ops.convert_to_tensor, arrays)
    function = backend.value_and_gradient(lambda pixels: similarity(fixed, pixels, weights))
    return [ops.convert_to_numpy(x) for x in function(warped)]
