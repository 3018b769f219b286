"""Runs launchers as `python -m launch.NAME` does, seconds sooner: the libraries are imported already.

Started by `launching.run`, once a test process. Reads a line of JSON for every launch, forks a process for
it, and answers with its exit code. JAX has no devices and no threads before the launcher asks for them, so
that a fork is safe.
"""

import importlib
import json
import os
import resource
import runpy
import sys

IMPORTS = (
    "av", "flax.linen", "imageio.v3", "jax.experimental.multihost_utils", "jax.numpy", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "optax", "orbax.checkpoint", "scipy.signal",
    "scipy.stats", "tqdm", "pulse3d.pipeline", "pulse3d.showing.outputs", "pulse3d.training.checkpoint",
)  # fmt: skip


def wait_for_launches() -> dict:
    """Answers until it is in the forked process, which gets what it was asked for, or there is no more."""
    while line := os.read(0, 1 << 20):
        asked = json.loads(line)
        process = os.fork()
        if not process:
            return asked
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.write(1, json.dumps(code).encode() + b"\n")
    sys.exit()


def become(asked: dict) -> None:
    """This process is as one that was started like that."""
    for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
        file = os.open(path, os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    resource.setrlimit(resource.RLIMIT_FSIZE, asked["largest_file"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = [asked["cwd"], *asked["environment"]["PYTHONPATH"].split(os.pathsep)]
    importlib.import_module("launch.common").LINE_S = asked["line_s"]
    sys.argv = [f"launch.{asked['module']}", *asked["arguments"]]


if __name__ == "__main__":
    for name in IMPORTS:
        importlib.import_module(name)
    asked = wait_for_launches()
    become(asked)
    runpy.run_module(f"launch.{asked['module']}", run_name="__main__", alter_sys=True)
