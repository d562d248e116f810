from serve_quietly import parents, ray

__all__ = ["parents", "ray"]
