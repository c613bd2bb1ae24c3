"""Loads, applies and exports saved models."""
