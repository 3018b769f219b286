r"""Writes clips from the generator, to look at or to use elsewhere.

    python -m launch.synthesize --out=samples --clips=12

Writes into --out: clips.npz (clips, label, rate_bpm: nan for no pulse) and clips.png (the mean
over time and one frame of each).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from pulse3d import archive, config, files
from pulse3d.settings import override
from pulse3d.showing import figures, training_figures
from pulse3d.synthetic import paper_clips, scene_laws, scenes

from . import common

_OUT = flags.DEFINE_string("out", "pulse3d_out/samples", "Output folder.")
_PRESET = flags.DEFINE_string("preset", config.DEFAULT_PRESET, f"One of {', '.join(config.PRESETS)}.")
_CLIPS = flags.DEFINE_integer("clips", 12, "Number of clips.", lower_bound=1, upper_bound=10_000)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random generator.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces clips that are in --out already.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting: --set generator.quantise_no_pulse=true.")
GROUPS = {"Output": (_OUT, _OVERWRITE), "Clips": (_CLIPS, _SEED, _PRESET, _SET)}


def main() -> None:
    settings = override(config.get_preset(_PRESET.value), _SET.value)
    out = Path(_OUT.value)
    if not _OVERWRITE.value:
        files.refuse_to_overwrite(out, ("clips.npz", "clips.png"))
    files.make_folder(out)
    keys = jax.random.split(jax.random.key(_SEED.value), _CLIPS.value)
    with common.progress("making clips"):
        clips, label, rate_bpm = jax.device_get(jax.jit(jax.vmap(lambda key: sample(key, settings)))(keys))
    arrays = {"clips": clips, "label": label, "rate_bpm": rate_bpm, "fps": settings.clip.fps}
    archive.write_arrays(out / "clips.npz", **arrays)
    shown = slice(0, 24)
    figure = training_figures.clips_figure(np.asarray(clips)[shown], rate_bpm[shown], settings.clip.fps)
    figures.save_figure(figure, out / "clips.png")
    print(f"{_CLIPS.value} clips written to {out}: clips.npz, clips.png")


def sample(key: jax.Array, settings: config.Config) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A clip (or a scene's relative colour changes), its label, and its rate in bpm, nan for none.

    A scene has a label for every cell (`scenes.Scene`) and the rate of its first living region.
    """
    if not isinstance(settings.generator, config.ScenesConfig):
        clip, label = paper_clips.make_clip(key, settings)
        return clip, label, jnp.append(settings.clip.rate_axis_bpm, jnp.nan)[label]
    scene = scenes.make_scene(key, settings)
    alive = jnp.stack([(scene.label == region).any() for region in range(scene_laws.REGIONS)])
    rate_bpm = jnp.where(alive.any(), scene.rate_bpm.mean(1)[alive.argmax()], jnp.nan)
    return scene.video / scene.video.mean(0) - 1, scene.label, rate_bpm


if __name__ == "__main__":
    common.run(main)
