"""The house rules that a program can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A module imports only from layers before its own.
LAYERS = [
    {"errors"},
    {"config", "whole"},
    {"waveform", "convolution", "metrics", "video", "nuisance", "timing", "cells"},
    {"beats", "calibration", "map_truth"},
    {"cellnet"},
    {"scenes", "model"},
    {"generator", "tiles", "original"},
    {"dense", "cellmap", "readout", "amplitude"},
    {"mapping", "places"},
    {"scene", "files", "baselines"},
    {"train", "checkpoint", "datasets"},
    {"logbook", "stream", "pulseless", "faces", "peers"},
    {"evaluation", "result"},
    {"plots", "regions", "interchange"},
    {"evaluation_plots", "report"},
]
MODULES = sorted(p.stem for p in (ROOT / "pulse3d").glob("*.py") if p.stem != "__init__")
OWNERS = {
    "orbax": {"checkpoint"},
    "imageio": {"video"},
    "av": {"video"},
    "plotly": {"report"},
    "rppg": {"peers"},
    "skimage": {"faces"},
    "matplotlib": {"plots", "evaluation_plots"},
}


# A result draws itself, with what is imported when it does.
DRAWS = {("result", "plots"), ("result", "report")}


def imports(path):
    """(module, name) pairs that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    layer = next(i for i, names in enumerate(LAYERS) if module in names)
    allowed = set().union(*LAYERS[:layer])
    for source, name in imports(ROOT / "pulse3d" / f"{module}.py"):
        assert not source.startswith("launch")
        if source == "pulse3d" and name != "__version__":
            assert name in allowed or (module, name) in DRAWS, f"{module} imports {name}"
        elif source.startswith("pulse3d."):
            assert source.split(".")[1] in allowed, f"{module} imports {source}"


def test_one_owner_per_side_effect():
    for path in [*(ROOT / "pulse3d").glob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        for source, _ in imports(path):
            if (path.stem, source) == ("result", "matplotlib.figure"):  # for the type alone
                continue
            owners = OWNERS.get(source.split(".")[0])
            assert owners is None or path.stem in owners, f"{path.name} imports {source}"


def test_no_pickle():
    for path in (ROOT / "pulse3d").glob("*.py"):
        text = path.read_text()
        assert not any(source in ("pickle", "dill", "cloudpickle") for source, _ in imports(path))
        assert "allow_pickle=True" not in text
        for call in re.findall(r"np\.load\([^\n]*", text):
            assert "allow_pickle=False" in call


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys, pulse3d; assert not {'jax', 'numpy', 'av'} & set(sys.modules);"
        "from pulse3d import Result, map_stream, map_video, open_video, stream;"
        "assert map_stream is stream.map_stream"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_licence_of_every_dependency_is_listed():
    setup = (ROOT / "setup.py").read_text()
    block = setup[setup.index("install_requires=[") : setup.index("extras_require")]
    needed = {name.lower() for name in re.findall(r'^ +"([A-Za-z0-9_.-]+)', block, re.MULTILINE)}
    rows = [line.split("|") for line in (ROOT / ".github" / "LICENSES.md").read_text().splitlines()]
    listed = {row[1].strip(): row[3].strip() for row in rows if len(row) == 5}
    assert len(needed) >= 12
    assert needed <= {name.replace("_", "-") for name in listed}
    assert all(listed.values())
    assert "not stated" not in listed.values()
