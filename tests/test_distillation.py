"""`distillation.py`: the teacher's answers beside the views that it was shown."""

import keras
import numpy as np
from numpy.testing import assert_allclose

from stn_keras.data.pipeline import VIEWS, view
from stn_keras.training.distillation import soft_labels


def test_soft_labels_are_the_answers_to_each_view_mixed_with_the_labels(rng):
    images = rng.integers(0, 256, (7, 6, 8, 1)).astype("uint8")
    labels = np.eye(3)[rng.integers(0, 3, 7)]
    pixels = keras.Input((6, 8, 1))
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    teacher = keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Flatten()(scaled)))
    found = soft_labels(teacher, images, labels, crop=1, temperature=2.0, trust=0.7)
    assert found.shape == (7, VIEWS, 3) and found.dtype == np.float32
    for number in range(VIEWS):
        logits = teacher.predict(view(images, np.full(7, number), 1), verbose=0)
        powers = np.exp(logits / 2)
        wanted = 0.7 * powers / powers.sum(axis=-1, keepdims=True) + 0.3 * labels
        assert_allclose(found[:, number], wanted, 0, 1e-6)
