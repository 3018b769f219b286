"""Evaluation: recordings with a known pulse, methods to compare, and their scores."""
