r"""Trains a network on synthetic video, made on the device inside the training step.

    python -m launch.train --workdir=runs/paper --preset=paper --set train.batch_size=152

Writes into --workdir: config.json, checkpoints/, metrics.csv, TensorBoard events, curve.png and
weights.npz (the best checkpoint, for `launch.predict --weights=WORKDIR`). A folder that holds a
run is resumed from its last checkpoint. SIGTERM and Ctrl-C save a checkpoint after the current step and exit
with 128 + the signal's number, which marks the run as unfinished.

Several processes, on one machine or many, train one network with --distributed: run the same command for
each, with --workdir on a file system that all of them can access. Process 0 writes the files.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags
from jax.experimental import multihost_utils

from pulse3d import __version__, config
from pulse3d.network import weights_file
from pulse3d.settings import override, to_dict
from pulse3d.showing import training_figures
from pulse3d.training import checkpoint, train
from pulse3d.training.log import Logbook

from . import common

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; resumed if it holds one.", required=True)
_PRESET = flags.DEFINE_string("preset", config.DEFAULT_PRESET, f"One of {', '.join(config.PRESETS)}.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Number of updates; short for --set train.steps=N.", lower_bound=1
)
_SET = flags.DEFINE_multi_string(
    "set", [], "Overrides a setting: --set train.learning_rate=3e-4. Repeatable."
)
_INIT = flags.DEFINE_string("init", None, "Weights to start a new run from (as predict's --weights).")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes; jax finds the others on Slurm, Kubernetes, TPU."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Elsewhere: HOST:PORT, a free port of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Elsewhere: number of processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "Elsewhere: index of this process.", lower_bound=0)
_PROFILE = flags.DEFINE_string(
    "profile_dir", None, "Writes a JAX profile of the steps up to the first record."
)
GROUPS = {
    "Run": (_WORKDIR, _STEPS, _PROFILE),
    "Model": (_PRESET, _SET, _INIT),
    "Several processes": (_DISTRIBUTED, _COORDINATOR, _PROCESSES, _PROCESS),
}


def main() -> None:
    settings = override(config.get_preset(_PRESET.value), _SET.value)
    if _STEPS.value:
        settings = override(settings, [f"train.steps={_STEPS.value}"])
    common.join_processes(_DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    leads = jax.process_index() == 0
    init = weights_file.load_weights(_INIT.value, like=settings) if _INIT.value else None
    workdir = Path(_WORKDIR.value)
    common.require_agreement([to_dict(settings), _INIT.value], "--preset, --set, --steps, --init")
    lock = checkpoint.lock_workdir(workdir) if leads else None
    common.require_everywhere(
        lock is not None or not leads,
        f"{workdir}: another process is training there; wait for it, or choose another --workdir",
    )
    checkpoint.prepare_workdir(workdir, settings, write=leads)
    checkpoints = checkpoint.Checkpoints(workdir, settings.train.keep_best)
    mesh = train.make_mesh()
    state = train.put_on(mesh, train.init_state(settings, params=init.params if init else None))
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore_latest(state)
        if leads:
            warn(checkpoints)
            print(f"resuming {workdir} after step {int(state.step)}")
    train_to_end(workdir, settings, state, mesh, checkpoints, leads=leads)
    step, best = checkpoints.restore_best(state)
    if leads:
        warn(checkpoints)
    params, scores = best.final_params, train.fresh_scores(best.final_params, settings, mesh)
    checkpoints.close()
    if leads:
        training_figures.learning_curve(
            workdir / "metrics.csv", workdir / "curve.png", title=f"{settings.preset}: validation"
        )
        export(workdir, settings, step, params, scores, init)


def train_to_end(
    workdir: Path,
    settings: config.Config,
    state: train.TrainState,
    mesh: jax.sharding.Mesh,
    checkpoints: checkpoint.Checkpoints,
    *,
    leads: bool,
) -> None:
    """Trains with a log, the progress and checkpoints; exits the program if stopped or on failure."""
    started, first_step = time.time(), int(state.step)
    with (
        Logbook(workdir, first_step) if leads else contextlib.nullcontext() as logbook,
        common.progress(
            "training", settings.train.steps, "step", initial=first_step, hidden=not leads
        ) as bar,
        contextlib.ExitStack() as profile,
        preemption() as stop,
    ):
        if _PROFILE.value and leads:
            profile.enter_context(jax.profiler.trace(_PROFILE.value))
        try:
            for record in train.run(settings, state, mesh, stop=stop):
                profile.close()
                clips_per_s = (record.step - first_step) * settings.train.batch_size / (time.time() - started)
                if logbook:
                    logbook.write(record, clips_per_s)
                bar.set_postfix_str(f"loss {record.train['loss']:.3f}, {clips_per_s:.0f} clips/s")
                bar.update(record.step - bar.n)
                if record.validation or record.stopping:
                    checkpoints.save(record.step, record.state, record.validation)
                if record.validation and leads:
                    measured = ", ".join(f"{k} {v:.4f}" for k, v in record.validation.items())
                    bar.write(f"step {record.step}: {measured}")
                if record.stopping:
                    bar.close()
                    kept = f"step {record.step} is saved in {workdir}"
                    if leads:
                        print(f"stopped: {kept}; the same command goes on from there", file=sys.stderr)
                    sys.exit(128 + stop.number)
        except (train.TrainingDiverged, checkpoint.SaveFailed, OSError) as error:
            last = checkpoints.latest_step()
            kept = f"the checkpoint of step {last} is kept" if last else "there is no checkpoint yet"
            print(f"error: {error}; {kept} in {workdir}", file=sys.stderr)
            sys.exit(1)


class Preemption:
    """Called after every step: whether a signal has asked to stop; `number`: which one."""

    def __init__(self, stop: common.Stop | None):
        self._stop = stop

    @property
    def number(self) -> int:
        """The number of the signal."""
        return self._stop.number if self._stop else signal.SIGTERM

    def __call__(self, step: int) -> bool:
        """Whether to end after this step."""
        if self._stop:
            return self._stop.is_set()
        return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def preemption() -> Iterator[Preemption]:
    """Ends training after the step on SIGTERM or Ctrl-C; a signal to one of several processes ends all."""
    if jax.process_count() > 1:
        yield Preemption(None)  # the runtime catches the signal and agrees on a step
    else:
        with common.stop_on_interrupt() as stop:
            yield Preemption(stop)


def warn(checkpoints: checkpoint.Checkpoints) -> None:
    """Prints which checkpoints are damaged."""
    while checkpoints.damaged:
        print(f"warning: {checkpoints.damaged.pop()}", file=sys.stderr)


def export(workdir: Path, settings: config.Config, step: int, params, scores: dict, init) -> None:
    """Writes finished parameters and their scores (`train.fresh_scores`) as a weights file."""
    provenance = {
        "pulse3d": __version__,
        "jax": jax.__version__,
        "command": "python -m launch.train " + " ".join(sys.argv[1:]),
        "seed": settings.train.seed,
        "step": step,
        "clips_seen": step * settings.train.batch_size,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        **scores,
        "curve": Logbook.validation_curve(workdir),
        "init": init.provenance if init else None,
    }
    weights_file.save_weights(workdir / "weights.npz", params, settings, provenance)
    print(
        f"{workdir / 'weights.npz'}: step {step}, on {scores['fresh_clips']} fresh clips "
        + ", ".join(f"{k} {v:.4f}" for k, v in scores["fresh_clips_scores"].items())
    )


if __name__ == "__main__":
    common.run(main)
