"""Which work runs next, and what it costs: the standard library alone, never a tensor."""
