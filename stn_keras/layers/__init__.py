"""The Keras layers."""

from stn_keras.layers.dense_warp import DenseWarp, VelocityIntegration
from stn_keras.layers.orientation import Orientation
from stn_keras.layers.spatial_transformer import SpatialTransformer

__all__ = ["DenseWarp", "Orientation", "SpatialTransformer", "VelocityIntegration"]
