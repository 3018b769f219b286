"""Programs started as a user starts them, and what they are given and leave."""

import contextlib
import csv
import functools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from helpers.compiling import QUICKLY

from pulse3d.network import weights_file
from pulse3d.training import checkpoint, train

ROOT = Path(__file__).parents[2]


TOY = [
    "--preset=paper",
    *(
        f"--set={setting}"
        for setting in (
            "clip.fps=15", "clip.frames=24", "clip.patch_px=8", "clip.low_bpm=60", "clip.rates=4",
            "model.kernel=20,5,5", "model.filters=4", "model.hidden=16", "map.tile_px=16",
            "train.batch_size=20", "train.eval_clips=20", "train.eval_every=2", "train.log_every=1",
        )
    ),
]  # fmt: skip


def environment_of(module):
    """As a user's, but for what compiles for minutes."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    flags = QUICKLY if module == "train" else ""
    return os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}


def start(module, *arguments, cwd=ROOT, stdin=None):
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{module}", *map(str, arguments)],
        cwd=cwd, env=environment_of(module), stdin=stdin,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@functools.cache
def launcher():
    """A process that has imported the libraries: see `helpers.launched`."""
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("launched.py")],
        env=environment_of(""), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(module, *arguments, cwd=ROOT, line_s=1000.0):
    """Exit code, output and errors of a launcher, ended within 300 s; line_s: between lines of progress."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        asked = {
            "module": module,
            "line_s": line_s,
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": environment_of(module),
            "largest_file": resource.getrlimit(resource.RLIMIT_FSIZE),
            "out": out.name,
            "err": err.name,
        }
        launcher().stdin.write(json.dumps(asked).encode() + b"\n")
        launcher().stdin.flush()
        ready, _, _ = select.select([launcher().stdout], [], [], 300)
        if not ready:
            os.killpg(launcher().pid, signal.SIGKILL)
            launcher.cache_clear()
            raise AssertionError(f"launch.{module} {arguments}: not ended within 300 s")
        code = json.loads(launcher().stdout.readline())
        return code, out.read(), err.read()


def evaluate(root, out, *arguments):
    return run("evaluate", "--dataset=clips", f"--root={root}", f"--out={out}", *arguments)


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def last_state(workdir, settings):
    store = checkpoint.Checkpoints(workdir, "accuracy")
    state = store.restore_latest(train.init_state(settings))
    store.close()
    return state


def final_states(*workdirs):
    settings = weights_file.load_weights(str(workdirs[0])).config
    return zip(*(jax.tree.leaves(last_state(workdir, settings)) for workdir in workdirs), strict=True)


def wait_for(path, process):
    deadline = time.time() + 240
    while not path.exists():
        assert time.time() < deadline, f"no {path.name} within 240 s"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def write_clips(root, *, names=("lab/1", "b", "c", "still"), seconds=13, fps=15):
    """A folder of clips of 66, 84, 102 ... bpm; `c` has a consensus, `still` no pulse."""
    manifest, rng = [], np.random.default_rng(0)
    time_s = np.arange(seconds * fps) / fps
    for index, name in enumerate(names):
        rate_bpm = 66 + 18 * index
        wave = np.sin(2 * np.pi * rate_bpm / 60 * time_s) * (name != "still")
        colour = np.array([184, 133, 112]) - 2 * wave[:, None] * np.array([0.3, 1.0, 0.6])
        frames = colour[:, None, None] + rng.normal(0, 2, (len(time_s), 24, 32, 3))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", np.clip(frames.round(), 0, 255).astype(np.uint8))
        np.savetxt(root / f"{name}_timestamps.txt", time_s)
        entry = {"name": name, "file": f"{name}.npy", "truth_kind": "ppg"}
        if name == "c":
            entry |= {"truth_kind": "consensus", "hr_consensus": rate_bpm}
        elif name == "still":
            entry |= {"truth_kind": "no measurable pulse"}
        else:
            contact_s = np.arange(0, seconds, 1 / 60)
            table = np.stack([contact_s, np.sin(2 * np.pi * rate_bpm / 60 * contact_s)], 1)
            np.savetxt(root / f"{name}_ppg.csv", table, delimiter=",", header="t_s,ppg", comments="")
        manifest.append(entry)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


@contextlib.contextmanager
def files_up_to(size):
    """No file can grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
