"""Results that no network has made."""

import numpy as np

from pulse3d import archive, result
from pulse3d.reading import regions
from pulse3d.result import Result

AXIS = np.arange(40.0, 201.0, 2.0)


def make_result(
    folder, *, windows=6, rows=4, cols=5, name="me.mp4", pulse=True, noise=False, gaps=(), parts=(), axis=AXIS
):
    """Places of 16 px on a frame of 160 x 120 px; place (1, 2) beats at 90 bpm, the others at 70.

    gaps: windows without a pulse. parts: the regions.
    """
    rng = np.random.default_rng(0)
    rate = np.full((windows, rows, cols), 70.0 if pulse else np.nan)
    rate[:, 1, 2] = 90.0 if pulse else np.nan
    rate[list(gaps)] = np.nan
    confidence = np.where(np.isfinite(rate), 0.6, 0.0)
    with archive.NpzStream(folder / "map.npz") as store:
        for window in range(windows):
            near = np.nan_to_num(rate[window])[..., None]
            shares = np.exp(-0.5 * ((axis - near) / 3) ** 2) * pulse
            shares = rng.dirichlet(np.ones(len(axis)), (rows, cols)) if noise else shares / 4
            store.append(probability=shares.astype(np.float16))
        frame_s = np.arange(round(15 * (windows + 9))) / 15
        beat = np.full((rows, cols), 70.0)
        beat[1, 2] = 90.0
        for now in frame_s:
            wave = 1 - 0.005 * pulse * np.sin(2 * np.pi * beat / 60 * now)
            store.append(green=np.round(result.WHITE / 2 * wave).astype(np.uint16))
        store.put(**regions.as_arrays(list(parts), rate.shape))
    reading = np.full(windows, 71.0 if pulse else np.nan)
    reading[list(gaps)] = np.nan
    summary = {
        "video": name, "frame_width_px": 160, "frame_height_px": 120, "video_duration_s": 16.0,
        "video_fps": 20.0, "stride_px": 16, "interval": 0.9, "weights": "default",
        "window_s": 10.0, "step_s": 1.0, "patch_px": 16, "pulse3d": "0", "jax": "0", "device": "1 x cpu",
        "share_of_frame_with_pulse": float(np.isfinite(rate).mean()), "regions": len(parts),
        "files": ["rates.csv"],
        "confidence_median": 0.7 if pulse else None, "pulse_rate_equation_8_median_bpm": 72.5,
        "windows": windows, "windows_with_pulse": int(np.isfinite(reading).sum()),
        "pulse_rate_median_bpm": 71.0 if pulse else None,
        "pulse_rate_low_median_bpm": 66.0 if pulse else None,
        "pulse_rate_high_median_bpm": 77.0 if pulse else None,
    }  # fmt: skip
    return Result(
        frame=rng.integers(0, 255, (120, 160, 3)).astype(np.uint8),
        time_s=5.0 + np.arange(windows),
        pulse_rate_bpm=reading, low_bpm=reading - 5, high_bpm=reading + 6,
        pulse_confidence=np.linspace(0.5, 0.9, windows) * pulse, equation_8_bpm=reading,
        trust=np.ones(windows),
        rate_bpm=rate, confidence=confidence, no_pulse=1 - confidence, network_no_pulse=1 - confidence,
        amplitude_percent=0.1 + 0 * rate, snr_db=0 * rate - 3,
        row_px=40.0 + 16 * np.arange(rows), col_px=48.0 + 16 * np.arange(cols),
        rate_axis_bpm=axis, frame_s=frame_s, summary=summary, folder=folder,
    )  # fmt: skip
