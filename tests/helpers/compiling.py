"""How tests compile: several times as fast, for the same numbers but for rounding."""

from importlib.metadata import version

# XLA stops at a flag that it does not know, and this one may go when what it chooses does
KNOWN = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
QUICKLY = "--xla_backend_optimization_level=0" + (" --xla_cpu_use_fusion_emitters=false" if KNOWN else "")
