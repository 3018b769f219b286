"""pulse3d: pulse-rate maps of ordinary video, by a 3-D network trained on synthetic video alone."""

__version__ = "0.1.0"
