"""Super-resolution that gives its input back: DDNM with a Stable Diffusion 3.5 prior."""
