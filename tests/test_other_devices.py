"""What can be known of GPUs and TPUs on a machine without one: what they are given to run."""

import contextlib

import keras
import numpy as np
import pytest
from test_warp import PLANES

from stn_keras import SpatialTransformer, transforms

BACKEND = keras.backend.backend()


def cases():
    for transform in PLANES:
        yield pytest.param(transform, "bilinear", id=type(transform).__name__)
    for interpolation in ("nearest", "bicubic"):
        yield pytest.param(transforms.Affine(), interpolation, id=interpolation)
    yield pytest.param(transforms.Affine(axes=3), "bilinear", id="volumes")


def inputs(transform):
    size = (20, 24) if transform.axes == 2 else (6, 7, 8)
    images = np.random.default_rng().normal(size=(2, *size, 3)).astype("float32")
    theta = np.stack([transform.identity] * 2).astype("float32") + 0.1
    return images, theta


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
@pytest.mark.parametrize("transform, interpolation", [*cases()])
def test_jax_lowers_warps_and_gradients_for_other_devices(transform, interpolation):
    import jax
    from jax import export

    layer = SpatialTransformer(transform=transform, interpolation=interpolation)

    def loss(images, theta):
        return (layer([images, theta]) ** 2).sum()

    function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    exported = export.export(function, platforms=("cuda", "rocm", "tpu"))(*inputs(transform))
    assert exported.platforms == ("cuda", "rocm", "tpu")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize("transform, interpolation", [*cases()])
def test_tensorflow_has_a_gpu_kernel_for_every_operation(transform, interpolation):
    import tensorflow as tf

    layer = SpatialTransformer(transform=transform, interpolation=interpolation)

    @tf.function(autograph=False)
    def both(images, theta):
        with tf.GradientTape() as tape:
            tape.watch([images, theta])
            warped = layer([images, theta])
        return tape.gradient(warped, [images, theta])

    specs = [tf.TensorSpec((None, *array.shape[1:])) for array in inputs(transform)]
    graph = both.get_concrete_function(*specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assert not {node.op for node in nodes if not has_gpu_kernel(node)}


def has_gpu_kernel(node):
    """Whether TensorFlow has a kernel for GPUs that takes the node's dtypes."""
    from tensorflow.python.framework import kernels

    def fits(kernel):
        return kernel.device_type in ("GPU", "DEFAULT") and all(
            node.attr[constraint.name].type in constraint.allowed_values.list.type
            for constraint in kernel.constraint
            if constraint.allowed_values.list.type
        )

    return any(map(fits, kernels.get_registered_kernels_for_op(node.op).kernel))


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch")
@pytest.mark.parametrize("transform, interpolation", [*cases()])
def test_pytorch_does_not_wait_for_a_gpu(transform, interpolation):
    import torch

    layer = SpatialTransformer(transform=transform, interpolation=interpolation)
    images, theta = (torch.tensor(x, requires_grad=True) for x in inputs(transform))
    layer([images, theta])  # builds the layer
    with pretended_gpu() as waited:
        warped = layer([images, theta])
        torch.autograd.grad(warped.sum(), [images, theta])
        assert not waited
        assert warped.isfinite().all() and waited  # it does notice


@contextlib.contextmanager
def pretended_gpu():
    """Tensors that say they are on a GPU; yields the names of functions that would wait for it."""
    import torch
    from torch.overrides import TorchFunctionMode

    tensor = torch.Tensor
    names = "__bool__ __float__ __int__ __index__ item tolist cpu numpy nonzero".split()  # noqa: SIM905
    waiting = {getattr(tensor, name) for name in names}
    waited = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            if function == tensor.device.__get__:
                return torch.device("cuda")
            if "device" in kwargs:
                kwargs["device"] = "cpu"
            if function in waiting:
                waited.append(function.__name__)
            return function(*args, **kwargs)

    with Mode():
        yield waited
