"""Every flag of every launcher, and every keyword of the library, at another value than its default.

The flags are those that absl knows, the keywords those of the signatures: one without a case here fails. A
case names what it must change of all that a program writes and prints, and what it may change with it;
everything else must stay as it is in a run without it.
"""

import base64
import contextlib
import dataclasses
import fnmatch
import functools
import gzip
import importlib
import inspect
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable

import jax
import numpy as np
import pytest
import scipy.io
import test_train_program
from absl import flags
from helpers.inputs import encode, write_films
from helpers.launching import ROOT, TOY, read_csv, write_clips

import pulse3d
from launch import common
from launch.benchmarks import timing, videos
from pulse3d import stream, video
from pulse3d.errors import InputError
from pulse3d.mapping import fast_patches, layout
from pulse3d.network import model, weights_file

pytestmark = pytest.mark.slow

LAUNCHERS = ("predict", "serve", "train", "evaluate", "synthesize", "export", "benchmark")
FPS = 15


def take_flags():
    """The flags of the launchers imported so far, by module; they are no longer registered.

    Launchers have flags of the same name, so that those of one are registered only while it runs.
    """
    found = {
        name: list(own)
        for name, own in flags.FLAGS.flags_by_module_dict().items()
        if own and name.startswith("launch.")
    }
    for own in found.values():
        for flag in own:
            delattr(flags.FLAGS, flag.name)
    return found


FLAGS = take_flags()
for _name in LAUNCHERS:
    importlib.import_module(f"launch.{_name}")
    FLAGS |= take_flags()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_help_has_every_flag_in_one_group(launcher):
    groups = importlib.import_module(f"launch.{launcher}").GROUPS
    listed = [holder.name for holders in groups.values() for holder in holders]
    assert sorted(listed) == sorted(flag.name for flag in FLAGS[f"launch.{launcher}"])


def launch(launcher, *arguments):
    """(exit code, stdout, stderr) of a launcher's `main`, in this process."""
    own, out, err = FLAGS[f"launch.{launcher}"], io.StringIO(), io.StringIO()
    for flag in own:
        flags.FLAGS[flag.name] = flag
    try:
        flags.FLAGS([launcher, *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sys.modules[f"launch.{launcher}"].main()
        code = 0
    except SystemExit as end:
        code = end.code
    except InputError as error:
        return 2, out.getvalue(), str(error)
    finally:
        for flag in own:
            flag.unparse()
            delattr(flags.FLAGS, flag.name)
    return code, out.getvalue(), err.getvalue()


def flat(name, value):
    """(name, value) of all leaves of nested dictionaries, and of lists of them."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from flat(f"{name}.{key}", inner)


def contents(path, name):
    """(name, value) of all that a file says; of files that say when they were written, that they exist."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                text = arrays[key].dtype.kind == "U" and str(arrays[key]).startswith("{")
                yield from flat(f"{name}:{key}", json.loads(str(arrays[key])) if text else arrays[key])
    elif path.suffix == ".json":
        yield from flat(name, json.loads(path.read_text()))
    elif path.suffix == ".csv":
        for row in (rows := read_csv(path)):
            for column in row:
                own = [other[column] for other in rows if other.get("method") == row.get("method")]
                yield f"{name}:{row['method']}:{column}" if "method" in row else f"{name}:{column}", own
    elif path.name == "network":
        program = jax.export.deserialize(bytearray(path.read_bytes()))
        window = np.random.default_rng(0).uniform(0.3, 0.7, program.in_avals[0].shape)
        yield name, np.asarray(program.call(window.astype(np.float32)))
    elif path.suffix == ".html":
        data = gzip.decompress(base64.b64decode(re.search(r'id="data">([^<]*)<', path.read_text())[1]))
        end = 4 + int.from_bytes(data[:4], "little")
        yield from flat(name, json.loads(data[4:end]))
        yield f"{name}.maps", data[end:]
    else:
        dated = (".mat", ".svg", ".pb", ".gz")
        yield name, "there" if path.suffix in dated else path.read_bytes()


VOLATILE = {
    "predict": ["summary.json.seconds", "report.html.summary.seconds"],
    "train": ["*.command", "metrics.csv:clips_per_s", "checkpoints*", "tensorboard*", "curve.png"],
    "evaluate": ["*seconds*", "table.md", "printed", "*made_by.root"],
    "synthesize": [],
    "export": ["printed"],
    "benchmark": ["benchmark.json.seconds", "*.load_before", "table.md", "printed"],
}


def snapshot(launcher, folder, printed, err):
    """All that a run wrote and printed, by name, without what no two runs have alike."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = dict(item for path in paths for item in contents(path, str(path.relative_to(folder))))
    for name, text in (("printed", printed), ("stderr", err)):
        found[name] = re.sub(r"; [\d.]+ s\n|\"seconds\": [\d.]+", "", text.replace(str(folder), "OUT"))
    return {name: value for name, value in found.items() if not fits(name, VOLATILE[launcher])}


def fits(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def differences(a, b):
    """Names of what only one has, or both have differently."""

    def same(x, y):
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            return x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        return type(x) is type(y) and x == y

    return {
        name for name in a.keys() | b.keys() if name not in a or name not in b or not same(a[name], b[name])
    }


def assert_changes(expected, found, changes, may):
    """All of `changes` differ, of all else nothing but what `may`."""
    changed = differences(expected, found)
    for pattern in changes:
        assert fnmatch.filter(changed, pattern), f"{pattern} is as before"
    assert [name for name in sorted(changed) if not fits(name, [*changes, *may])] == []


@dataclasses.dataclass(frozen=True)
class Case:
    """A flag in use.

    arguments: beside those of the run to compare with, or `alone`. changes, may: patterns of names. check: of
    (found, expected). prepare: of the folder, before the run. at: where in the folder the results are.
    refused: what it says where it must not run at all.
    """

    arguments: list[str]
    changes: list[str] = dataclasses.field(default_factory=list)
    may: list[str] = dataclasses.field(default_factory=list)
    check: Callable = lambda found, expected: None
    prepare: Callable = lambda out: None
    at: str = ""
    alone: bool = False
    refused: str = ""


@pytest.fixture(scope="module")
def given(tmp_path_factory, toy):
    """A folder of inputs."""
    folder, rng = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    wave = np.sin(2 * np.pi * 1.5 * np.arange(60) / FPS)[:, None, None, None] * [3, 10, 6]
    for name in ("clip", "other"):
        noise = rng.normal(128, 20, (1, 32, 40, 3)) + rng.normal(0, 5, (60, 32, 40, 3))
        np.save(folder / f"{name}.npy", np.clip(noise + wave, 0, 255).astype(np.uint8))
    write_films(
        folder / "two.mkv", np.load(folder / "clip.npy")[:, :24, :24], np.load(folder / "clip.npy"), fps=FPS
    )
    for seed, name in enumerate(("toy", "second")):
        params = jax.tree.map(lambda x: 4 * x, model.init_params(jax.random.key(seed), toy))
        weights_file.save_weights(folder / f"{name}.npz", params, toy, {})
    (folder / "truth.csv").write_text("time_s,rate_bpm\n0,90\n5,90\n")
    clips = write_clips(folder / "clips", names=("b", "c"))
    write_clips(folder / "others", names=("c", "b"))
    subject = folder / "ubfc2" / "subject1"
    subject.mkdir(parents=True)
    frames = np.load(clips / "b.npy")
    encode(subject / "vid.avi", frames, codec="mjpeg", pix_fmt="yuvj420p")
    time_s = np.arange(len(frames)) / FPS
    rows = (np.sin(2 * np.pi * 66 / 60 * time_s), np.full(len(frames), 66.0), time_s)
    (subject / "ground_truth.txt").write_text("\n".join(" ".join(f"{v:.7e}" for v in row) for row in rows))
    return folder


SETTINGS = [argument for argument in TOY if argument.startswith("--set=clip.")]
CELLS = [
    f"--set={setting}"
    for setting in (
        "clip.frames=30", "clip.rates=8", "clip.low_bpm=60", "clip.patch_px=4", "generator.frames=32",
        "generator.shortest_s=1", "model.filters=4", "model.signals=2", "model.first_taps=3", "model.taps=3",
        "model.rate_taps=3", "model.hidden=4", "model.notes=2", "model.weight_hidden=3", "model.reaches=2,3",
        "train.batch_size=20", "train.eval_clips=20", "train.eval_batch_size=20", "train.eval_every=2",
    )
]  # fmt: skip
ALONE = {
    "predict": ["--video=clip.npy", "--fps=15", "--weights=toy.npz", "--out={out}"],
    "train": ["--workdir={out}", *TOY, "--steps=2"],
    "evaluate": [
        "--dataset=clips", "--root=clips", "--out={out}", "--methods=pos,pos_map,toy.npz",
        "--patch=8",
    ],
    "synthesize": ["--out={out}", "--preset=paper", "--clips=4", *SETTINGS, "--set=model.kernel=20,5,5"],
    "export": ["--weights=toy.npz", "--frame=40x32", "--out={out}/network"],
    "benchmark": ["--out={out}", "--small", "--rows=memory"],
}  # fmt: skip

MAPS = [f"map.npz:{name}" for name in ("probability", "*no_pulse", "rate_bpm", "confidence", "snr_db")]
READ = [
    "map.npz:amplitude_percent", "map.npz:pulse_*", "map.npz:low_bpm", "map.npz:high_bpm",
    "map.npz:equation_8_bpm", "map.npz:region_*",
    "rates.csv:*", "regions.csv*", "bvp.csv*", "beats.csv*", "summary.json.*pulse*",
    "summary.json.confid*", "summary.json.regions", "printed",
]  # fmt: skip
PICTURES = ["map.png", "companion.png", "overlay.mp4", "report.html*"]
SHOWN = [*READ, *PICTURES]
COLOURS = ["map.npz:green", "map.npz:colour"]
FRAMES = ["map.npz:frame_s", *COLOURS]
WINDOWS = ["map.npz:time_s", "map.npz:trust", "rates.csv:time_s", "summary.json.windows"]
FILES = ["printed", "summary.json.files", "report.html.summary.files"]


def elsewhere(name="elsewhere"):
    """Results at another place are the same."""
    return Case([f"--out={{out}}/{name}"], at="elsewhere")


def overwriting(*names):
    """What was there is refused, and replaced where asked."""
    return Case(["--overwrite"], prepare=lambda out: [write(out / name) for name in names])


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"before")


def says(name, value):
    """The value of a name is this one, or what a function calls right."""

    def check(found, _):
        assert value(found[name]) if callable(value) else found[name] == value, found[name]

    return check


def spaced(name, pixels):
    return says(name, lambda places: set(np.diff(places)) == {pixels})


def printed_json(found, _):
    summary = json.loads(found["printed"].replace(", ,", ","))
    assert summary.pop("out") == "OUT"
    assert summary["windows"] == found["summary.json.windows"]


def whole_steps(found, _):
    """A step is a whole number of frames, and what is stated is what was done."""
    np.testing.assert_allclose(np.diff(found["map.npz:time_s"]), 0.4)
    assert found["summary.json.step_s"] == 0.4


def as_before(found, expected):
    """Training has not moved the parameters away from where it started."""
    name = "weights.npz:classes/kernel"
    np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


CASES = {
    "predict": {
        "video": Case(
            ["--video=other.npy"],
            [*MAPS, *PICTURES, *COLOURS, "summary.json.video", "map.npz:frame"], SHOWN,
        ),
        "out": elsewhere(),
        "weights": Case(
            ["--weights=second.npz"], [*MAPS, *PICTURES, "*.weights", "map.npz:weights"], SHOWN,
            says("summary.json.weights", "second"),
        ),
        "fps": Case(
            ["--fps=30"], [*WINDOWS, *FRAMES, "summary.json.video_fps", "summary.json.video_duration_s"],
            [*MAPS, *SHOWN, "summary.json.video_seconds_read", "*.windows_without_enough_video"],
            says("map.npz:time_s", lambda time_s: len(time_s) == 1),
        ),
        "stream": Case(
            ["--video=two.mkv", "--stream=1", "--weights=toy.npz", "--out={out}"],
            ["summary.json.video", "summary.json.frame_width_px"], ["*"],
            says("summary.json.frame_width_px", 24), alone=True,
        ),
        "stride": Case(
            ["--stride=4"],
            [*MAPS, *PICTURES, *COLOURS, "map.npz:row_px", "map.npz:col_px", "summary.json.stride_px"],
            SHOWN, spaced("map.npz:row_px", 4),
        ),
        "step_s": Case(
            ["--step_s=0.38"], [*MAPS, *WINDOWS, "summary.json.step_s", "report.html*"], [*SHOWN, *FRAMES],
            whole_steps,
        ),
        "truth": Case(
            ["--truth=truth.csv"],
            ["report.html.truth*", "map.png", "summary.json.truth_*", "printed"], ["report.html*"],
        ),
        "limits_bpm": Case(
            ["--limits_bpm=50,120"], ["map.png", "overlay.mp4", "report.html.scales.rate.*"],
            check=says("report.html.scales.rate.high", 120.0),
        ),
        "figure": Case(["--figure=svg"], ["map.svg", "companion.svg", *FILES]),
        "overwrite": overwriting("rates.csv", "map.mat"),
        "set": Case(
            ["--set=map.centre=window"], ["map.npz:probability", "summary.json.centre"], [*MAPS, *SHOWN],
            says("summary.json.centre", "window"),
        ),
        "mat": Case(["--mat"], ["map.mat", *FILES]),
        "quiet": Case(["--quiet"], ["printed"], check=says("printed", "")),
        "json": Case(["--json"], ["printed"], check=printed_json),
    },
    "train": {
        "workdir": Case(["--workdir={out}/elsewhere"], at="elsewhere"),
        "preset": Case(
            ["--workdir={out}", "--preset=default", "--steps=2", *CELLS],
            ["config.json.preset", "config.json.model.*", "weights.npz:*"], ["*"],
            says("config.json.preset", "default"), alone=True,
        ),
        "steps": Case(
            ["--steps=3"], ["config.json.train.steps", "metrics.csv:*", "weights.npz:*.config.train.steps"],
            ["weights.npz:*", "printed"], says("metrics.csv:step", ["1", "2", "3"]),
        ),
        "set": Case(
            ["--set=train.seed=3"],
            ["config.json.train.seed", "metrics.csv:loss", "weights.npz:classes/kernel", "*.seed"],
            ["metrics.csv:*", "weights.npz:*", "printed"],
        ),
        "init": Case(
            ["--init={base}/weights.npz", "--set=train.learning_rate=1e-12"],
            ["weights.npz:metadata.provenance.init*", "metrics.csv:loss"],
            ["metrics.csv:*", "weights.npz:*", "printed", "config.json.train.learning_rate"], as_before,
        ),
        "profile_dir": Case(["--profile_dir={out}/profile"], ["profile/*.xplane.pb"], ["profile/*"]),
    },
    "evaluate": {
        "dataset": Case(
            ["--dataset=ubfc2", "--root=ubfc2"], ["results.csv:pos:clip", "evidence/pos,subject1*"], ["*"],
            says("results.csv:pos:mae_bpm", lambda found: float(found[0]) < 2),
        ),
        "root": Case(
            ["--root=others"], ["windows.csv:pos:clip", "evidence/pos,b.npz:strength"], ["*"],
            says("windows.csv:pos:clip", ["c", "c", "c", "b", "b", "b"]),
        ),
        "out": elsewhere(),
        "methods": Case(
            ["--methods=pos,green"],
            ["results.csv:green:*", "results.csv:pos_map:*", "evidence/green,b.npz:*"],
            ["*.csv:toy.npz:*", "*.csv:green:*", "*.csv:pos_map:*", "evidence/green,*", "evidence/pos_map,*",
             "evidence/toy.npz,*", "*.png"],
        ),
        "window_s": Case(
            ["--window_s=8"],
            ["results.csv:*:n_windows", "windows.csv:*:time_s", "evidence/pos,b.npz:time_s",
             "evidence/pos_map,b.npz:time_s"],
            ["results.csv:*", "windows.csv:*", "evidence/pos,*", "evidence/pos_map,*", "*.png"],
            says("results.csv:pos:n_windows", ["5", "5"]),
        ),
        "step_s": Case(
            ["--step_s=0.4"], ["results.csv:*:n_windows", "windows.csv:*:time_s", "evidence/*:time_s"],
            ["results.csv:*", "windows.csv:*", "evidence/*", "*.png"],
            says("windows.csv:pos:time_s", lambda t: t[:3] == ["5.000", "5.400", "5.800"]),
        ),
        "recordings": Case(
            ["--recordings=c"], ["results.csv:*:clip", "rate_b.png", "evidence/*,b.npz:*"],
            ["results.csv:*", "windows.csv:*", "*.png"], says("results.csv:pos:clip", ["c"]),
        ),
        "protocol": Case(
            ["--protocol=toolbox"], ["results.csv:*:n_windows", "windows.csv:*:time_s", "*.png"],
            ["results.csv:*", "windows.csv:*", "evidence/pos,*"],
            says("results.csv:pos:n_windows", ["1", "1"]),
        ),
        "shard": Case(
            ["--shard=1/2"], ["results.csv:*:clip", "evidence/*,b.npz:*", "*.png"],
            ["results.csv:*", "windows.csv:*"], says("results.csv:pos:clip", ["c"]),
        ),
        "stride": Case(
            ["--stride=4"],
            ["evidence/pos_map,b.npz:*", "evidence/toy.npz,b.npz:strength", "evidence/*.stride_px"],
            ["evidence/pos_map*", "evidence/toy.npz*", "results.csv:toy.npz*", "results.csv:pos_map:*",
             "windows.csv:toy.npz*", "windows.csv:pos_map:*", "*.png"],
        ),
        "roi": Case(
            ["--roi=frame"], ["evidence/pos,b.npz:face_share", "evidence/pos,*.roi"],
            ["evidence/pos,*", "results.csv:pos:*", "windows.csv:pos:*", "*.png"],
            says("evidence/pos,b.npz:face_share", np.isnan),
        ),
        "patch": Case(
            ["--patch=12"], ["evidence/pos_map,b.npz:strength", "evidence/*.patch_px"],
            ["evidence/pos_map*", "results.csv:pos_map:*", "windows.csv:pos_map:*", "*.png"],
        ),
        "set": Case(
            ["--set=readout.interval=0.5"], ["windows.csv:pos_map:low_bpm", "windows.csv:toy.npz:low_bpm"],
            ["windows.csv:*:low_bpm", "windows.csv:*:high_bpm", "results.csv:*:coverage", "*.png"],
        ),
    },
    "synthesize": {
        "out": elsewhere(),
        "preset": Case(
            ["--out={out}", "--preset=default", "--clips=4", *CELLS], ["clips.npz:clips", "clips.png"],
            ["clips.npz:*"], says("clips.npz:clips", lambda clips: clips.shape == (4, 32, 4, 4, 3)),
            alone=True,
        ),
        "clips": Case(
            ["--clips=6"], ["clips.npz:clips", "clips.npz:label", "clips.png", "printed"],
            ["clips.npz:rate_bpm"], says("clips.npz:clips", lambda clips: len(clips) == 6),
        ),
        "seed": Case(["--seed=3"], ["clips.npz:clips", "clips.png"], ["clips.npz:*"]),
        "overwrite": overwriting("clips.npz", "clips.png"),
        "set": Case(
            ["--set=generator.noise_high_percent=90"], ["clips.npz:clips", "clips.png"],
        ),
    },
    "export": {
        "weights": Case(["--weights=second.npz"], ["network", "network.json.weights"]),
        "frame": Case(
            ["--frame=48x32"],
            ["network", "*.frame_width_px", "*.input_shape", "*.output_shape", "*.col_px"],
        ),
        "stride": Case(
            ["--stride=4"], ["network", "*.row_px", "*.col_px", "*.output_shape"],
            check=spaced("network.json.row_px", 4),
        ),
        "out": elsewhere("elsewhere/network"),
        "overwrite": overwriting("network", "network.json"),
    },
    "benchmark": {
        "out": elsewhere(),
        "overwrite": overwriting("benchmark.json", "table.md"),
        "rows": Case(
            ["--rows=schedule"], ["*.figures.0.what", "*.skipped.schedule", "stderr"], ["*.figures*"],
        ),
        "repeats": Case(
            ["--repeats=8"], ["*.repeats", "stderr"], ["*.figures*"],
            says("stderr", lambda text: text.count("measured") == 1 + 2 * 4),
        ),
        "device": Case(["--device=tpu"], refused="--device=tpu: JAX sees none"),
        "minutes": Case(
            ["--minutes=3"], ["*.figures.0.ratio.median", "stderr"], ["*.figures*"],
            says("benchmark.json.figures.0.ratio.median", 3.0),
        ),
        "small": Case(
            ["--nosmall", "--rows=schedule"], ["*.sizes.frame", "*.sizes.matrix"],
            ["*.sizes.*", "*.figures*", "*.skipped.schedule", "stderr"],
        ),
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def program(given, monkeypatch):
    """Runs in the folder of the inputs, and leaves jax and that folder as they are."""
    monkeypatch.chdir(given)
    before, device = sorted(given.iterdir()), jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", device)
    assert sorted(given.iterdir()) == before


@pytest.fixture(scope="module", autouse=True)
def measured():
    """The benchmark's commands take what their video is long, and say so."""

    def predict(bench, path, name, *options):
        seconds = round(video.open_video(path).duration_s)
        print("measured", seconds, "s", file=sys.stderr)
        return timing.Usage(1.0, 10**6 * seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(videos, "predict", predict)
        patched.setattr(common, "LINE_S", 1000.0)  # how far a program is depends on the machine
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A function from a launcher to what it does without any of the cases, and its folder."""
    done = {}

    def run(launcher):
        if launcher not in done:
            out = tmp_path_factory.mktemp(launcher)
            code, printed, err = launch(launcher, *(text.format(out=out) for text in ALONE[launcher]))
            assert code == 0, err
            done[launcher] = snapshot(launcher, out, printed, err), out
        return done[launcher]

    return run


# of a launcher's lock, which goes with its process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("launcher", "flag"), [(name, flag) for name in CASES for flag in CASES[name]])
def test_flag(launcher, flag, base, tmp_path):
    case, (expected, base_folder), out = CASES[launcher][flag], base(launcher), tmp_path / "out"
    case.prepare(out)
    arguments = [*([] if case.alone else ALONE[launcher]), *case.arguments]
    arguments = [argument.format(out=out, base=base_folder) for argument in arguments]
    if flag == "overwrite":
        before = sorted(out.iterdir())
        code, _, err = launch(launcher, *arguments[:-1])
        assert (code, sorted(out.iterdir())) == (2, before)
        assert "give --overwrite" in err
    code, printed, err = launch(launcher, *arguments)
    if case.refused:
        assert (code, out.exists()) == (2, False)
        assert case.refused in err
        return
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not case.at or [path.name for path in out.iterdir()] == [case.at]
    found = snapshot(launcher, out / case.at, printed, err)
    assert_changes(expected, found, case.changes, case.may)
    case.check(found, expected)


# flags that take several processes, and the test that starts them
TOGETHER = {"train": {"distributed", "coordinator", "processes", "process"}}
STARTED = test_train_program.test_two_processes_one_of_them_killed_train_the_same_network


# run by tests that need more than the files here, and where these are: masks of skin, a client
ELSEWHERE = {
    "evaluate": ({"place_score", "pulseless"}, "programs/test_evaluate_program.py"),
    "serve": ({"port", "weights", "set", "max_mb", "out"}, "serving/test_serving.py"),
}


def test_every_flag_has_a_case():
    programs = {path.stem for path in (ROOT / "launch").glob("*.py")} - {"__init__", "common", "command"}
    assert programs == set(LAUNCHERS)
    assert set(FLAGS) == {f"launch.{name}" for name in LAUNCHERS}
    for launcher in LAUNCHERS:
        known = {flag.name for flag in FLAGS[f"launch.{launcher}"]}
        together = TOGETHER.get(launcher, set())
        elsewhere, where = ELSEWHERE.get(launcher, (set(), "conftest.py"))
        assert known == CASES.get(launcher, {}).keys() | together | elsewhere, launcher
        assert all(f"--{name}" in inspect.getsource(STARTED) for name in together)
        assert all(f"--{name}" in (ROOT / "tests" / where).read_text() for name in elsewhere)


@contextlib.contextmanager
def through_a_pipe(path):
    """The name of a pipe that gives a file once."""
    pipe = path.parent / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
    writer.start()
    yield str(pipe)
    writer.join()


@contextlib.contextmanager
def through_stdin(path):
    """The name of standard input, which gives a file."""
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    yield "-"
    os.dup2(before, 0)
    os.close(before)


# --stride with: weights, (frames, height, width), other options, how the video comes
PAIRS = {
    "paper": ("paper", (75, 48, 64), [], contextlib.nullcontext),
    "keras": ("{shared}/reference", (75, 48, 64), [], contextlib.nullcontext),
    "default": ("default", (165, 60, 64), [], contextlib.nullcontext),
    "pos": ("pos", (300, 60, 64), [], contextlib.nullcontext),
    "mat": ("toy.npz", (60, 32, 40), ["--mat"], contextlib.nullcontext),
    "step_s": ("toy.npz", (60, 32, 40), ["--step_s=0.4"], contextlib.nullcontext),
    "pipe": ("toy.npz", (60, 32, 40), [], through_a_pipe),
    "stdin": ("toy.npz", (60, 32, 40), [], through_stdin),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_twice_the_stride_is_every_second_place(pair, request, tmp_path):
    name, shape, options, opened = PAIRS[pair]
    name = name.format(shared=request.getfixturevalue("shared") if "{" in name else "")
    weights = weights_file.load_weights(name)
    fps = 30 if weights.config.clip.fps == 30 else FPS
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    path = encode(tmp_path / "a.mkv", frames, times_s=np.arange(shape[0]) / fps, pix_fmt="bgr0")
    step_s = 0.4 if pair == "step_s" else None
    expected = pulse3d.map_video(path, weights, step_s=step_s)
    stride_px = 2 * expected.summary["stride_px"]
    with opened(path) as source:
        code, _, err = launch(
            "predict", f"--video={source}", f"--weights={name}", f"--out={tmp_path / 'out'}",
            f"--stride={stride_px}", *options,
        )  # fmt: skip
    assert code == 0, err
    found = pulse3d.Result.load(tmp_path / "out")
    assert found.summary["stride_px"] == stride_px
    assert found.summary["live"] == (pair in ("pipe", "stdin"))
    np.testing.assert_array_equal(found.row_px, expected.row_px[::2])
    np.testing.assert_array_equal(found.col_px, expected.col_px[::2])
    np.testing.assert_allclose(found.time_s, expected.time_s)
    np.testing.assert_allclose(found.probability, expected.probability[:, ::2, ::2], atol=2e-3)
    if pair == "mat":
        maps = scipy.io.loadmat(tmp_path / "out" / "map.mat")["map_p"]
        np.testing.assert_allclose(maps[..., :-1].transpose(2, 0, 1, 3), found.probability, atol=1e-6)


@pytest.mark.parametrize(("launcher", "videos"), [("predict", 1), ("evaluate", 1), ("export", 1)])
def test_a_layout_is_made_once_for_frames_of_a_size(launcher, videos, tmp_path, monkeypatch):
    made = []

    def counted(*arguments, **options):
        made.append(arguments)
        return layout.make_layout(*arguments, **options)

    monkeypatch.setattr("pulse3d.mapping.mapper.make_layout", counted)
    code, _, err = launch(launcher, *(text.format(out=tmp_path) for text in ALONE[launcher]))
    assert code == 0, err
    assert len(made) == videos


def of_result(result):
    """All that a result says, by name."""
    named = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    named = {name: value for name, value in named.items() if isinstance(value, np.ndarray)}
    said = {name: value for name, value in result.summary.items() if name != "seconds"}
    return named | dict(flat("summary", said)) | {"probability": result.probability}


def of_windows(windows):
    """All that the windows of a stream say, by name."""
    columns = zip(*windows, strict=True)
    return {name: np.array(column) for name, column in zip(stream.WindowResult._fields, columns, strict=True)}


def timed(name):
    return [(index / FPS, image) for index, image in enumerate(np.load(name))]


PLACES = ["probability", "rate_bpm", "confidence", "amplitude_percent", "snr_db"]
VALUES = [
    *PLACES, "trust", "*no_pulse", "pulse_*", "low_bpm", "high_bpm", "equation_8_bpm", "evidence", "reading",
    "summary.*pulse*", "summary.confidence_median", "summary.regions",
]  # fmt: skip
GIVEN = {
    "map_video": {"source": "clip.npy", "weights": "toy.npz", "fps": 15.0},
    "map_stream": {"frames": "clip.npy", "weights": "toy.npz"},
}
# keyword: value, what it must change, what it may change
KEYWORDS = {
    "map_video": {
        "source": ("other.npy", [*PLACES, "frame", "summary.video"], VALUES),
        "weights": ("second.npz", [*PLACES, "summary.weights"], VALUES),
        "fps": (
            30.0, ["time_s", "summary.video_*", "summary.windows*"],
            [*VALUES, "summary.video_seconds_read", "frame_s"],
        ),
        "stream": (1, [], []),
        "stride_px": (4, [*PLACES, "row_px", "col_px", "summary.stride_px"], VALUES),
        "step_s": (0.4, [*PLACES, "time_s", "summary.step_s", "summary.windows"], [*VALUES, "frame_s"]),
        "settings": (["map.centre=window"], ["probability", "summary.centre"], VALUES),
        "progress": (lambda share: None, [], []),
    },
    "map_stream": {
        "frames": ("other.npy", [*PLACES, "green", "colour"], VALUES),
        "weights": ("second.npz", PLACES, VALUES),
        "stride_px": (4, [*PLACES, "green", "colour"], VALUES),
        "step_s": (0.4, [*PLACES, "time_s", "frame_s", "green", "colour"], [*VALUES, "enough_video"]),
        "start_s": (0.4, [*PLACES, "time_s", "frame_s", "green", "colour"], [*VALUES, "enough_video"]),
        "devices": (jax.devices()[2:3], [], []),
        "ahead": (2, [], []),
    },
}  # fmt: skip


def call(function, **keywords):
    """What a function of the library says, by name."""
    if function == "map_video":
        return of_result(pulse3d.map_video(**keywords))
    return of_windows(pulse3d.map_stream(timed(keywords.pop("frames")), **keywords))


@pytest.fixture(scope="module")
def usual():
    """What the functions of the library say without any of the cases."""
    return functools.cache(lambda function: call(function, **GIVEN[function]))


@pytest.mark.parametrize(("function", "keyword"), [(f, keyword) for f in KEYWORDS for keyword in KEYWORDS[f]])
def test_keyword(function, keyword, usual):
    value, changes, may = KEYWORDS[function][keyword]
    found = call(function, **GIVEN[function] | {keyword: value})
    assert_changes(usual(function), found, changes, may)


def test_keyword_devices_says_where_it_runs(monkeypatch):
    used, put = [], fast_patches.put_everywhere
    monkeypatch.setattr(
        fast_patches, "put_everywhere", lambda x, devices: used.append(devices) or put(x, devices)
    )
    call("map_stream", **GIVEN["map_stream"], devices=jax.devices()[2:3])
    assert used
    assert all(devices == jax.devices()[2:3] for devices in used)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_keyword_ahead_takes_windows_before_the_first_is_given(ahead):
    given, frames = [], timed("clip.npy")
    windows = pulse3d.map_stream(
        (given.append(frame) or frame for frame in frames), "toy.npz", step_s=0.4, ahead=ahead
    )
    next(windows)
    assert len(given) == 24 + 6 * ahead
    windows.close()


def test_keyword_progress_is_told_after_every_window():
    told = []
    result = pulse3d.map_video(**GIVEN["map_video"], step_s=0.4, progress=told.append)
    assert len(told) == len(result.time_s) + 1
    np.testing.assert_allclose(told[:-1], (result.time_s + 0.8) / 4)
    assert told[-1] == 1


def test_keyword_stream_of_a_video():
    assert [pulse3d.open_video("two.mkv", stream=number).width for number in (1, 2, None)] == [24, 40, 40]
    with pytest.raises(InputError, match="array: stream = 2: an array is one video"):
        pulse3d.map_video(np.load("clip.npy"), "toy.npz", fps=15.0, stream=2)


def test_keyword_path_and_fps_of_a_video():
    for fps in (15.0, 30.0):
        opened = pulse3d.open_video("clip.npy", fps=fps)
        frames = list(opened.frames())
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(60) / fps)
        assert (opened.name, opened.fps, opened.duration_s) == ("clip.npy", fps, 60 / fps)
        np.testing.assert_array_equal([frame.image for frame in frames], np.load("clip.npy"))


def test_keywords_of_a_result(tmp_path):
    """Where it is saved, reported and loaded from."""
    made = pulse3d.map_video(**GIVEN["map_video"])
    assert made.save(folder=tmp_path / "a") == tmp_path / "a"
    assert made.report(path=tmp_path / "a.html", limits_bpm=(50.0, 90.0)) == tmp_path / "a.html"
    assert dict(contents(tmp_path / "a.html", "page"))["page.scales.rate.low"] == 50
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.html"}
    assert differences(of_result(pulse3d.Result.load(folder=tmp_path / "a")), of_result(made)) == set()
    places, rate_bpm = np.ones((2, *made.rate_bpm.shape[1:])), np.full((2, len(made.time_s)), 90.0)
    first, second = made.pulse_waves(places=places, rate_bpm=rate_bpm * [[1], [np.nan]])
    assert np.isfinite(first.percent).all()
    assert np.isnan(second.percent).all()
    assert len(made.place_waves(places=np.array([0, 3]))) == 2


def test_every_keyword_has_a_case():
    public = {name: getattr(pulse3d, name) for name in pulse3d.__all__ if name != "InputError"}
    result = public.pop("Result")
    public |= {
        f"Result.{name}": method
        for name, method in inspect.getmembers(result, callable)
        if not name.startswith("_")
    }
    found = {name: [*inspect.signature(function).parameters] for name, function in public.items()}
    assert {name: [key for key in keys if key != "self"] for name, keys in found.items()} == {
        "map_video": [*KEYWORDS["map_video"]],
        "map_stream": [*KEYWORDS["map_stream"]],
        "open_video": ["path", "fps", "stream"],
        "load_weights": ["name", "like"],
        "Result.load": ["folder"],
        "Result.pulse_waves": ["places", "rate_bpm"],
        "Result.place_waves": ["places"],
        "Result.save": ["folder"],
        "Result.report": ["path", "limits_bpm"],
        "Result.overlay": ["path", "video", "limits_bpm"],
        "Result.plot": ["layer", "window", "ax", "limits_bpm"],
        "Result.to_dataframe": [],
        "Result.to_xarray": [],
        "Result.probabilities": [],
        "Result.maps": [],
        "Result.heart_rate_variability": [],
    }
