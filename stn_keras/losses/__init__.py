"""Losses of registration: how smooth a displacement is, and how alike two images are.

They are Keras losses, for `compile(loss=...)`, with a value for each image and Keras's `reduction`.
The losses of a displacement ignore `y_true`: pass any array of the batch size as the target.
"""

from stn_keras.losses.correlation import LocalCrossCorrelation
from stn_keras.losses.displacement import BendingEnergy, DisplacementGradient

__all__ = ["BendingEnergy", "DisplacementGradient", "LocalCrossCorrelation"]
