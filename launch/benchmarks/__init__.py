"""The rows of `launch.benchmark`, by what they measure."""
