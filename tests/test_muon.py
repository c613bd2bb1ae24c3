"""`ConvMuon`: orthogonal steps of convolution kernels, SGD's steps of everything else."""

import autodiff
import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from stn_keras.training.muon import ConvMuon, orthogonal


def steps(optimizer, start, gradients, name="kernel"):
    variable = keras.Variable(start, name=name)
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
    return autodiff.float64(variable)


@pytest.mark.parametrize("shape", [(75, 8), (8, 75), (12, 12)])
def test_an_orthogonal_matrix_of_the_same_singular_vectors(rng, shape):
    left, _, right = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    matrix = left * rng.uniform(0.05, 1, min(shape)) @ right
    scaled = autodiff.float64(orthogonal(ops.convert_to_tensor(matrix, "float32")))
    mixed = left.T @ scaled @ right.T
    values = np.diag(mixed)
    assert_allclose(mixed, np.diag(values), atol=1e-4)
    assert np.all((values > 0.6) & (values < 1.25))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_convolution_takes_steps_as_long_for_any_length_of_gradient(rng, momentum):
    start = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    gradients = rng.normal(size=(3, *start.shape)).astype("float32")
    ends = [
        steps(ConvMuon(0.1, momentum=momentum, nesterov=True), start, scale * gradients)
        for scale in (1, 1000)
    ]
    assert_allclose(*ends, atol=1e-4)
    first = steps(ConvMuon(0.1, momentum=momentum, nesterov=True), start, gradients[:1])
    wanted = autodiff.float64(orthogonal(ops.convert_to_tensor(gradients[0].reshape(36, 6))))
    assert_allclose((start - first).reshape(36, 6), 0.1 * wanted, atol=1e-4)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_gathers_before_the_step_is_orthogonalized(rng, nesterov):
    start = np.zeros((1, 1, 5, 3), "float32")
    one, two = rng.normal(size=(2, *start.shape)).astype("float32")
    end = steps(ConvMuon(1.0, momentum=0.5, nesterov=nesterov), start, [one, two])
    velocity = 0.5 * one + two
    directions = (1.5 * one, two + 0.5 * velocity) if nesterov else (one, velocity)
    wanted = sum(
        autodiff.float64(orthogonal(ops.convert_to_tensor(d.reshape(5, 3)))) for d in directions
    )
    assert_allclose(end.reshape(5, 3), -wanted, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 3), (3,), (2, 2, 5, 3)])
def test_other_weights_take_the_steps_of_sgd(rng, shape):
    start = rng.normal(size=shape).astype("float32")
    gradients = rng.normal(size=(4, *shape)).astype("float32")
    settings = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    ours = ConvMuon(0.1, exclude_layers=["^slow"], **settings)
    theirs = keras.optimizers.SGD(0.1, **settings)
    ends = [steps(optimizer, start, gradients, "slow_kernel") for optimizer in (ours, theirs)]
    assert_allclose(*ends, atol=1e-6)
    if len(shape) == 4:
        fast = steps(ours.from_config(ours.get_config()), start, gradients)
        assert not np.allclose(ends[0], fast)


def test_it_trains_and_survives_saving(rng, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(ConvMuon(0.01, momentum=0.9, nesterov=True), "mse")
    x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
    y = x[:, 2:4, 2:4].mean(axis=(1, 2, 3))
    losses = model.fit(x, y, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    ends = [m.fit(x, y, shuffle=False, verbose=0).history["loss"] for m in (model, loaded)]
    assert_allclose(*ends, rtol=1e-4)
