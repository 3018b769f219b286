"""Mapping: frames in, one probability over pulse rates for every place of every window out."""
