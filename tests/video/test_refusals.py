"""What is no video: every message says what it is and what to do, in no library's words."""

import os
import pickle
import re
import tarfile
import zipfile

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.io
from helpers.inputs import noise

from pulse3d import video
from pulse3d.errors import InputError

SAVE = r"save its frames as an array .* with numpy.save"


def save_hdf5(path):
    with h5py.File(path, "w") as file:
        file["frames"] = noise(2)


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.mp4", b"1")


def tar(path):
    with tarfile.open(path, "w") as file:
        file.add(__file__)


def folder(path, name="", data=b""):
    path.mkdir()
    if name:
        (path / name).write_bytes(data)


def locked(path):
    folder(path, "a.mp4")
    path.chmod(0)


DICOM = bytes(128) + b"DICM" + bytes(400)
SHORTCUT = b"L\0\0\0\x01\x14\x02\0" + bytes(200)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
PAGE = b"<!DOCTYPE html>\n<html><body>404</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
# name: what is there (bytes, or how it is made), what is said of it
REFUSED = {
    "a.mat": (lambda path: scipy.io.savemat(path, {"a": np.zeros(3)}), f"a MATLAB file, not a video; {SAVE}"),
    "b.mat": (save_hdf5, f"an HDF5 file, as MATLAB and h5py write them, not a video; {SAVE}"),
    "a.pkl": (pickle.dumps({"a": noise(2)}), f"a Python pickle, not a video; {SAVE}"),
    "a.zip": (archive, "a ZIP archive or an office document, not a video; unpack it"),
    "a.tar": (tar, "a packed archive, not a video; unpack it"),
    "a.mp4.gz": (b"\x1f\x8b\x08" + bytes(99), "a packed archive, not a video; unpack it"),
    "a.txt": (b"hello\n" * 999, "a text file, not a video; give the video itself"),
    "umlauts.txt": (b"a" + "ä".encode() * 9999, "a text file, not a video"),
    "mark.txt": (b"\xef\xbb\xbfhello", "a text file, not a video"),
    "a.csv": (b"time_s,rate_bpm\n0,72\n", r"a text file, .*; .* \(reference rates go with --truth\)$"),
    "a.mp3": (b"ID3\4" + bytes(999), "a sound file, not a video; give the video"),
    "a.wav": (b"RIFF\x24\n\0\0WAVEfmt " + bytes(999), "a sound file, not a video"),
    "a.m4a": (b"\0\0\0\x1cftypM4A " + bytes(999), "a sound file, not a video"),
    "a.pdf": (b"%PDF-1.7\n" + bytes(99), "a PDF document, not a video; give the video itself"),
    "a.lnk": (SHORTCUT, "a Windows shortcut, not a video; give the file that it leads to"),
    "a.heic": (HEIC, "a HEIC or AVIF picture, not a video; give a video, or a folder of images"),
    "a.png": (lambda path: iio.imwrite(path, noise(1)[0]), "a picture, not a video; give a video"),
    "a.dcm": (DICOM, "a DICOM file, not a video; export its frames"),
    "page.mp4": (PAGE, "a web page, as of a failed download, not a video; download it again"),
    "pointer.mp4": (POINTER, "a pointer of Git LFS, not a video; fetch the file itself"),
    "empty.mp4": (b"", "empty; copy it again, or record it anew"),
    "zeros.mp4": (bytes(9999), "damaged, or of a kind that is not known; copy it again, or encode"),
    "text.npy": (b"hello", "not a readable array file; save the frames again"),
    "objects.npy": (lambda path: np.save(path, np.array([{}])), "not a readable array file; save"),
    "scans": (lambda path: folder(path, "IM0001", DICOM), "no videos; its IM0001 is a DICOM file"),
    "nothing": (folder, "an empty folder; give a video, or a folder of images or of videos"),
    "folders": (lambda path: (path / "subject1").mkdir(parents=True), "but folders; give one of them"),
    "notes": (lambda path: folder(path, "a.txt", b"x"), r"holds no images \(.png, .* and no videos \(.3gp"),
    "torn": (lambda path: folder(path, "a.png", b"\x89PNG"), "a.png: not a readable image; copy it again"),
}  # fmt: skip


def refusal(given):
    """The message for what a program is given."""
    with pytest.raises(InputError) as error:
        read(given)
    return str(error.value)


def read(given):
    for path in video.list_videos(given):
        list(video.open_video(path, fps=30.0).frames())


def assert_plain(message):
    assert message.isprintable()
    assert not re.search(r"Errno|Invalid (data|argument)|pickle=|magic|<_io|Traceback|object at", message)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_named_with_what_to_do(tmp_path, name):
    made, said = REFUSED[name]
    if isinstance(made, bytes):
        (tmp_path / name).write_bytes(made)
    else:
        made(tmp_path / name)
    message = refusal(tmp_path / name)
    assert re.search(said, message), message
    assert message.startswith(str(tmp_path / name))
    assert_plain(message)


@pytest.mark.parametrize(
    "address", ["http://host/a.mp4", "https://host/watch?v=1", "rtsp://camera/1", "HTTP://A"]
)
def test_an_address_is_to_be_piped(address):
    message = refusal(address)
    assert message.startswith(
        f"{address}: an address, and nothing is read from a network; download it, or use "
    )
    assert message.endswith("ffmpeg -i ADDRESS -c copy -f matroska - | pulse3d predict -")
    assert "file:///a.mp4: an address; give the path of the file alone" in refusal("file:///a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("make", [locked, lambda path: (path.touch(), path.chmod(0))])
def test_what_may_not_be_read_is_said(tmp_path, make):
    make(tmp_path / "locked")
    try:
        message = refusal(tmp_path / "locked")
    finally:  # or the folder could not be deleted
        (tmp_path / "locked").chmod(0o700)
    assert "locked: cannot be read (Permission denied); give" in message


def test_a_file_named_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a.mp4").touch()
    assert "empty" in refusal("http://a.mp4")
