"""The local web page of `launch.serve`: videos and a webcam in, maps and results out, one at a time."""
