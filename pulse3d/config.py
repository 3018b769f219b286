"""Settings as frozen dataclasses, and the presets made from them.

Every setting has its unit in its name (`_bpm`, `_px`, `_s`) or in its docstring.
`override` applies the `--set a.b=value` flags of the launchers.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pulse3d.errors import InputError, nearest

Kind = typing.TypeVar("Kind")

CLASSICAL_METHODS = ("green", "chrom", "pos")


@dataclass(frozen=True)
class ClipConfig:
    """The short clip of video that the network reads, and the pulse rates that it can give.

    fps: frames per second. frames: length. patch_px: height and width, in pixels or, if
    `map.cells` is set, in cells.
    rates: number of pulse rates, evenly spaced from low_bpm to high_bpm. One more class,
    the last, means "no pulse".
    """

    fps: float = 30.0
    frames: int = 60
    patch_px: int = 25
    channels: int = 1
    low_bpm: float = 55.0
    high_bpm: float = 240.0
    rates: int = 75

    def __post_init__(self):
        _require(0 < self.fps <= 1000, "clip.fps", self.fps, "must be positive, at most 1000")
        _require(self.channels in (1, 3), "clip.channels", self.channels, "must be 1 or 3")
        for name, least, most in (("frames", 2, 100_000), ("patch_px", 1, 10_000), ("rates", 2, 10_000)):
            value = getattr(self, name)
            _require(
                least <= value <= most, f"clip.{name}", value, f"must be at least {least}, at most {most}"
            )
        _require(
            0 < self.low_bpm < self.high_bpm < 30 * self.fps,
            "clip.low_bpm, clip.high_bpm",
            (self.low_bpm, self.high_bpm),
            "must satisfy 0 < low < high < 30 x fps (the Nyquist rate)",
        )

    @property
    def rate_axis_bpm(self) -> np.ndarray:
        """The pulse rates of the classes, in bpm, ascending."""
        return np.linspace(self.low_bpm, self.high_bpm, self.rates)

    @property
    def classes(self) -> int:
        """Number of classes: the rates and, last, "no pulse"."""
        return self.rates + 1

    @property
    def duration_s(self) -> float:
        """Length of a clip in seconds."""
        return self.frames / self.fps


@dataclass(frozen=True)
class GeneratorConfig:
    """The distributions of the pseudo-PPG video of Bousefsaf et al. 2019 (their public program).

    fourier: a0, a1, b1, a2, b2 of the pulse wave, a fit to real imaging PPG.
    phases: number of shifts of 1/30 s at which the wave can start, together one period at 55 bpm.
    linear_trend, curved_trend: bounds of the trend's end value, in units of the pulse's
    peak-to-peak value; curved means order 2 and 3.
    amplitude_low, amplitude_high: the video is `value / 625 x amplitude`, where white is 1.
    noise_mean, noise_sd: mean and SD of the sensor noise before scaling by
    `amplitude x noise_scale x U(noise_low_percent, noise_high_percent) / 100`.
    no_pulse_noise_sd: SD of the noise of "no pulse" clips, where white is 1.
    centre_linear_trend: False keeps a quirk of the original program, whose "centred" choice has
    no effect on trends of order 1.
    quantise_no_pulse: False keeps another quirk: "no pulse" clips are not rounded to 8 bits.
    no_pulse_clips: number of clips without a pulse for every cycle through the rates.
    """

    fourier: tuple[float, ...] = (
        0.440240602542388,
        -0.334501803331783,
        -0.198990393984879,
        -0.050159136439220,
        0.099347477830878,
    )
    phases: int = 33
    phase_step_s: float = 1 / 30
    linear_trend: float = 3.0
    curved_trend: float = 1.0
    amplitude_low: float = 1.5
    amplitude_high: float = 4.0
    value_scale: float = 1 / 625
    noise_mean: float = 0.5
    noise_sd: float = 0.25
    noise_scale: float = 0.25
    noise_low_percent: float = 1.0
    noise_high_percent: float = 10.0
    no_pulse_noise_sd: float = 1 / 50
    centre_linear_trend: bool = False
    quantise_no_pulse: bool = False
    no_pulse_clips: int = 1

    @property
    def no_pulse_odds(self) -> float:
        """The odds of "no pulse" against one rate."""
        return float(self.no_pulse_clips)

    def __post_init__(self):
        _require(len(self.fourier) == 5, "generator.fourier", self.fourier, "must hold 5 numbers")
        _require(self.phases >= 1, "generator.phases", self.phases, "must be at least 1")
        _require(
            0 < self.amplitude_low <= self.amplitude_high,
            "generator.amplitude_low, generator.amplitude_high",
            (self.amplitude_low, self.amplitude_high),
            "must satisfy 0 < low <= high",
        )


@dataclass(frozen=True)
class ScenesConfig:
    """The distributions of the default scenes: regions with or without a pulse, motion, light, a video codec.

    Levels are root mean squares of relative changes of colour: 0.01 is 1 %. Pairs are bounds of
    a log-uniform distribution. See `pulse3d/synthetic/scenes.py`.

    frames: length of a scene. windows: number read from a scene; full_share: share of these that are as long
    as the clip, others are `shortest_s` or longer. pulse_share: share of scenes in which something is alive.
    beyond_bpm: how far beyond the axis rates are drawn; they then count as its ends.
    no_pulse_odds: odds of "no pulse" against one rate in a cell, in these distributions.
    pulse: level of a pulse, averaged over its colours. pulse_colour: relative strength in red, green, blue;
    each is multiplied by a log-normal factor of SD colour_spread. pulse_spread: SD of the log of the
    pulse's strength from cell to cell, for a smooth and for a rough field.
    light: level of each of four changes of brightness, in grey or the colour of gloss, with deviations of
    SD light_spread. flicker: level of a change from frame to frame, in flicker_share of the scenes.
    texture: level for each displacement. pattern: contrast of coarser patterns that move by `shift` cells, in
    pattern_share of the scenes. edge: level at the edges of regions, which move with them. wander: level of
    each of four chromatic changes. local: level of each cell's own changes. sensor: level of the noise per
    cell and frame. calm_share: share of scenes in which light and texture are weaker, by a factor within
    `calm` (local: by its square root). wild_share: share in which these and wander are stronger, by `wild`.
    strong_share: share of pulses with a level within `strong`, as in a finger on the lens. black_share: share
    of scenes with black channels, and also of those with saturated ones. codec_share: share of scenes that
    pass through a codec, with steps within `codec_step`.
    """

    frames: int = 225
    windows: int = 2
    full_share: float = 0.7
    shortest_s: float = 4.0
    pulse_share: float = 0.75
    beyond_bpm: float = 7.0
    no_pulse_odds: float = 210.0
    pulse: tuple[float, float] = (0.0006, 0.006)
    pulse_colour: tuple[float, float, float] = (0.33, 0.77, 0.53)
    colour_spread: float = 0.2
    pulse_spread: float = 0.3
    light: tuple[float, float] = (0.0001, 0.02)
    light_spread: float = 0.12
    flicker_share: float = 0.12
    flicker: tuple[float, float] = (0.003, 0.6)
    texture: tuple[float, float] = (0.0001, 0.03)
    texture_spread: float = 0.4
    pattern_share: float = 0.0
    pattern: tuple[float, float] = (0.003, 0.4)
    shift: tuple[float, float] = (0.005, 2.0)
    edge: tuple[float, float] = (0.0003, 0.1)
    wander: tuple[float, float] = (0.00005, 0.004)
    local: tuple[float, float] = (0.0003, 0.015)
    sensor: tuple[float, float] = (0.0001, 0.002)
    calm_share: float = 0.5
    calm: tuple[float, float] = (0.02, 1.0)
    wild_share: float = 0.15
    wild: tuple[float, float] = (1.0, 60.0)
    strong_share: float = 0.12
    strong: tuple[float, float] = (0.003, 0.1)
    black_share: float = 0.06
    codec_share: float = 0.7
    codec_step: tuple[float, float] = (0.0004, 0.012)


@dataclass(frozen=True)
class ModelConfig:
    """One 3-D convolution, max-pooling, one hidden layer (Bousefsaf et al. 2019)."""

    filters: int = 32
    kernel: tuple[int, int, int] = (58, 20, 20)
    pool: int = 2
    hidden: int = 512
    dropout: float = 0.2

    def __post_init__(self):
        _require(len(self.kernel) == 3, "model.kernel", self.kernel, "must be (time, height, width)")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "must be in [0, 1)")
        for name in ("filters", "pool", "hidden"):
            _require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "must be >= 1")


@dataclass(frozen=True)
class CellNetConfig:
    """The default network (`cell_net`).

    memory_s: a cell's colour is taken relative to its mean over this many past seconds.
    filters, signals, notes: channels of the convolutions, of the signals that are Fourier transformed, and of
    other inputs to the head. first_taps, taps, rate_taps: kernel lengths over time (first layer; later ones,
    dilated by 2 and 4) and over the rates. reaches: radii of the neighbourhoods, in cells. hidden,
    weight_hidden: sizes of the heads. gain: of the input. freeze: train only the layers after the spectra.
    """

    memory_s: float = 5.0
    filters: int = 32
    signals: int = 6
    notes: int = 4
    first_taps: int = 9
    taps: int = 7
    rate_taps: int = 5
    reaches: tuple[int, ...] = (2, 4, 8)
    hidden: int = 24
    weight_hidden: int = 16
    gain: float = 100.0
    freeze: bool = False

    def __post_init__(self):
        for name in ("first_taps", "taps", "rate_taps"):
            _require(getattr(self, name) % 2 == 1, f"model.{name}", getattr(self, name), "must be odd")


@dataclass(frozen=True)
class ClassicalConfig:
    """No network: the pulse from the colour of every cell alone, by one of `classical.METHODS`."""

    method: str = "pos"

    def __post_init__(self):
        _one_of("model.method", self.method, CLASSICAL_METHODS)


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained; one step is one update on one fresh batch.

    microbatch_size: each device processes its share of a batch in equal parts of at most this many clips, one
    part in memory at a time; 0: all at once. This changes only rounding and the dropout masks.
    schedule: "constant", or "cosine" (linear warm-up over `warmup_steps`, then to zero).
    prng: the random generator of the training batches. philox2x32 draws normals two to three
    times faster than threefry2x32 on a CPU, but XLA cannot yet compile it for several devices.
    Validation always uses threefry2x32.
    compute: the type of the network's multiplications in training: float32, or bfloat16, which is fast
    on accelerators. Parameters, sums and updates are float32, and so is inference.
    keep_best: the validation metric that selects the best checkpoint.
    label_sd_bpm: SD of the normal distribution that spreads the true rate's probability; 0: no spread.
    clip_norm: the norm to which gradients are clipped; 0: never. weight_decay: of AdamW; 0: Adam.
    average: decay per step of the exponential moving average of the parameters, which is validated and
    exported; 0: no average is used.
    """

    seed: int = 0
    batch_size: int = 15_200
    microbatch_size: int = 0
    steps: int = 5_000
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    prng: str = "threefry2x32"
    compute: str = "float32"
    eval_every: int = 100
    eval_clips: int = 15_200
    eval_batch_size: int = 400
    log_every: int = 10
    keep_best: str = "accuracy"
    label_sd_bpm: float = 0.0
    clip_norm: float = 0.0
    weight_decay: float = 0.0
    average: float = 0.0

    def __post_init__(self):
        for name in ("batch_size", "steps", "eval_every", "eval_clips", "eval_batch_size", "log_every"):
            _require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "must be >= 1")
        for name in ("microbatch_size", "warmup_steps", "label_sd_bpm", "clip_norm", "weight_decay"):
            _require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "must not be negative")
        _require(0 <= self.average < 1, "train.average", self.average, "must be in [0, 1)")
        _require(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "must be positive")
        _one_of("train.schedule", self.schedule, ("constant", "cosine"))
        _one_of("train.prng", self.prng, ("philox2x32", "threefry2x32"))
        _one_of("train.compute", self.compute, ("float32", "bfloat16"))
        _one_of("train.keep_best", self.keep_best, ("accuracy", "within_one_class", "loss"))


@dataclass(frozen=True)
class MapConfig:
    """How a window of video becomes a map.

    centre: what is subtracted from a patch: "window", its mean over time and space (as in the
    original); "pixel", each pixel's own mean over time, which removes static texture; or
    "relative", the same, then divided by that mean.
    cells: number of square cells along the frame's shorter side, whose means the network reads;
    0: it reads pixels.
    average_frames: each frame is the mean of this many frames of the resampled video.
    max_gap_s: longest allowed gap between two frames. A window with a longer one has no pulse, nor has one
    with fewer than two frames per beat of the highest rate.
    stride_px: pixels between patches, rounded to whole cells.
    tile_px: edge of the square tiles (halo included) into which a frame is cut; a power of two
    is fast.
    """

    centre: str = "pixel"
    shortest_s: float = 4.0
    cells: int = 0
    average_frames: int = 1
    max_gap_s: float = 1.0
    stride_px: int = 8
    step_s: float = 1.0
    tile_px: int = 128

    def __post_init__(self):
        _one_of("map.centre", self.centre, ("window", "pixel", "relative"))
        _require(self.average_frames >= 1, "map.average_frames", self.average_frames, "must be at least 1")
        _require(self.cells >= 0, "map.cells", self.cells, "must not be negative")
        _require(self.stride_px >= 1, "map.stride_px", self.stride_px, "must be at least 1")
        for name in ("step_s", "max_gap_s"):
            _require(getattr(self, name) > 0, f"map.{name}", getattr(self, name), "must be positive")


@dataclass(frozen=True)
class ReadoutConfig:
    """How maps become one pulse rate per window, with an interval.

    method: "votes", a mixture of the patches that have a pulse, window by window; "tracked_votes", the same,
    followed over time; or "tracked", likelihood ratios of all patches, followed over time.
    min_pulse_share: for votes, a window has a pulse if at least this share of its patches has one.
    tolerance_bpm: the confidence is the probability within this distance of the reading.
    interval: how often the interval should hold the truth. It holds interval^interval_power of the
    probability, since that is spread wider than the errors are: of 521 windows with a contact pulse, the
    truth is in 68 % of the intervals of half the probability, and in 94 % of those of nine tenths.
    track_bpm: in tracking, SD of the rate's random walk over one second.
    track_floor: tracking adds this share of its mean to each window's probability.
    track_weight: how many times tracking counts every second of video. temperature: of the tracked
    probabilities; below 1, intervals are narrower and confidence is higher, with the same likeliest rate.
    no_pulse_prior: in tracking, the probability of "no pulse" before the first window; 0: `min_pulse_share`
    decides whether there is a pulse. switch_s: otherwise, a pulse appears or disappears once in this many
    seconds. evidence_scale, evidence_power: evidence for a rate supports a pulse as (evidence /
    scale)^power; with a power of 0, only a steady rate counts, not the strength of the evidence.
    places: whether places are checked for the frame's pulses (`pulse3d/reading/places.py`), or each is read
    on its own.
    place_tolerance_bpm: a place is checked for rates within this distance of a pulse's. place_reach,
    place_colour: its evidence is averaged with that of its neighbours of like colour, over a distance of this
    share of the map's shorter side, and colours that differ by this share (`bilateral`). place_gain: its
    evidence counts as gain x (evidence - bar). place_bar_share, place_bar_drop, place_bar_least: parameters
    of that bar (`places.bar`). place_unlike, place_unlike_colour: by how much the bar is higher where the
    colour is unlike that of the places above it, and how much colours may differ (`places.bars`); 0: it is
    the same for all. place_switch_s: a pulse comes to a place or leaves it once in this many
    seconds. place_prior: share of places with a pulse before any evidence. place_together: of the places
    that carry a pulse found from likelihoods, at least this share lie side by side, or it is none. unsteady:
    if the light changes by this share in a window, a rate that most of the frame has is believed by half
    (`steadiness`); 0: every rate is believed. pulses: the most pulses that are distinguished in a frame.
    region_confidence, region_tolerance_bpm, region_places: the least confidence of the places of a region
    (`regions`), the largest difference between neighbours' rates, and the least number of places.
    """

    method: str = "votes"
    min_pulse_share: float = 0.01
    tolerance_bpm: float = 5.0
    interval: float = 0.9
    interval_power: float = 1.0
    track_bpm: float = 2.8
    track_floor: float = 0.1
    track_weight: float = 1.0
    temperature: float = 1.0
    no_pulse_prior: float = 0.0
    switch_s: float = 120.0
    evidence_scale: float = 250.0
    evidence_power: float = 0.0
    places: bool = False
    place_tolerance_bpm: float = 4.0
    place_reach: float = 0.25
    place_colour: float = 0.07
    place_gain: float = 1.0
    place_bar_share: float = 0.5
    place_bar_drop: float = 2.0
    place_bar_least: float = -1.5
    place_unlike: float = 0.0
    place_unlike_colour: float = 0.25
    place_switch_s: float = 120.0
    place_prior: float = 0.3
    place_together: float = 0.33
    unsteady: float = 0.0
    pulses: int = 4
    region_confidence: float = 0.5
    region_tolerance_bpm: float = 6.0
    region_places: int = 6

    def __post_init__(self):
        _one_of("readout.method", self.method, ("votes", "tracked_votes", "tracked"))
        _require(0 < self.interval < 1, "readout.interval", self.interval, "must be in (0, 1)")
        _require(self.interval_power > 0, "readout.interval_power", self.interval_power, "must be positive")
        _require(self.track_bpm > 0, "readout.track_bpm", self.track_bpm, "must be positive")
        _require(
            0 <= self.no_pulse_prior < 1, "readout.no_pulse_prior", self.no_pulse_prior, "must be in [0, 1)"
        )
        _require(
            0 <= self.region_confidence <= 1,
            "readout.region_confidence",
            self.region_confidence,
            "must be in [0, 1]",
        )
        _require(
            0 <= self.place_together <= 1,
            "readout.place_together",
            self.place_together,
            "must be in [0, 1]",
        )
        _require(self.place_unlike >= 0, "readout.place_unlike", self.place_unlike, "must not be negative")
        _require(self.unsteady >= 0, "readout.unsteady", self.unsteady, "must not be negative")
        _require(
            0 <= self.place_bar_share <= 1,
            "readout.place_bar_share",
            self.place_bar_share,
            "must be in [0, 1]",
        )
        for name in (
            "track_floor",
            "temperature",
            "switch_s",
            "evidence_scale",
            "place_reach",
            "place_colour",
            "place_unlike_colour",
            "region_tolerance_bpm",
            "region_places",
        ):
            _require(getattr(self, name) > 0, f"readout.{name}", getattr(self, name), "must be positive")


@dataclass(frozen=True)
class SceneConfig:
    """The built-in demo scene; brightness is relative to white.

    rates_bpm: one ellipse each, from left to right. amplitude: of the pulse, peak to peak, in a
    channel of weight 1 in `pulse_colour` (red, green, blue). noise: SD of the camera noise.
    texture: SD of the static texture, relative to the brightness. drift: amplitude of the slow light change.
    """

    height_px: int = 180
    width_px: int = 320
    fps: float = 30.0
    duration_s: float = 15.0
    rates_bpm: tuple[float, ...] = (66.0, 94.0, 141.0)
    skin: tuple[float, ...] = (0.72, 0.52, 0.44)
    background: tuple[float, ...] = (0.34, 0.40, 0.47)
    pulse_colour: tuple[float, ...] = (0.43, 1.0, 0.69)
    amplitude: float = 4 / 625
    noise: float = 1 / 50
    texture: float = 0.15
    drift: float = 1 / 625


@dataclass(frozen=True)
class Config:
    """Everything that defines a network, its training and its use."""

    preset: str = "paper"
    clip: ClipConfig = field(default_factory=ClipConfig)
    generator: GeneratorConfig | ScenesConfig = field(default_factory=GeneratorConfig)
    model: ModelConfig | CellNetConfig | ClassicalConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    map: MapConfig = field(default_factory=MapConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)

    @property
    def odds(self) -> float:
        """The prior odds of "no pulse" against one rate: as in training; even against all, without any."""
        if isinstance(self.model, ClassicalConfig):
            return float(self.clip.rates)
        return self.generator.no_pulse_odds

    def __post_init__(self):
        patch = self.clip.patch_px
        if isinstance(self.model, ModelConfig):
            time, height, width = self.model.kernel
            pool = self.model.pool
            _require(
                time + pool - 1 <= self.clip.frames and max(height, width) + pool - 1 <= patch,
                "model.kernel",
                self.model.kernel,
                f"leaves nothing to pool in a clip of {self.clip.frames} frames of {patch} px",
            )
        cells = bool(self.map.cells)
        _require(
            cells == isinstance(self.model, CellNetConfig | ClassicalConfig),
            "map.cells",
            self.map.cells,
            "this network reads pixels, so it must be 0"
            if cells
            else "this network reads cells; give their number",
        )
        _require(
            cells or self.map.tile_px >= patch,
            "map.tile_px",
            self.map.tile_px,
            f"is below the patch, {patch} px",
        )


def get_preset(name: str) -> Config:
    """The preset of that name; raises InputError with the nearest match for an unknown name."""
    _one_of("preset", name, tuple(PRESETS))
    return PRESETS[name]


def expect(settings: object, kind: type[Kind]) -> Kind:
    """Returns a group of settings of the expected kind; raises InputError if it is of another."""
    if not isinstance(settings, kind):
        raise InputError(f"expected {kind.__name__}, found {type(settings).__name__}")
    return settings


def _require(holds: bool, name: str, value: Any, what: str) -> None:
    if not holds:
        raise InputError(f"{name} = {value}: {what}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} = {value}: unknown{nearest(value, allowed)}; choose {' or '.join(allowed)}")


PRESETS: dict[str, Config] = {
    "paper": Config(preset="paper"),
    "default": Config(
        preset="default",
        clip=ClipConfig(
            fps=15.0, frames=150, patch_px=16, channels=3, low_bpm=40.0, high_bpm=205.0, rates=67
        ),
        generator=ScenesConfig(),
        model=CellNetConfig(),
        train=TrainConfig(
            batch_size=64,
            microbatch_size=16,
            steps=3_415,
            learning_rate=3e-3,
            schedule="cosine",
            warmup_steps=200,
            eval_every=500,
            eval_clips=256,
            eval_batch_size=16,
            keep_best="loss",
            label_sd_bpm=2.0,
            clip_norm=1.0,
            weight_decay=1e-4,
            average=0.995,
        ),
        map=MapConfig(centre="relative", cells=30, average_frames=2, stride_px=1),
        readout=ReadoutConfig(
            method="tracked",
            temperature=0.35,
            interval_power=2.0,
            no_pulse_prior=0.95,
            evidence_scale=2.5,
            evidence_power=1.0,
            places=True,
            place_bar_share=0.6,
            place_bar_drop=1.0,
            place_unlike=1.0,
            place_prior=0.5,
            unsteady=0.005,
        ),
    ),
}
DEFAULT_PRESET = "default"

# GREEN, CHROM and POS at every cell, which cannot be trained: windows and rates as is usual in the field.
CLASSICAL: dict[str, Config] = {
    method: Config(
        preset=method,
        clip=ClipConfig(frames=300, patch_px=1, channels=3, low_bpm=40.0, high_bpm=240.0, rates=401),
        model=ClassicalConfig(method),
        map=MapConfig(centre="relative", cells=20, stride_px=1),
        readout=replace(
            PRESETS["default"].readout,
            method="tracked_votes",
            interval_power=1.0,
            no_pulse_prior=0.0,
            evidence_power=0.0,
            unsteady=0.0,
            pulses=1,  # a further one is found in any noise
        ),
    )
    for method in CLASSICAL_METHODS
}
