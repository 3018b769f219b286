from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips beside the repository, or PULSE3D_SHARED; skips without it."""
    folder = Path(os.environ.get("PULSE3D_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "clips").is_dir():
        pytest.skip("no real clips; set PULSE3D_SHARED to the folder that holds clips/")
    return folder
