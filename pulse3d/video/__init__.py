"""Video in and out: files, folders, arrays and live sources as frames with time stamps, and H.264 files.

Frames are streamed: nothing here holds a whole video. The names that other packages use are listed here.
"""

from pulse3d.video.clock import MAX_JUMP_S, continued
from pulse3d.video.encoding import through_x264, write_mp4
from pulse3d.video.frames import Frame, Picture, Video, as_rgb, from_array, to_bytes, to_unit
from pulse3d.video.overlay import Film, overlay_shape, write_overlay
from pulse3d.video.reading_ahead import frames_ahead, read_ahead, what_is_there
from pulse3d.video.resampling import resample, with_time_stamps
from pulse3d.video.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_videos, open_video

__all__ = [
    "IMAGE_SUFFIXES", "MAX_JUMP_S", "VIDEO_SUFFIXES", "Film", "Frame", "Picture", "Video", "as_rgb",
    "continued", "frames_ahead", "from_array", "list_videos", "open_video", "overlay_shape", "read_ahead",
    "resample", "through_x264", "to_bytes", "to_unit", "what_is_there", "with_time_stamps", "write_mp4",
    "write_overlay",
]  # fmt: skip
