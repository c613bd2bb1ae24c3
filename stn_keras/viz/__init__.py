"""Figures of warps; the public names are in `observe` and `plots`."""
