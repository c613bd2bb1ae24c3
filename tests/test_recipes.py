"""The recipes of `train.py`."""

import keras
import numpy as np
import pytest

from stn_keras.recipes import RECIPES
from stn_keras.training.muon import ConvMuon


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_rise_to_their_peak_and_end(recipe):
    rate = recipe.optimizer(100)._learning_rate
    if not recipe.warmup:
        assert rate == recipe.peak
        return
    rates = [float(rate(step)) for step in range(101)]
    top = round(100 * recipe.warmup)
    assert rates[0] == 0 and rates[top] == pytest.approx(recipe.peak) and rates[100] == 0
    assert np.all(np.diff(rates[: top + 1]) > 0) and np.all(np.diff(rates[top:]) < 0)


def test_the_published_recipe_is_plain_sgd_and_the_tuned_one_muon():
    published, tuned = (RECIPES[name].optimizer(100) for name in ("published", "tuned"))
    assert type(published) is keras.optimizers.SGD and published.momentum == 0
    assert type(tuned) is ConvMuon and tuned.nesterov
    assert tuned.exclude_layers == ["localization"]


@pytest.mark.parametrize(
    "images, size",
    [(48_000, 128), (3_000, 128), (2_944, 64), (800, 32), (736, 16), (73, 16), (1, 16)],
)
def test_few_images_come_in_small_batches(images, size):
    assert RECIPES["tuned"].batch_size_for(images) == size


def test_all_of_cifar10_comes_in_the_batches_of_the_results():
    for name, size in (("tuned", 128), ("published", 64)):
        assert RECIPES[name].batch_size_for(48_000) == size
