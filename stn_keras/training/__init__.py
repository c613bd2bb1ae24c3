"""Training: callbacks, the optimizer of the recipes, and the files of a run."""
