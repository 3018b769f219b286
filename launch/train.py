r"""Trains a network on synthetic video, made on the device inside the training step.

    python -m launch.train --workdir=runs/paper --preset=paper --set train.batch_size=152

Writes into --workdir: config.json, checkpoints/, metrics.csv, TensorBoard events, curve.png and
weights.npz (the best checkpoint, for `launch.predict --weights=WORKDIR`). A folder that holds a
run is resumed from its last checkpoint.
"""

import contextlib
import sys
import time
from pathlib import Path

import jax
import tqdm
from absl import flags

from launch import common
from pulse3d import __version__, checkpoint, config, plots, train
from pulse3d.logbook import Logbook

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; resumed if it holds one.", required=True)
_PRESET = flags.DEFINE_string("preset", config.DEFAULT_PRESET, f"One of {', '.join(config.PRESETS)}.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Number of updates; short for --set train.steps=N.", lower_bound=1
)
_SET = flags.DEFINE_multi_string(
    "set", [], "Overrides a setting: --set train.learning_rate=3e-4. Repeatable."
)
_INIT = flags.DEFINE_string("init", None, "Weights to start a new run from (as predict's --weights).")
_PROFILE = flags.DEFINE_string(
    "profile_dir", None, "Writes a JAX profile of the steps up to the first record."
)


def main() -> None:
    settings = config.override(config.get_preset(_PRESET.value), _SET.value)
    if _STEPS.value:
        settings = config.override(settings, [f"train.steps={_STEPS.value}"])
    init = checkpoint.load_weights(_INIT.value, like=settings) if _INIT.value else None
    workdir = Path(_WORKDIR.value)
    checkpoint.prepare_workdir(workdir, settings)
    checkpoints = checkpoint.Checkpoints(workdir, settings.train.keep_best)
    state = train.init_state(settings, params=init.params if init else None)
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore_latest(state)
        print(f"resuming {workdir} after step {int(state.step)}")
    mesh = train.make_mesh()
    started, first_step = time.time(), int(state.step)
    with (
        Logbook(workdir, first_step) as logbook,
        tqdm.tqdm(total=settings.train.steps, initial=first_step, unit="step", disable=None) as bar,
        contextlib.ExitStack() as profile,
    ):
        if _PROFILE.value:
            profile.enter_context(jax.profiler.trace(_PROFILE.value))
        try:
            for record in train.run(settings, state, mesh):
                profile.close()
                clips_per_s = (record.step - first_step) * settings.train.batch_size / (time.time() - started)
                logbook.write(record, clips_per_s)
                bar.set_postfix_str(f"loss {record.train['loss']:.3f}, {clips_per_s:.0f} clips/s")
                bar.update(record.step - bar.n)
                if record.validation:
                    checkpoints.save(record.step, record.state, record.validation)
                    bar.write(
                        f"step {record.step}: "
                        + ", ".join(f"{k} {v:.4f}" for k, v in record.validation.items())
                    )
        except train.TrainingDiverged as error:
            last = checkpoints.latest_step()
            kept = f"the checkpoint of step {last} is kept" if last else "there is no checkpoint yet"
            print(f"error: {error}; {kept} in {workdir}", file=sys.stderr)
            sys.exit(1)
    plots.learning_curve(
        workdir / "metrics.csv", workdir / "curve.png", title=f"{settings.preset}: validation"
    )
    export(workdir, settings, checkpoints, state, init)
    checkpoints.close()


def export(workdir: Path, settings: config.Config, checkpoints, template, init) -> None:
    """Writes the best checkpoint as a weights file, scored on clips used for nothing else."""
    step, state = checkpoints.restore_best(template)
    scores = train.make_evaluate(settings)(state.final_params, seed=2)
    params = train.flatten_null_response(state.final_params, settings)
    provenance = {
        "pulse3d": __version__,
        "jax": jax.__version__,
        "command": "python -m launch.train " + " ".join(sys.argv[1:]),
        "seed": settings.train.seed,
        "step": step,
        "clips_seen": step * settings.train.batch_size,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "fresh_clips": settings.train.eval_clips,
        "fresh_clips_scores": scores,
        "curve": Logbook.validation_curve(workdir),
        "init": init.provenance if init else None,
    }
    checkpoint.save_weights(workdir / "weights.npz", params, settings, provenance)
    print(
        f"{workdir / 'weights.npz'}: step {step}, on {settings.train.eval_clips} fresh clips "
        + ", ".join(f"{k} {v:.4f}" for k, v in scores.items())
    )


if __name__ == "__main__":
    common.run(main)
