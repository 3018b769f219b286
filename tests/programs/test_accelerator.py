"""The program that measures an accelerator, in small and on the CPU."""

import importlib.util
import json
import subprocess
import sys
import tarfile
from importlib.machinery import SourceFileLoader

import pytest
from helpers.launching import ROOT

from pulse3d.network import weights_file

SCRIPT = ROOT / ".ci" / "accelerator"


@pytest.fixture(scope="module")
def accelerator():
    loader = SourceFileLoader("accelerator", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("accelerator", loader))
    loader.exec_module(module)
    return module


@pytest.mark.slow
def test_all_parts_in_small(tmp_path):
    # time enough on a busy machine; the parts are as short as without it
    command = [sys.executable, SCRIPT, "--small", "--seconds=860", f"--out={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "accelerator.json").read_text())
    trained = ["paper in float32"]
    speeds = [f"{name}: speed" for name in trained]
    assert set(found["parts"]) == {"machine", "tests", "benchmark", "map of 96x128", *trained, *speeds}
    assert all(part["end"] == 0 for part in found["parts"].values())
    assert found["small"]
    assert 0 < found["seconds"] < 900
    assert found["parts"]["machine"]["platform"] == "cpu"
    assert "[100%]" in found["parts"]["tests"]["counted"][0]
    assert set(found["parts"]["benchmark"]["found"]["skipped"]) == {"schedule"}, "it is for accelerators"
    assert found["parts"]["map of 96x128"]["windows"] > 0
    for name in trained:
        assert found["parts"][name]["clips_per_s"] > 0
        weights = weights_file.load_weights(str(tmp_path / f"{name.replace(' ', '_')}.npz"))
        assert weights.config.train.compute == name.rpartition(" ")[2]
    with tarfile.open(tmp_path / "logs.tar") as logs:
        assert {name.split("/")[0] for name in logs.getnames()} == {
            name.replace(" ", "_") for name in (*trained, *speeds)
        }


def test_a_part_that_fails_or_takes_too_long_is_kept_and_stops_nothing(accelerator, tmp_path):
    machine = accelerator.Machine(tmp_path, tmp_path / "scratch", 60.0, True)
    said = machine.python("good", "-c", "print('words'); print('{\"a\": 1}')", limit_s=30)
    machine.last_line("good", said)
    machine.python("bad", "-c", "import sys; print('why'); sys.exit(3)", limit_s=30)
    machine.python("slow", "-c", "import time; print('begun', flush=True); time.sleep(60)", limit_s=2)
    parts = json.loads((tmp_path / "accelerator.json").read_text())["parts"]
    assert (parts["good"]["end"], parts["good"]["a"]) == (0, 1)
    assert (parts["bad"]["end"], parts["bad"]["said"]) == (3, "why\n")
    assert (parts["slow"]["end"], parts["slow"]["said"]) == ("out of time", "begun\n")


def test_speed_leaves_out_what_was_before_the_first_record(accelerator):
    """Ten steps of 20 clips in 50 s, compiling included, then 20 more in 4 s."""
    rows = [{"step": "10", "clips_per_s": "4"}, {"step": "30", "clips_per_s": str(600 / 54)}]
    assert accelerator.speed(rows, ("train.batch_size=20", "train.steps=30")) == pytest.approx(100)
