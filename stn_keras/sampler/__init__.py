"""The sampler: a warp holds the positions to sample, and three sums do the arithmetic."""

from stn_keras.sampler.interpolation import sample, sampling_by

__all__ = ["sample", "sampling_by"]
