"""Training: callbacks, optimizers, and what a run leaves behind and resumes from."""
