"""A short test of the main features, for environments of the lowest and of the newest versions."""

import pathlib
import sys

import keras
import numpy as np

import stn_keras
from stn_keras import SpatialTransformer, export, localization

folder = pathlib.Path(sys.argv[1])
images, labels = np.random.rand(32, 28, 28, 1).astype("float32"), np.arange(32) % 10

inputs = keras.Input((28, 28, 1))
x = SpatialTransformer(localization.cnn(), name="transformer")(inputs)
x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
model = keras.Model(inputs, x)
model.compile("adam", "sparse_categorical_crossentropy")
before = [np.copy(weight) for weight in model.get_weights()]
model.fit(images, labels, epochs=2, verbose=0)
assert all(np.isfinite(w).all() for w in model.get_weights())
assert any((w != b).any() for w, b in zip(model.get_weights(), before))

model.save(folder / "model.keras")
again = keras.saving.load_model(folder / "model.keras", safe_mode=True)
np.testing.assert_array_equal(again(images), model(images))
export.save(model, folder / "model.tflite", "litert")
for path in sorted(pathlib.Path("saved_models").glob("*/*.keras")):
    shipped = keras.saving.load_model(path)
    outputs = shipped.predict(np.zeros((1, *shipped.input_shape[1:])), verbose=0)
    assert outputs.shape == (1, *shipped.output_shape[1:]) and np.isfinite(outputs).all()
print(f"stn_keras {stn_keras.__version__} works with Keras {keras.__version__}")
