"""What transforms give in functional models."""

import keras

from stn_keras.checks.arguments import wide_dtype


@keras.saving.register_keras_serializable("stn_keras")
class Grid(keras.Operation):
    """`transform.grid` in a functional model."""

    def __init__(self, transform, name=None):
        super().__init__(name=name)
        self.transform = transform

    def call(self, theta, output_size, align_corners):
        return self.transform.grid(theta, output_size, align_corners)

    def compute_output_spec(self, theta, output_size, align_corners):
        shape = (*self.transform.leading(theta), *output_size, self.transform.axes)
        return keras.KerasTensor(shape, wide_dtype(theta))

    def get_config(self):
        transform = keras.saving.serialize_keras_object(self.transform)
        return {"transform": transform, "name": self.name}

    @classmethod
    def from_config(cls, config):
        transform = keras.saving.deserialize_keras_object(config["transform"])
        return cls(transform, config["name"])
