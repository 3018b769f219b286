"""pulse3d: pulse-rate maps of ordinary video, by a 3-D network trained only on synthetic video.

result = pulse3d.map_video("me.mp4")
result.pulse_rate_bpm

for window in pulse3d.map_stream(pulse3d.open_video("0").frames()):
    print(window.time_s, window.reading.rate_bpm)
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["InputError", "Result", "load_weights", "map_stream", "map_video", "open_video"]

_HOMES = {
    "InputError": "pulse3d.errors",
    "Result": "pulse3d.result",
    "load_weights": "pulse3d.network.weights_file",
    "map_stream": "pulse3d.stream",
    "map_video": "pulse3d.pipeline",
    "open_video": "pulse3d.video",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import pulse3d` is fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, for tab completion."""
    return sorted([*__all__, "__version__"])
