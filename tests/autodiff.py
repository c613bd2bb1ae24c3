"""Gradients on each backend of Keras."""

import keras
from keras import ops


def derivative(function):
    """`function(*tensors)`, a scalar → a function of the same tensors: its gradients, a list.

    Differentiable again. A tensor that the function does not depend on has a gradient of zeros.
    """

    def tensorflow(*tensors):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            output = function(*tensors)
        return tape.gradient(output, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def jax(*tensors):
        import jax

        return jax.grad(function, argnums=range(len(tensors)))(*tensors)

    def torch(*tensors):
        import torch

        leaves = [t if t.requires_grad else t.clone().requires_grad_() for t in tensors]
        output = function(*leaves)
        return torch.autograd.grad(output, leaves, create_graph=True, materialize_grads=True)

    backend = {"tensorflow": tensorflow, "jax": jax, "torch": torch}[keras.backend.backend()]
    return lambda *tensors: list(backend(*(ops.convert_to_tensor(t) for t in tensors)))


def gradients(function, tensors, upstream):
    """The gradient that `upstream` on `function(*tensors)` sends to each tensor."""

    def total(*tensors):
        output = function(*tensors)
        return ops.sum(output * ops.cast(upstream, output.dtype))

    return derivative(total)(*tensors)


def float64(tensor):
    """A tensor of any floating-point dtype as a float64 array."""
    return ops.convert_to_numpy(ops.cast(tensor, "float64"))


def compiled(function):
    """`function(*tensors)` in a graph, in which TensorFlow and JAX compile it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
