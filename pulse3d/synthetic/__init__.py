"""Synthetic pulse video, made on the device: a key in, a clip and its label out."""
