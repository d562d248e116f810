"""The method: pure functions on tensors, without state, networks or randomness of their own."""
