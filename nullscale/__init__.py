"""Image super-resolution that gives its input back; `sr_engine` batches its work."""
