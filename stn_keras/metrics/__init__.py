"""Measures of warps: distances, samples outside the image, NaN parameters, folds.

Most measures are functions of `theta`, and Keras metrics for models with `theta` among their
outputs. They evaluate the transform on a regular grid of output points, so the values of different
transforms are comparable. `FoldedShare` is a metric of a displacement.
"""

from stn_keras.metrics.corners import WarpSpread, warp_spread
from stn_keras.metrics.folding import FoldedShare
from stn_keras.metrics.theta import (
    IdentityDistance,
    NonfiniteShare,
    OutsideShare,
    identity_distance,
    nonfinite_share,
    outside_share,
)
from stn_keras.metrics.theta import share_outside as share_outside  # of a grid

__all__ = [
    "FoldedShare",
    "IdentityDistance",
    "NonfiniteShare",
    "OutsideShare",
    "WarpSpread",
    "identity_distance",
    "nonfinite_share",
    "outside_share",
    "warp_spread",
]
