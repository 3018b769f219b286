"""A page on this machine: drop a video into it, or use the webcam, and see map and pulse rate as they come.

    python -m launch.serve

Prints the address to open in a browser on this machine, and runs until Ctrl-C. No video leaves the machine,
and nothing stays of it but what --out keeps. Not a medical device.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path

from absl import flags

from pulse3d import files, settings
from pulse3d.network import weights_file
from pulse3d.serving import server

from . import common

_PORT = flags.DEFINE_integer(
    "port", 8750, "Port on 127.0.0.1; 0: any that is free.", lower_bound=0, upper_bound=65535
)
_MAX_MB = flags.DEFINE_integer("max_mb", 2000, "Largest video that is taken, in MB.", lower_bound=1)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder in which results stay, numbered; without it they go when the program ends.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    "default",
    "default, a preset, a weights file, a training folder or a Keras folder; or green, chrom or pos.",
)
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting of map or readout: --set map.cells=60.")
GROUPS = {"Page": (_PORT, _MAX_MB), "Output": (_OUT,), "Model": (_WEIGHTS, _SET)}


def main() -> None:
    weights = weights_file.load_weights(_WEIGHTS.value)
    weights = weights._replace(config=settings.override_use(weights.config, _SET.value))
    out = files.make_folder(Path(_OUT.value)) if _OUT.value else None
    temporary = tempfile.TemporaryDirectory(prefix="pulse3d_", ignore_cleanup_errors=True)
    with temporary as folder, common.stop_on_interrupt() as stop:
        page = server.Server(_PORT.value, weights, Path(folder), max_mb=_MAX_MB.value, out=out)
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            print(f"open {page.url} in a browser on this machine; Ctrl-C ends it", flush=True)
            stop.wait()
        finally:
            page.shutdown()
            thread.join()
            ended = page.close()
    if not ended:  # an ordinary exit would wait for what cannot be stopped, such as a compilation
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    common.run(main)
