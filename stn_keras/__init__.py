"""Spatial transformers for Keras."""

import importlib
import sys

# `python -m stn_keras --help` does not wait for Keras: `__main__` loads what follows.
if sys.argv[:1] != ["-m"] or f"-m {__name__}" not in " ".join(sys.orig_argv):
    from stn_keras import localization, losses, metrics, models, regularizers, transforms
    from stn_keras.geometry import affine_grid
    from stn_keras.layers import DenseWarp, Orientation, SpatialTransformer, VelocityIntegration
    from stn_keras.sampling import grid_sample, pixel_sample
    from stn_keras.training import optimizers

__all__ = [
    "DenseWarp",
    "Orientation",
    "SpatialTransformer",
    "VelocityIntegration",
    "affine_grid",
    "grid_sample",
    "localization",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "pixel_sample",
    "regularizers",
    "transforms",
]
__version__ = "0.1.0"

# Imported on demand, since some need the packages of an extra.
_ON_DEMAND = (
    "callbacks",
    "data",
    "export",
    "files",
    "history",
    "observe",
    "plots",
    "precision",
    "predict",
    "recipes",
    "resume",
    "saved",
)


def __getattr__(name):
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
