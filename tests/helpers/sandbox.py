"""Opens files in a process of its own, of bounded memory and time, and says what became of each.

As a program: reads lines "kind<TAB>path" and answers each with one JSON line {"outcome", "message"}: the
outcome is "result", "refused" (InputError), or the name of any other exception.
"""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


class Sandbox:
    """Use as a context. memory_mb: beyond what the program itself takes; cpu_s, wall_s: for each file.

    Every 300 files a new process: one does not return all memory of a file.
    """

    def __init__(self, *, memory_mb=1024, cpu_s=30, wall_s=300):
        self._command = [sys.executable, str(Path(__file__)), str(memory_mb), str(cpu_s)]
        self._wall_s, self._process, self._opened = wall_s, None, 0

    def open(self, kind, path):
        """(outcome, message): as above, or "crash" with the signal, or "hang"."""
        self._opened += 1
        if self._opened % 300 == 0:
            self._end()
        if self._process is None:
            environment = os.environ | {
                "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "MALLOC_ARENA_MAX": "1",
            }  # fmt: skip
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert self._process.stdout.readline() == b"ready\n"
        self._process.stdin.write(f"{kind}\t{path}\n".encode())
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], self._wall_s)[0]:
            self._end()
            return "hang", ""
        if not (line := self._process.stdout.readline()):
            code = self._process.wait()
            self._end()
            return "crash", signal.Signals(-code).name if code < 0 else f"exit code {code}"
        answer = json.loads(line)
        return answer["outcome"], answer["message"]

    def _end(self):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._end()


class TooSlow(Exception):
    """A file took more processor time than it may."""


def _open(kind, path):
    """Reads all of a file, as a user's program would."""
    from pulse3d import errors, result, stream, video
    from pulse3d.network import weights_file

    if kind == "weights":
        return weights_file.load_weights(str(path))
    if kind == "checkpoints":
        _resume(path)
        return None
    if kind == "result":
        found = result.Result.load(path)
        return [found, *(entry.sum() for entry in found.probabilities())]
    source = video.open_video(path, fps=30.0 if path.suffix in (".npy", ".npz") else None)
    if kind == "frames":
        return sum(1 for _ in source.frames())
    if kind in ("video", "images"):
        lost = []
        frames = video.what_is_there(video.read_ahead(source.frames()), lost)
        mapper = uniform_mapper(_toy(), (source.height, source.width), stride_px=10**6)
        count = sum(1 for _ in stream.map_windows(frames, mapper))
        if lost and not count:
            raise errors.InputError(lost[0])
        return count
    raise ValueError(kind)


def uniform_mapper(settings, shape, *, stride_px=None):
    """A mapper of frames (height, width) whose network finds every class alike, everywhere."""
    from pulse3d.mapping.layout import make_layout
    from pulse3d.mapping.mapper import window_mapper

    layout = make_layout(shape, settings, stride_px=stride_px)
    answer = np.full((*layout.places, settings.clip.classes), 1 / settings.clip.classes, np.float32)
    return window_mapper(settings, layout, lambda window: answer, lambda window: answer)


def states():
    """The states of two checkpoints, for `train.run` of the toy problem."""
    import jax

    from pulse3d.training import train

    first = train.init_state(_toy())
    return [jax.tree.map(lambda leaf, add=step: leaf + add, first) for step in (1, 2)]


def _resume(workdir):
    """Restores as a trainer does; raises AssertionError where it comes to a state that was never saved.

    Or where it begins anew, or says what is damaged in more than a line of text.
    """
    import jax

    from pulse3d.training import checkpoint

    saved = states()
    store = checkpoint.Checkpoints(workdir, "accuracy")
    if store.latest_step() is None:
        raise AssertionError("training would begin anew")
    for state in (store.restore_latest(saved[0]), store.restore_best(saved[0])[1]):
        leaves = jax.tree.leaves(state)
        if not any(
            all(np.array_equal(a, b) for a, b in zip(leaves, jax.tree.leaves(other), strict=True))
            for other in saved
        ):
            raise AssertionError("a state that was never saved")
    store.close()
    if not all(line.isprintable() for line in store.damaged):
        raise AssertionError(f"more than a line of text each: {store.damaged}")


def _toy():
    from pulse3d import config

    return config.Config(
        clip=config.ClipConfig(fps=15.0, frames=24, patch_px=8, low_bpm=60.0, high_bpm=240.0, rates=4),
        model=config.ModelConfig(filters=8, kernel=(20, 5, 5), hidden=32),
    )


def main(memory_mb, cpu_s):
    def stop(*_):
        raise TooSlow

    with contextlib.suppress(ImportError):
        import h5py  # noqa: F401
    from pulse3d import errors, result, stream, video  # noqa: F401
    from pulse3d.network import weights_file
    from pulse3d.training import train  # noqa: F401

    weights_file.load_weights("paper")  # so that all that is loaded once is there
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, stop)
    print("ready", flush=True)
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        outcome, message = "result", ""
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            _open(kind, Path(path))
        except errors.InputError as error:
            outcome, message = "refused", str(error)
        except Exception as error:
            outcome, message = type(error).__name__, str(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"outcome": outcome, "message": message}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
