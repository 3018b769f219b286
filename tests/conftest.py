import os
import tempfile
from pathlib import Path

from helpers.compiling import QUICKLY

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Four devices on any machine, so that every test can compare one with several. Programs that tests
# start, but for `train`, and notebooks compile as a user's do.
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count=4 {QUICKLY}"
    )
# What one process has compiled, launchers and notebooks too, no other compiles again.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="pulse3d_tests_", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest

from pulse3d import config


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out what needs more devices than there are."""
    marker = item.get_closest_marker("devices")
    if marker and jax.device_count() < marker.args[0]:
        pytest.skip(f"needs {marker.args[0]} devices")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Research recordings and reference weights; they are no part of the project."""
    path = Path(os.environ.get("PULSE3D_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip("needs the shared research data (PULSE3D_SHARED)")
    return path


@pytest.fixture(scope="session")
def paper() -> config.Config:
    return config.get_preset("paper")


@pytest.fixture(scope="session")
def toy() -> config.Config:
    """A problem that trains in seconds: 4 rates, 24 frames of 8 px, little noise."""
    return config.Config(
        preset="toy",
        clip=config.ClipConfig(fps=15.0, frames=24, patch_px=8, low_bpm=60.0, high_bpm=240.0, rates=4),
        generator=config.GeneratorConfig(noise_high_percent=3.0),
        model=config.ModelConfig(filters=8, kernel=(20, 5, 5), hidden=32, dropout=0.1),
        train=config.TrainConfig(
            batch_size=20,
            steps=6,
            learning_rate=3e-3,
            eval_every=3,
            eval_clips=50,
            eval_batch_size=20,
            log_every=1,
        ),
        map=config.MapConfig(stride_px=3, tile_px=16),
    )


@pytest.fixture(scope="session")
def toy_cells() -> config.Config:
    """The default kind of problem in small: 8 rates, 45 frames, scenes of 6 x 6 cells."""
    return config.Config(
        preset="toy_cells",
        clip=config.ClipConfig(
            fps=15.0, frames=45, patch_px=6, channels=3, low_bpm=60.0, high_bpm=200.0, rates=8
        ),
        generator=config.ScenesConfig(frames=60, windows=1, shortest_s=2.0),
        model=config.CellNetConfig(
            memory_s=2.0,
            filters=4,
            signals=2,
            notes=2,
            first_taps=3,
            taps=3,
            rate_taps=3,
            reaches=(2, 3),
            hidden=6,
            weight_hidden=3,
        ),
        train=config.TrainConfig(
            batch_size=20,
            steps=3,
            learning_rate=1e-2,
            eval_every=3,
            eval_clips=40,
            eval_batch_size=20,
            log_every=1,
            label_sd_bpm=10.0,
            clip_norm=1.0,
            weight_decay=1e-4,
            average=0.9,
        ),
        map=config.MapConfig(centre="relative", shortest_s=2.0, cells=8, stride_px=1),
        readout=config.ReadoutConfig(method="tracked", places=True),
    )


@pytest.fixture(scope="session")
def toy_window(toy):
    """A window of texture and noise for the toy network, 21 x 33 px."""
    import numpy as np

    rng = np.random.default_rng(0)
    texture = rng.uniform(0.2, 0.8, (1, 21, 33, 1))
    return (texture + rng.normal(0, 0.05, (toy.clip.frames, 21, 33, 1))).astype(np.float32)
