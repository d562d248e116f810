"""Files to samples and back: what strangers send, and what they get."""
