"""Files with bytes changed, cut and moved: each gives a result or one clear line, in bounded time and memory.

A short, seeded version runs by default, thousands under `pytest -m long -s`, which prints the counts.
"""

import collections
import dataclasses
import io
import random
import shutil
import zipfile

import hypothesis
import imageio.v3 as iio
import jax
import numpy as np
import pytest
from helpers.inputs import FPS, encode, noise, result_members, write_films, write_zip
from helpers.sandbox import Sandbox, states, uniform_mapper
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from pulse3d import stream, video
from pulse3d.errors import InputError
from pulse3d.network import model, weights_file
from pulse3d.training import checkpoint

VIDEOS = {
    "a.mp4": {"codec": "mpeg4"},
    "h264.mp4": {"codec": "libx264"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "ffv1.mkv": {"codec": "ffv1"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "raw.avi": {"codec": "rawvideo"},
    "a.ts": {"codec": "mpeg2video"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}
# two videos in a file, and the same recording twice, one after the other
JOINED = ("two.mkv", "joined.ts", "joined.mkv", "joined.mp4")


def mutate(rng, data):
    """The bytes with one to three changes of random kinds."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.choice(("flip", "head", "noise", "cut", "drop", "repeat", "extreme"))
        place = rng.randrange(len(data))
        size = min(len(data) - place, 2 ** rng.randrange(12))
        if kind == "flip":
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "head":
            data[rng.randrange(min(len(data), 600))] = rng.randrange(256)
        elif kind == "noise":
            data[place : place + size] = rng.randbytes(size)
        elif kind == "cut":
            del data[max(1, place) :]
        elif kind == "drop":
            del data[place : place + min(size, len(data) - 1)]
        elif kind == "repeat":
            data[place:place] = data[place : place + size]
        else:
            data[place : place + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
    return bytes(data)


def mutate_member(rng, data):
    """An archive of which one member is changed, with checksums that agree."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = rng.choice(sorted(members))
    members[changed] = mutate(rng, members[changed])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in members.items():
            archive.writestr(name, values)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, toy):
    """(kind, name, bytes) of files that are as they should be."""
    folder = tmp_path_factory.mktemp("seeds")
    frames = noise(40)
    for name, options in VIDEOS.items():
        encode(folder / name, frames, **options)
    write_films(folder / "two.mkv", frames, frames[:, :16, :16], fps=15)
    for name in JOINED[1:]:
        (folder / name).write_bytes(2 * write_films(folder / name, frames, fps=15).read_bytes())
    write_zip(folder / "member_images.zip", stamped_images(frames))
    np.save(folder / "a.npy", frames)
    np.savez_compressed(folder / "a.npz", frames)
    np.save(folder / "float.npy", (frames / 255).astype(np.float32))
    params = model.init_params(jax.random.key(0), toy)
    weights_file.save_weights(folder / "small.npz", params, toy, {"seed": 1})
    shutil.copy(folder / "small.npz", folder / "member.npz")
    write_zip(folder / "map.npz", result_members().items())
    shutil.copy(folder / "map.npz", folder / "member_map.npz")
    write_checkpoints(folder / "member_run.zip")
    of_kind = {"video": [*VIDEOS, *JOINED, "a.npy", "a.npz", "float.npy"], "images": ["member_images.zip"]}
    of_kind |= {"weights": ["small.npz", "member.npz"], "result": ["map.npz", "member_map.npz"]}
    of_kind |= {"checkpoints": ["member_run.zip"]}
    return {kind: [(name, (folder / name).read_bytes()) for name in names] for kind, names in of_kind.items()}


def stamped_images(frames):
    """(name, bytes) of images whose names are time stamps."""
    for index, image in enumerate(frames):
        stamp_ns = 1_392_643_993_642_815_000 + round(index * 1e9 / FPS)
        yield f"Image{stamp_ns}.bmp", iio.imwrite("<bytes>", image, extension=".bmp")


def write_checkpoints(path):
    """All files of a training run's checkpoints in one archive."""
    workdir = path.with_suffix("")
    store = checkpoint.Checkpoints(workdir, "accuracy")
    for step, state in enumerate(states(), 1):
        store.save(step, state, {"accuracy": step / 10})
    store.close()
    files = [file for file in workdir.rglob("*") if file.is_file()]
    write_zip(path, ((str(file.relative_to(workdir)), file.read_bytes()) for file in files))


def place(path, kind, data):
    """Writes what a test is to open: a file, or a folder of results or of a training run."""
    if kind in ("checkpoints", "images"):
        shutil.rmtree(path, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(path)
        return path
    if kind != "result":
        path.write_bytes(data)
        return path
    path.mkdir(exist_ok=True)
    (path / "summary.json").write_text("{}")
    (path / "map.npz").write_bytes(data)
    return path


def count_outcomes(tmp_path, seeds, kind, *, cases, seed):
    """How often each outcome came; fails where one is neither a result nor InputError, and keeps the file."""
    rng, counts, failures = random.Random(seed), collections.Counter(), []
    with Sandbox() as sandbox:
        for name, data in seeds[kind]:
            assert sandbox.open(kind, place(tmp_path / name, kind, data)) == ("result", ""), name
        for index in range(cases):
            name, data = seeds[kind][index % len(seeds[kind])]
            changed = (mutate_member if name.startswith("member") else mutate)(rng, data)
            path = place(tmp_path / f"changed-{name}", kind, changed)
            outcome, message = sandbox.open(kind, path)
            counts[name, outcome] += 1
            if outcome not in ("result", "refused") or not message.isprintable():
                failures.append((path.rename(tmp_path / f"failure-{index}-{name}"), outcome, message))
    print(f"\n{cases} mutated {kind}: {dict(sorted(counts.items()))}", *failures, sep="\n")
    assert not failures
    return collections.Counter(outcome for (_, outcome), n in counts.items() for _ in range(n))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["video", "images", "weights", "result", pytest.param("checkpoints", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("cases", [30, pytest.param(4000, marks=pytest.mark.long)])
def test_mutated_files_give_a_result_or_one_line(tmp_path, seeds, kind, cases):
    counts = count_outcomes(tmp_path, seeds, kind, cases=cases, seed=cases)
    # of damaged checkpoints the one before is used, so that hardly any folder is refused
    if kind != "result" or cases > 100:  # of a few damaged results chance may leave none
        assert set(counts) - {"refused"} == {"result"}
    assert kind == "checkpoints" or counts["refused"]
    assert sum(counts.values()) == cases


@pytest.mark.slow
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_arrays_of_any_shape_type_and_value_give_a_result_or_one_line(toy, data):
    dtype = data.draw(
        st.sampled_from(["u1", "u2", ">u2", "u8", "i2", "f2", "f4", ">f8", "f8", "?", "c8", "U3"])
    )
    shape = data.draw(
        st.one_of(
            arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9),
            st.tuples(st.integers(0, 60), st.integers(6, 10), st.integers(6, 10), st.sampled_from([1, 3, 4])),
            st.tuples(st.integers(0, 60), st.integers(6, 10), st.integers(6, 10)),
        )
    )
    unit = np.dtype(dtype).kind == "f" and data.draw(st.booleans())
    elements = {"min_value": 0.0, "max_value": 1.0} if unit else None
    array = data.draw(arrays_of.arrays(np.dtype(dtype), shape, elements=elements))

    def use():
        source = video.from_array(array, fps=FPS)
        assert all(frame.image.shape == (*array.shape[1:3], 3) for frame in source.frames())
        mapper = uniform_mapper(toy, array.shape[1:3], stride_px=99)

        def call(window):
            assert np.isfinite(window).all()
            return mapper(window)

        return list(stream.map_windows(source.frames(), dataclasses.replace(mapper, map=call)))

    inside = array.dtype.kind == "u" or (array.dtype.kind == "f" and ((array >= 0) & (array <= 1)).all())
    video_like = array.ndim in (3, 4) and array.shape[3:] in ((), (1,), (3,)) and array.size
    if video_like and inside and min(array.shape[1:3]) >= toy.clip.patch_px:
        assert len(use()) == max(0, 1 + (len(array) - toy.clip.frames) // 15)
    else:
        with pytest.raises(InputError) as error:
            use()
        assert str(error.value).isprintable()
