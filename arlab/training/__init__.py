"""Training: losses, the loop, checkpoints, and what happens when a model is fed its own words."""
