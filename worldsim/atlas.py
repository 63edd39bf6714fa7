"""The action atlas: what each code does, from several scenes, seen and measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Action, at_rest
from worldsim.evaluation.intervals import Graded, measure
from worldsim.evaluation.pictures import save_clip
from worldsim.motion import Motion, mean_motion
from worldsim.provenance import SOURCE_TYPE, notice, write_png

if TYPE_CHECKING:
    from worldsim.signing import Signer
    from worldsim.state import WorldState
    from worldsim.world import World

APART = 12  # ticks of one held code from each scene to the next
GAP, LABEL = 4, 14  # pixels between pictures; height of a line of text
REST = 6  # frames that the clip shows the last picture for, before it begins again


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """A codes, each held for T ticks from S scenes."""

    world: str
    world_hash: str
    names: list[str]  # of the codes, or of the axes and the values that were held
    frames: NDArray[np.uint8]  # (A, S, T + 1, H, W, 3); the first frame is the scene
    motions: list[list[Motion]]  # (A, S)

    def graded(self, code: int) -> dict[str, Graded]:
        """The mean motion of a code in pixels per tick, its interval over scenes."""
        units = range(len(self.motions[code]))
        return {
            name: measure([getattr(m, name) for m in self.motions[code]], units).graded()
            for name in ("right", "down", "nearer")
        }


def draw_atlas(world: "World", *, scenes: int, ticks: int) -> Atlas:
    """Hold every code for `ticks` from `scenes` moments of one walk that begins at the start."""
    states, seen = _scenes(world, scenes)
    together = type(states[0]).stack(states)
    frames = []
    tried = _tried(world)
    for action in tried.values():
        state, shown = together, [seen]
        for _ in range(ticks):
            state, out = world.step(state, action)
            shown.append(out.frame)
        frames.append(np.stack(shown, axis=1))
    clips = np.stack(frames)
    motions = [[mean_motion(clip[:-1], clip[1:]) for clip in row] for row in clips]
    return Atlas(
        world=world.name,
        world_hash=world.hash,
        names=list(tried),
        frames=clips,
        motions=motions,
    )


def _tried(world: "World") -> dict[str, Action]:
    """The actions that are held, by name: every code, or every axis alone at both of its ends."""
    if not world.axes:
        return dict(zip(world.actions, range(world.num_actions), strict=True))
    found: dict[str, Action] = {}
    for i, axis in enumerate(world.axes):
        for end in dict.fromkeys((axis.low, axis.high)):
            action = list(at_rest(world.axes))
            action[i] = end
            found[f"{axis.name}={end:g}"] = tuple(action)
    return found


def write_atlas(atlas: Atlas, fps: float, folder: Path, signer: "Signer | None" = None) -> None:
    """`atlas.png`: the scenes, then per code the last pictures; `atlas.mp4`: the same, moving."""
    folder.mkdir(parents=True, exist_ok=True)
    first = _row(atlas.frames[0, :, 0], "the scenes")
    last = [_row(row[:, -1], _caption(atlas, code)) for code, row in enumerate(atlas.frames)]
    picture, clip = folder / "atlas.png", folder / "atlas.mp4"
    comment = f"{notice(atlas.world, atlas.world_hash)}: what each action does, one row per action"
    write_png(np.concatenate([first, *last]), picture, comment)
    save_clip(_sheets(atlas), fps, clip, comment, SOURCE_TYPE)
    if signer is not None:
        signer.sign(picture, "image/png", world=atlas.world, world_hash=atlas.world_hash)
        signer.sign(clip, "video/mp4", world=atlas.world, world_hash=atlas.world_hash)


def _scenes(world: "World", count: int) -> tuple[list["WorldState"], NDArray[np.uint8]]:
    """Moments APART ticks from each other, and what they show, (count, H, W, 3)."""
    state = world.reset(seed=0)
    actions = list(_tried(world).values())
    states, seen = [], []
    for scene in range(count):
        for _ in range(APART if scene else 1):
            state, out = world.step(state, actions[scene % len(actions)])
        states.append(state)
        seen.append(out.frame[0])
    return states, np.stack(seen)


def _sheets(atlas: Atlas) -> Iterator[NDArray[np.uint8]]:
    ticks = atlas.frames.shape[2]
    for t in [*range(ticks), *[ticks - 1] * REST]:
        rows = [_row(row[:, t], _caption(atlas, c)) for c, row in enumerate(atlas.frames)]
        yield np.concatenate(rows)


def _caption(atlas: Atlas, code: int) -> str:
    moved = {name: graded["value"] for name, graded in atlas.graded(code).items()}
    parts = ", ".join(f"{name} {value:+.1f}" for name, value in moved.items())
    return f"{code} {atlas.names[code]}: {parts} px"


def _row(pictures: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """(S, H, W, 3) side by side, below a line of text."""
    from PIL import Image, ImageDraw

    apart = np.pad(pictures, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    line = Image.new("RGB", (apart.shape[0] * apart.shape[2], LABEL), "white")
    ImageDraw.Draw(line).text((2, 1), text, fill="black")
    return np.concatenate([np.asarray(line), np.concatenate(list(apart), axis=1)])
