"""Losses of registration: how smooth a displacement is, and how alike two images are.

They are Keras losses, for `compile(loss=...)`, with values per image and Keras's `reduction`. Those
of a displacement ignore `y_true`: any array of the batch size does as its target.
"""

from stn_keras.losses.correlation import LocalCrossCorrelation
from stn_keras.losses.displacement import BendingEnergy, DisplacementGradient

__all__ = ["BendingEnergy", "DisplacementGradient", "LocalCrossCorrelation"]
