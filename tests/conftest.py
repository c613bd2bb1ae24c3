"""Fresh random inputs, and settings of Keras and TensorFlow that end with their test."""

import os
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="repeat the random inputs of an earlier run")


def pytest_configure(config):
    if config.option.seed is None:
        config.option.seed = int.from_bytes(os.urandom(4), "little")


def pytest_report_header(config):
    return f"random inputs: --seed={config.option.seed}"


@pytest.fixture
def rng(request):
    """A generator of the run's seed and the test's name, so that one test repeats alone."""
    print(f"random inputs: --seed={request.config.option.seed}")  # shown where the test fails
    name = zlib.crc32(request.node.name.encode())
    return np.random.default_rng([request.config.option.seed, name])


@pytest.fixture
def set_policy():
    """`keras.config.set_dtype_policy`, undone after the test."""
    policy = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def uncompiled():
    """Runs what would be compiled operation by operation: in no time, where XLA takes seconds."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
