"""Showing results: figures, the page, layers over the video, files for other programs."""
