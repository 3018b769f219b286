"""Pulse-rate maps of video, by one command.

pulse3d me.mp4                        maps a video: a page, figures, an overlay, tables
pulse3d me.mp4 other.mov folder/      several videos, and one summary.csv of them
pulse3d predict                       the built-in demo scene
pulse3d live                          the first camera, until Ctrl-C; `pulse3d live 1`: the second

pulse3d NAME --help                   the options of one of the programs:
    predict     maps videos; `pulse3d me.mp4` is short for `pulse3d predict me.mp4`
    live        maps a camera
    serve       a page on this machine: drop a video into it, or use the webcam
    train       trains a network on synthetic video
    evaluate    scores methods on recordings with a known pulse
    synthesize  writes clips of synthetic video
    export      writes a network as one file, for programs with JAX alone
    benchmark   measures speed and memory on this machine

pulse3d --list-settings               everything that --set changes, with its values
pulse3d --version
"""

import importlib
import sys
from pathlib import Path

from pulse3d.errors import InputError, nearest

from . import common

PROGRAMS = ("predict", "serve", "train", "evaluate", "synthesize", "export", "benchmark")


def main() -> None:
    """Runs the program that the first argument names; `predict` if it is a video or an option."""
    asked = sys.argv[1:]
    if not asked or asked[0] in common.HELP:
        return common.print_text(__doc__.strip())
    programs = (*PROGRAMS, "live")
    known = asked[0] in programs
    name = asked.pop(0) if known else "predict"
    # what is much like the name of a program, and no file, is not taken for a video
    if not known and not Path(asked[0]).exists() and (near := nearest(asked[0], programs, likeness=0.7)):
        print(f"error: {InputError(f'{asked[0]}: no such program, file or folder{near}')}", file=sys.stderr)
        sys.exit(2)
    if name == "live":
        camera = asked.pop(0) if asked and asked[0].isdigit() else "0"
        name, asked = "predict", [f"--video=<video{camera}>", *asked]
    sys.argv[1:] = asked
    common.run(importlib.import_module(f"{__package__}.{name}").main)


if __name__ == "__main__":
    main()
