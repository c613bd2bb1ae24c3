"""Fresh random inputs, and settings of Keras and its backend that are undone after each test.

Keras is imported by the functions that need it. The controller of pytest-xdist calls none of them:
if it imported Keras, the processes that run the tests would start later.
"""

import collections
import contextlib
import functools
import math
import os
import random
import zlib

import numpy as np
import pytest

# The library runs on every backend; training on CIFAR-10 and export need TensorFlow.
ON_TENSORFLOW_ONLY = {
    f"test_{name}.py"
    for name in (
        "cifar10",
        "demo",
        "demo_model",
        "demo_reader",
        "distorted",
        "distortions",
        "distribute",
        "docstrings",
        "examples",
        "export",
        "mnist",
        "own_pictures",
        "pipeline",
        "precision",
        "quantized",
        "read_text",
        "recipes",
        "resume",
        "several_machines",
        "splits",
        "tensorboard",
        "train",
    )
}


@functools.cache
def backend():
    """The backend of Keras, set up for tests."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_disable_most_optimizations", True)  # which take longer than tests
    return keras.backend.backend()


def pytest_ignore_collect(collection_path):
    if backend() != "tensorflow" and collection_path.name in ON_TENSORFLOW_ONLY:
        return True
    return None


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="repeat the random inputs of an earlier run")
    parser.addoption("--share", type=int, default=4, help="run one in so many of a test's cases")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.option.seed = config.workerinput["seed"]
    if config.option.seed is None:
        config.option.seed = int.from_bytes(os.urandom(4), "little")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Gives the processes of pytest-xdist one seed."""
    node.workerinput["seed"] = node.config.option.seed


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keeps one in `--share` of each test's cases, but at least one; the seed selects them."""
    tests = collections.defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    kept = set()
    for name, cases in tests.items():
        drawn = random.Random(f"{config.option.seed} {name}")
        kept.update(drawn.sample(cases, math.ceil(len(cases) / config.option.share)))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_report_header(config):
    keras_backend = os.environ.get("KERAS_BACKEND", "Keras's setting")
    return f"Keras backend: {keras_backend}; random inputs: --seed={config.option.seed}"


@pytest.fixture
def rng(request):
    """A generator seeded by the run's seed and the test's name, so that a test can be repeated."""
    print(f"random inputs: --seed={request.config.option.seed}")  # shown where the test fails
    name = zlib.crc32(request.node.name.encode())
    return np.random.default_rng([request.config.option.seed, name])


@pytest.fixture
def smooth_grid(rng):
    """Random points in and around images of a size, not at the kinks at whole and half pixels."""

    def grid(shape, size, align_corners):
        """`shape` is of the grid without its last axis."""
        length = np.array(size[::-1])
        pixels = rng.integers(-3, length + 2, (*shape, len(size)))
        pixels = pixels + rng.choice([0, 0.5], pixels.shape) + rng.uniform(0.05, 0.45, pixels.shape)
        return pixels / (length - 1) * 2 - 1 if align_corners else (2 * pixels + 1) / length - 1

    return grid


@pytest.fixture
def set_policy():
    """`keras.config.set_dtype_policy`, undone after the test."""
    import keras

    policy = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def set_format():
    """`keras.config.set_image_data_format`, undone after the test."""
    import keras

    data_format = keras.config.image_data_format()
    yield keras.config.set_image_data_format
    keras.config.set_image_data_format(data_format)


@pytest.fixture
def uncompiled():
    """Runs operation by operation what would be compiled."""
    from stn_keras.sampler import sampling_by

    off = contextlib.nullcontext()
    if backend() == "jax":
        import jax

        off = jax.disable_jit()
    with (
        sampling_by(lambda generic, *args, **options: generic(*args, **options)),
        off,
    ):
        yield


@pytest.fixture
def quick(request):
    """Switches the compilation of warps off, except on JAX, where single operations take longer."""
    if backend() != "jax":
        request.getfixturevalue("uncompiled")


@pytest.fixture
def fused(monkeypatch):
    """Has XLA compile every warp in a graph, as it does large ones."""
    if backend() == "tensorflow":
        monkeypatch.setattr("stn_keras.backend.tensorflow.LARGE", 0)
