"""Spatial transformers for Keras."""

from stn_keras import localization, metrics, models, optimizers, regularizers, transforms
from stn_keras.geometry import affine_grid
from stn_keras.layers import SpatialTransformer
from stn_keras.sampling import grid_sample

__all__ = [
    "SpatialTransformer",
    "affine_grid",
    "grid_sample",
    "localization",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
    "transforms",
]
__version__ = "0.1.0"
