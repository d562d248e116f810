"""Ray Serve deployments of the super-resolution engine."""
