"""Inputs that are no video: what they are and what to do, by what stands in them and not by their names."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from pulse3d.errors import InputError

HEAD_BYTES = 512
UNPACK = "unpack it and give the video in it"
SAVE = "save its frames as an array (time, height, width[, 3]) with numpy.save, and give the .npy"
ONE_PICTURE = "give a video, or a folder of images"
A_PICTURE = f"a picture, not a video; {ONE_PICTURE}"
# how files begin that are no videos, and what to do with them
HEADS = (
    (rb"%PDF", "a PDF document", "give the video itself"),
    (rb"PK[\3\5\7]", "a ZIP archive or an office document", UNPACK),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|(?s:.{257})ustar", "a packed archive", UNPACK),
    (rb"MATLAB ", "a MATLAB file", SAVE),
    (rb"\x89HDF\r\n", "an HDF5 file, as MATLAB and h5py write them", SAVE),
    (rb"\x80[\2-\5][\x80-\xff(}\])]", "a Python pickle", SAVE),
    (
        rb"ID3|\xff[\xf2\xf3\xfb]|fLaC|#!AMR|(?s:RIFF.{4}WAVE)|(?s:.{4})ftypM4A",
        "a sound file",
        "give the video; in sound there are no pictures",
    ),
    (rb"#ROSBAG", "a ROS bag", "export its images into a folder"),
    (rb"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut", "give the file that it leads to"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself, as with git lfs pull"),
    (rb"(?s:.{128})DICM", "a DICOM file", "export its frames as a video or as PNG images"),
    (rb"(?s:.{4})ftyp(heic|heix|heim|heis|mif1|avif)", "a HEIC or AVIF picture", ONE_PICTURE),
    (
        rb"\s*<(!doctype |!DOCTYPE )?(html|HTML)",
        "a web page, as of a failed download",
        "download it again",
    ),
)


def refuse_address(name: str) -> None:
    """Raises InputError for the address of a video elsewhere."""
    if not (scheme := re.match(r"([a-z][a-z0-9+.-]+)://", name, re.IGNORECASE)):
        return
    if scheme[1].lower() == "file":
        raise InputError(f"{name}: an address; give the path of the file alone")
    pipe = "ffmpeg -i ADDRESS -c copy -f matroska - | pulse3d predict -"
    raise InputError(f"{name}: an address, and nothing is read from a network; download it, or use {pipe}")


def explain(path: Path) -> str | None:
    """What a file is that is surely no video, and what to do; None for all else."""
    head = _head(path)
    found = (f"{what}, not a video; {do}" for start, what, do in HEADS if re.match(start, head))
    return next(found, None)


def explain_unread(path: Path) -> str:
    """Why a file cannot be read as a video, and what to do."""
    head = _head(path)
    if not head:
        return "empty; copy it again, or record it anew"
    with contextlib.suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
        if not re.search(r"[\0-\x08\x0e-\x1a]", text):
            return "a text file, not a video; give the video itself (reference rates go with --truth)"
    return (
        "not a readable video: damaged, or of a kind that is not known; copy it again, or encode it anew, as"
        " with ffmpeg -i OLD new.mp4"
    )


def refuse_folder(path: Path, images: Sequence[str], videos: Sequence[str]) -> InputError:
    """The error for a folder without images (of these suffixes) and videos."""
    there = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    files = [file for file in there if file.is_file()]
    if not there:
        return InputError(f"{path}: an empty folder; give a video, or a folder of images or of videos")
    if not files:
        return InputError(f"{path}: holds no images and no videos, but folders; give one of them")
    if said := explain(files[0]):
        return InputError(f"{path}: holds no images and no videos; its {files[0].name} is {said}")
    return InputError(f"{path}: holds no images ({', '.join(images)}) and no videos ({', '.join(videos)})")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
