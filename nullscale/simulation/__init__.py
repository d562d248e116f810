"""A service without its GPUs: their time taken, none of their work done."""
