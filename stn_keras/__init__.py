"""Spatial transformers for Keras.

`import stn_keras` does not wait for Keras: each name is imported when it is first used. Once a
program has also imported Keras, all classes that a saved model may hold are registered.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from stn_keras.system.imports import after_keras

if TYPE_CHECKING:
    from stn_keras import localization, losses, metrics, models, regularizers, transforms
    from stn_keras.geometry import affine_grid
    from stn_keras.layers import DenseWarp, Orientation, SpatialTransformer, VelocityIntegration
    from stn_keras.registration import register
    from stn_keras.sampler.warps import Warp
    from stn_keras.sampling import grid_sample, pixel_sample

__all__ = [
    "DenseWarp",
    "Orientation",
    "SpatialTransformer",
    "VelocityIntegration",
    "Warp",
    "affine_grid",
    "grid_sample",
    "localization",
    "losses",
    "metrics",
    "models",
    "pixel_sample",
    "register",
    "regularizers",
    "transforms",
]
__version__ = "0.1.0"

# The modules of the functions and classes; all other names are modules.
_HOMES = {
    **dict.fromkeys(("DenseWarp", "Orientation", "SpatialTransformer"), "layers"),
    "VelocityIntegration": "layers",
    "Warp": "sampler.warps",
    "affine_grid": "geometry",
    "register": "registration",
    **dict.fromkeys(("grid_sample", "pixel_sample"), "sampling"),
}
# Also those that are not in `__all__`, since they need the packages of an extra.
_MODULES = {module.name for module in pkgutil.iter_modules(__path__)}


def __getattr__(name):
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOMES, *_MODULES})


def _register():
    for name in (*__all__, "training.muon"):
        importlib.import_module(f"{__name__}.{_HOMES.get(name, name)}")


after_keras(_register)
