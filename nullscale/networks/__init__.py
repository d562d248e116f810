"""Stable Diffusion 3: from a checkpoint to the networks that the engine calls."""
