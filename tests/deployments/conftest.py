"""Ray Serve warns while it is imported; here it does so once, unheard."""

import warnings

with warnings.catch_warnings():
    # pydantic's deprecations in Serve's own schema.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ray.serve

__all__ = ["ray"]
