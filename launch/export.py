r"""Exports a network that maps windows of video as one file, for programs with JAX but without pulse3d.

    python -m launch.export --weights=default --frame=640x480 --out=default_640x480.jaxexport

OUT.json beside it describes the input, the output, and how to load it.
"""

import re
from pathlib import Path

from absl import flags

from pulse3d import files
from pulse3d.errors import InputError
from pulse3d.mapping import export
from pulse3d.network import weights_file

from . import common

_WEIGHTS = flags.DEFINE_string("weights", "default", "As launch.predict takes it.")
_FRAME = flags.DEFINE_string("frame", "640x480", "Width and height of the video's frames in px.")
_STRIDE = flags.DEFINE_integer("stride", None, "Pixels between patches.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "The file; default: WEIGHTS_FRAME.jaxexport here.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces a file that is there already.")
GROUPS = {"Output": (_OUT, _OVERWRITE), "Model": (_WEIGHTS, _FRAME, _STRIDE)}


def main() -> None:
    size = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", _FRAME.value)
    if not size:
        raise InputError(f"--frame={_FRAME.value}: expected WIDTHxHEIGHT in px, as in 640x480")
    weights = weights_file.load_weights(_WEIGHTS.value)
    out = Path(_OUT.value or f"{weights.name}_{_FRAME.value}.jaxexport")
    if not _OVERWRITE.value:
        files.refuse_to_overwrite(out.parent, (out.name, f"{out.name}.json"))
    files.make_folder(out.parent)
    about = export.export_network(weights, (int(size[2]), int(size[1])), out, stride_px=_STRIDE.value)
    print(f"{about['input']}\n-> {about['output']}")
    print(f"written to {out.parent}: {out.name}, {out.name}.json")


if __name__ == "__main__":
    common.run(main)
