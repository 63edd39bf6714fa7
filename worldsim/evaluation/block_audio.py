"""Block `audio` of `worldsim eval`: are gunshots heard when they should be?

Rollouts of HORIZON ticks under the controls that were really executed, after a context; shots are
found in real and imagined sound by one detector (shots.py), and matched one to one within
WINDOW_S. The real sound of the recording is the truth.

    onset_f1             2 hits / (shots imagined + shots really heard)
    onset_f1_shuffled    the real sound of another moment for the imagined one: must fail
    onset_f1_silence     no sound at all: must fail
    onset_f1_codec       the real sound through the world's codec: what its head allows
    av_offset_ms         median distance of a shot's sound from its flash, both imagined
    av_offset_real_ms    the same in real footage
    flashes              share of imagined shots whose flash is seen
    loudness             root mean square of the imagined sound / of the real one
    sound_ms             of a tick, median, one player (a plain number)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worldsim.data.sound import FULL, read_rows
from worldsim.errors import DataError
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.intervals import Graded, interval, measure, missing, ratio, resamples
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.evaluation.shots import Bools, Flashes, Floats, Listener, Shots, matched

if TYPE_CHECKING:
    from worldsim.world import World

HORIZON = 128  # ticks of a rollout
WINDOW_S = 0.05  # seconds between two sounds that count as one, at most (EVALUATION: +-50 ms)
KEYS = (
    "onset_f1",
    "onset_f1_shuffled",
    "onset_f1_silence",
    "onset_f1_codec",
    "av_offset_ms",
    "av_offset_real_ms",
    "flashes",
    "loudness",
)


@dataclass(frozen=True)
class Heard:
    """One window: what was real, and what was imagined."""

    window: Window
    attack: Bools  # (HORIZON,)
    real: Floats  # (HORIZON, N)
    imagined: Floats  # (HORIZON, N)
    frames: Frames  # (HORIZON, H, W, 3), imagined


def grade(
    world: "World", library: Library, plan: Plan, log: Callable[[str], None]
) -> tuple[dict[str, object], list[Heard]]:
    """The block, and the rollouts that it stands on."""
    why = why_not(world, library)
    if why is not None:
        return dict.fromkeys(KEYS, missing(why)), []
    samples = samples_of(world)
    sounds = real_sounds(library, world.fps, samples)
    attacks = [attack_of(library, f.controls) for f in library.footage]
    shots = Shots.fit(Listener(samples, world.fps), sounds, attacks)
    if shots is None:
        return dict.fromkeys(KEYS, missing("nothing is heard after any attack")), []
    windows = library.windows(context=plan.context, horizon=HORIZON, count=plan.windows, seed=8)
    windows = [w for w in windows if attack_of(library, w.future_controls(HORIZON)).any()]
    if len(windows) < 2:
        return dict.fromkeys(KEYS, missing(f"no window of {HORIZON} ticks with an attack")), []
    log(f"listening to {len(windows)} rollouts of {HORIZON} ticks")
    times: list[float] = []
    heard = list(listen(world, library, windows, sounds, plan.batch, times))
    flashes = Flashes.fit(
        [f.frames for f in library.footage],
        [
            np.rint(shots.heard(s, a) * world.fps).astype(np.int64)
            for s, a in zip(sounds, attacks, strict=True)
        ],
    )
    return {**measures(world, shots, flashes, heard), "sound_ms": sound_ms(world)}, heard


def why_not(world: "World", library: Library) -> str | None:
    """Why this world cannot be heard on these recordings, or None."""
    if world.sample_rate is None:
        return "this world is silent"
    if not library.has_controls or "attack" not in library.controls:
        return "the recordings have no side files with a control `attack`"
    if any(name not in world.bindings for name in library.controls):
        return "the world binds no action to some of the recordings' controls"
    return None


def samples_of(world: "World") -> int:
    """N, samples of a tick."""
    assert world.config.sound is not None, "callers ask worlds with sound"
    return world.config.sound.codec.samples


def real_sounds(library: Library, fps: float, samples: int) -> list[Floats]:
    """(T, N) of every recording; DataError for one without sound."""
    found = []
    for footage in library.footage:
        rows = read_rows(footage.path, len(footage.frames), fps, samples)
        if rows is None:
            raise DataError(f"{footage.path}: holds no sound to compare with")
        found.append(rows.astype(np.float32) / np.float32(FULL))
    return found


def attack_of(library: Library, controls: "np.typing.NDArray[np.int64] | None") -> Bools:
    """Where `attack` was executed."""
    assert controls is not None, "callers ask recordings with controls"
    attack: Bools = controls == library.controls.index("attack")
    return attack


def listen(
    world: "World",
    library: Library,
    windows: Sequence[Window],
    sounds: Sequence[Floats],
    batch: int,
    times: list[float],
) -> Iterator[Heard]:
    """Roll the world out from every window."""
    predictor = WorldPredictor(world, library.controls)
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        controls = np.stack([w.future_controls(HORIZON) for w in group])
        frames, audio = [], []
        for output in predictor.outputs(group, controls):
            assert output.audio is not None, "the world has sound"
            frames.append(output.frame)
            audio.append(output.audio)
        for i, window in enumerate(group):
            now = window.now + 1
            yield Heard(
                window,
                attack_of(library, controls[i]),
                sounds[window.footage.index][now : now + HORIZON],
                np.stack([a[i] for a in audio]),
                np.stack([f[i] for f in frames]),
            )


def measures(
    world: "World", shots: Shots, flashes: Flashes | None, heard: Sequence[Heard]
) -> dict[str, object]:
    """All of KEYS."""
    units = [h.window.unit for h in heard]
    truth = [shots.heard(h.real, h.attack) for h in heard]
    told = [world.repeat_sound(h.real) for h in heard]
    # another moment: half of the windows away, which is mostly another recording
    half = max(1, len(heard) // 2)
    others = [heard[(i + half) % len(heard)].real for i in range(len(heard))]
    silence = [np.zeros_like(h.real) for h in heard]
    rows = {
        "onset_f1": [h.imagined for h in heard],
        "onset_f1_shuffled": others,
        "onset_f1_silence": silence,
        "onset_f1_codec": told,
    }
    report: dict[str, object] = {}
    for key, played in rows.items():
        above, below = [], []
        for h, sound, real in zip(heard, played, truth, strict=True):
            ours = shots.heard(sound, h.attack)
            above.append(2.0 * matched(ours, real, WINDOW_S))
            below.append(float(len(ours) + len(real)))
        report[key] = ratio(above, below, units).graded()
    report |= seen(shots, flashes, heard, world.fps)
    power = [float(np.square(h.imagined).mean()) for h in heard]
    real_power = [float(np.square(h.real).mean()) for h in heard]
    report["loudness"] = _root(ratio(power, real_power, units).graded())
    return report


def seen(
    shots: Shots, flashes: Flashes | None, heard: Sequence[Heard], fps: float
) -> dict[str, object]:
    """`av_offset_ms`, `av_offset_real_ms` and `flashes`."""
    if flashes is None:
        why = missing("no shot is heard in the real sound")
        return dict.fromkeys(("av_offset_ms", "av_offset_real_ms", "flashes"), why)
    offsets: dict[str, list[tuple[int, float]]] = {"imagined": [], "real": []}
    found: list[float] = []
    units: list[int] = []
    for h in heard:
        real_frames = h.window.footage.frames[h.window.now + 1 :][:HORIZON]
        for kind, sound, frames in (
            ("imagined", h.imagined, h.frames),
            ("real", h.real, real_frames),
        ):
            for time in shots.heard(sound, h.attack).tolist():
                tick = int(time * fps + 1e-3)
                offset = flashes.offset(frames, tick)
                if kind == "imagined":
                    found.append(float(offset is not None))
                    units.append(h.window.unit)
                if offset is not None:
                    late = 1e3 * (time - (tick - offset) / fps)
                    offsets[kind].append((h.window.unit, abs(late)))
    return {
        "av_offset_ms": median(offsets["imagined"]),
        "av_offset_real_ms": median(offsets["real"]),
        "flashes": measure(found, units).graded(),
    }


def median(values: Sequence[tuple[int, float]]) -> Graded:
    """Of (unit, value) pairs, with the interval of medians over drawn units."""
    if not values:
        return missing("no shot whose flash is seen")
    units = np.array([u for u, _ in values])
    numbers = np.array([v for _, v in values])
    order = np.argsort(numbers)
    present, place = np.unique(units, return_inverse=True)
    weights = resamples(len(present))[:, place][:, order].cumsum(axis=1)
    middle = (weights >= weights[:, -1:] / 2).argmax(axis=1)
    draws = numbers[order][middle].astype(np.float64)
    return interval(float(np.median(numbers)), draws, len(present))


def sound_ms(world: "World", ticks: int = 60) -> float:
    """Milliseconds that the sound takes of a tick of one player, median."""
    state, found = world.reset(), []
    for _ in range(ticks):
        state, output = world.step(state, 0, flow_steps=1)
        found.append(output.timing["sound_ms"])
    return round(float(np.median(found)), 3)


def _root(graded: Graded) -> Graded:
    rooted = {
        k: v**0.5 for k, v in graded.items() if k in ("value", "lo", "hi") and isinstance(v, float)
    }
    return {**graded, **rooted}
