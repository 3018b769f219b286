"""Machines as they are: without a device or a cache, programs work or say why in one line."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from helpers.launching import ROOT, environment_of

from launch import common

CLIPS = ("synthesize", "--preset=paper", "--clips=1", "--out={tmp}/out")
KEPT = "compiled programs cannot be kept"
# program; environment; exit code; what the only line on stderr says
MACHINES = {
    "without the device": (CLIPS, {"JAX_PLATFORMS": "nonsense"}, 2, "error: JAX_PLATFORMS=nonsense: "),
    "with a broken plug-in": (CLIPS, {"PYTHONPATH": f"{ROOT}:{{tmp}}/plug"}, 0, "plugin configuration error"),
    "with a hidden device": (CLIPS, {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": ""}, 0, ""),
    "without a home": (("predict", "--help"), {"HOME": "{tmp}/a", "XDG_CACHE_HOME": ""}, 0, KEPT),
    "with a file for a cache": (("predict", "--help"), {"XDG_CACHE_HOME": "{tmp}/a"}, 0, KEPT),
    "without its temporary folder": (CLIPS, {"TMPDIR": "{tmp}/none"}, 0, ""),
}  # fmt: skip


def lines_of(ended):
    """What a program said on stderr, but for its progress on a slow machine."""
    return [line for line in ended.stderr.splitlines() if not line.startswith("making clips: ")]


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_programs_work_or_say_why_in_one_line(tmp_path, name):
    command, given, code, said = MACHINES[name]
    (tmp_path / "a").touch()
    broken = tmp_path / "plug" / "jax_plugins" / "broken"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("def initialize():\n    raise RuntimeError('no driver')\n")
    own = {key: value.format(tmp=tmp_path) for key, value in given.items()}
    environment = environment_of(command[0]) | own
    if KEPT in said:
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    module, *arguments = (text.format(tmp=tmp_path) for text in command)
    ended = subprocess.run(
        [sys.executable, "-m", f"launch.{module}", *arguments], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    lines = lines_of(ended)
    assert len(lines) == bool(said), lines
    assert not said or said in lines[0]


@pytest.mark.slow
def test_a_cache_that_a_full_disk_has_cut_off_is_compiled_anew(tmp_path):
    """What was kept is cut off within a byte, within the data, or empty; the program gives the same."""
    kept = tmp_path / "kept"
    environment = environment_of("synthesize") | {"JAX_COMPILATION_CACHE_DIR": str(kept)}
    clips = []
    for run in ("first", "second"):
        out = tmp_path / run
        command = [sys.executable, "-m", "launch.synthesize", "--preset=paper", "--clips=1", f"--out={out}"]
        ended = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert (ended.returncode, lines_of(ended)) == (0, [])
        clips.append({path.name: path.read_bytes() for path in out.iterdir()})
        entries = sorted(kept.glob("*-cache"))
        assert entries
        for index, entry in enumerate(entries):
            os.truncate(entry, (0, 1, entry.stat().st_size // 2)[index % 3])
    assert clips[0] == clips[1]


@pytest.fixture
def cache_folder():
    """The folder of compiled programs that is configured; that of the tests afterwards."""
    before = jax.config.jax_compilation_cache_dir
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def homeless():
    raise RuntimeError("Could not determine home directory.")


CACHES = {
    "XDG": ({"XDG_CACHE_HOME": "{tmp}/b"}, "{tmp}/b/pulse3d/jax", ""),
    "home": ({"HOME": "{tmp}/c"}, "{tmp}/c/.cache/pulse3d/jax", ""),
    "named": ({"JAX_COMPILATION_CACHE_DIR": "{tmp}/d"}, None, ""),
    "no home": ({}, None, f"warning: cache: {KEPT} (no home folder)"),
    "a file": ({"XDG_CACHE_HOME": "{tmp}/a"}, None, f"a/pulse3d/jax: {KEPT} (Not a directory)"),
    "named a file": ({"JAX_COMPILATION_CACHE_DIR": "{tmp}/a"}, None, f"a: {KEPT} (File exists)"),
}


@pytest.mark.parametrize("name", CACHES)
def test_compiled_programs_are_kept_where_they_can_be(tmp_path, monkeypatch, capsys, cache_folder, name):
    given, folder, said = CACHES[name]
    (tmp_path / "a").touch()
    for key in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(key, raising=False)
    for key, value in given.items():
        monkeypatch.setenv(key, value.format(tmp=tmp_path))
    if "HOME" not in given:
        monkeypatch.setattr(Path, "home", homeless)
    common.cache_compilations()
    err = capsys.readouterr().err
    assert said in err if said else not err
    assert len(err.splitlines()) == bool(said)
    if name != "named":
        assert cache_folder() == (folder and folder.format(tmp=tmp_path))
    assert not any(file.is_file() for file in tmp_path.rglob("*") if file.name != "a"), os.listdir(tmp_path)
