"""The step-batching engine: tiles of many requests in common batches."""
