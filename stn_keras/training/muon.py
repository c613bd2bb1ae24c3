"""Muon for convolutions: steps of similar length in every direction of a kernel."""

import re

import keras
from keras import ops


@keras.saving.register_keras_serializable("stn_keras")
class ConvMuon(keras.optimizers.SGD):
    """SGD with orthogonalized steps for convolution kernels.

    It is [Muon, Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/), applied to
    kernels of rank 4 as matrices `(height · width · channels, filters)`. These are small, so the
    cost is negligible. Keras's own `Muon` handles only the kernels of dense layers.

    All other weights are updated by SGD with the same learning rate. So are weights whose path
    matches one of `exclude_layers`, which are regular expressions for `re.search`. The localization
    network is excluded in this way: an orthogonalized step does not depend on the length of the
    gradient, so `gradient_scale` would have no effect on it.
    """

    def __init__(
        self,
        learning_rate=0.02,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        *,
        exclude_layers=(),
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, nesterov, weight_decay, **kwargs)
        self.exclude_layers = list(exclude_layers)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.places = {key: k for k, variable in enumerate(variables) for key in keys_of(variable)}
        self.orthogonalized = [
            len(variable.shape) == 4
            and not any(re.search(pattern, variable.path) for pattern in self.exclude_layers)
            for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self.places[id(variable)]
        if not self.orthogonalized[index]:
            return super().update_step(gradient, variable, learning_rate)
        velocity = gradient = ops.cast(gradient, variable.dtype)
        if self.momentum:
            velocity = self.momentum * self.momentums[index] + gradient
            self.assign(self.momentums[index], velocity)
        direction = gradient + self.momentum * velocity if self.nesterov else velocity
        step = orthogonal(ops.reshape(direction, (-1, variable.shape[-1])))
        step = ops.reshape(step, variable.shape)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)

    def get_config(self):
        return {**super().get_config(), "exclude_layers": self.exclude_layers}


def keys_of(variable):
    """Keys of a variable and of the values that TensorFlow updates in its place, on each device."""
    values = getattr(variable.value, "values", ())  # of PyTorch a method
    return [id(x) for x in (variable, variable.value, *(() if callable(values) else values))]


def orthogonal(matrix):
    """A matrix with the same singular vectors and with singular values in 0.7 … 1.2.

    Singular values below 0.0015 of the norm stay smaller. The result comes from five steps of the
    Newton–Schulz iteration with Muon's coefficients.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(5):
        square = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.775 * square + 2.0315 * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
