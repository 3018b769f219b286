"""Training: a key in, parameters out."""
