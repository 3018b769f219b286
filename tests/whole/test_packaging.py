"""What a user installs: the wheel and the source archive, in an empty place."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from helpers.launching import ROOT

import pulse3d

pytestmark = pytest.mark.slow

NEEDED = (
    "weights/default.npz",
    "weights/paper.npz",
    "showing/page/page.html",
    "showing/page/page.js",
    "showing/page/page.css",
    "serving/page/serve.html",
    "serving/page/serve.js",
    "serving/page/serve.css",
    "py.typed",
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The files that belong to the package, as in a clean checkout."""
    folder = tmp_path_factory.mktemp("checkout") / "pulse3d"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def installed(copy, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels = tmp_path_factory.mktemp("wheels")
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, copy], check=True, timeout=300)
    [wheel] = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True, timeout=300)
    return wheel, target


def test_wheel_has_all_that_is_needed_and_nothing_else(installed):
    with zipfile.ZipFile(installed[0]) as wheel:
        names = wheel.namelist()
    assert not {f"pulse3d/{name}" for name in NEEDED} - set(names)
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"pulse3d"}
    assert f"-{pulse3d.__version__}-" in installed[0].name


def test_source_archive_builds(copy, tmp_path):
    program = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-W", "ignore", "-c", program, tmp_path, cwd=copy)
    [archive] = tmp_path.iterdir()
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert not {"setup.py", "README.md", "launch/predict.py", *(f"pulse3d/{name}" for name in NEEDED)} - names


def run(*command, cwd, path=ROOT):
    environment = os.environ | {"PYTHONPATH": str(path), "XLA_FLAGS": ""}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_runs_from_anywhere(installed, tmp_path):
    _, target = installed
    command = (sys.executable, target / "bin" / "pulse3d", "predict")
    helped = run(*command, "--help", cwd=tmp_path, path=target)
    assert "pulse3d predict me.mp4" in helped.stdout
    assert helped.returncode == 0
    assert run(*command, "--version", cwd=tmp_path, path=target).stdout == f"pulse3d {pulse3d.__version__}\n"
    assert "--[no]json" in helped.stdout
    wrong = run(*command, "--vidoe=x", cwd=tmp_path, path=target)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)


def test_the_installed_package_is_the_one_that_runs(installed, tmp_path):
    _, target = installed
    program = "import pulse3d; print(pulse3d.__file__, pulse3d.__version__)"
    found = run(sys.executable, "-c", program, cwd=tmp_path, path=target).stdout.split()
    assert found == [str(target / "pulse3d" / "__init__.py"), pulse3d.__version__]
    np.save(tmp_path / "clip.npy", np.full((60, 32, 48), 100, np.uint8))
    command = (
        sys.executable,
        target / "bin" / "pulse3d",
        "clip.npy",
        "--fps=30",
        "--weights=paper",
        "--json",
    )
    mapped = run(*command, cwd=tmp_path, path=target)
    assert json.loads(mapped.stdout)["windows"] == 1, mapped.stderr
