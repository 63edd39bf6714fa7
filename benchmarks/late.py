"""Late action or one stack? Trains the same dynamics both ways on the same latents, and grades it.

    python -m worldsim.benchmarks.late recordings held-out --init doom-hall --out runs/late

    late         the trunk reads a frame and what led to it; only the head knows the coming action,
                 so that the trunk can run after the frame has left
    one stack    the trunk is told the coming action too, so it stands between the key and the frame
    blind trunk  late; the trunk is told no actions: it cannot guess what the player will do next
                 from what was done
    swapped      late; three tenths of the actions are random ones in training. A model that
                 listens to actions must do worse with wrong ones, one that guesses does not care

All rows have the same networks and operations, the tokenizer of the same world, the same number of
updates. Graded on the deterministic prediction: gains over a copy, delta(4), CFR(4) and turns (see
`worldsim eval`), and the time from the action to the picture.

What limits the answer: short training from nothing, one seed unless more are asked for.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worldsim.benchmarks.ablation import changed, parser_of
from worldsim.dynamics import Dynamics, TrunkState
from worldsim.dynamics.matching import match, told_by
from worldsim.evaluation import control, fidelity
from worldsim.evaluation.counterfactual import Branches, branch
from worldsim.evaluation.footage import Library, Window, load_library
from worldsim.evaluation.intervals import Measure, Missing
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.plan import plan_of
from worldsim.evaluation.study import branch_points
from worldsim.folder import WorldConfig, find_world, read_config, read_weights
from worldsim.model import WorldModel
from worldsim.runtime import prepare
from worldsim.tokenizer import Tokenizer, to_frames, to_pixels
from worldsim.training.begin import prepare_footage
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.footage import Footage
from worldsim.training.latents import encode_footage
from worldsim.training.loop import fit
from worldsim.training.presets import PRESETS
from worldsim.training.say import say
from worldsim.training.streams import Chunk, Streams

Latents = list[npt.NDArray[np.float16]]
# row -> constants of the dynamics' training
ROWS: dict[str, dict[str, float]] = {
    "late": {},
    "one stack": {},
    "blind trunk": {"FORGET_ACTIONS": 1.0},
    "swapped": {},
}
NO_CRITIC = {"CRITIC_FROM": 2.0}  # nothing here is graded on samples
SWAPPED = 0.3
TIMED = 200  # ticks


class OneStackStage(DynamicsStage):
    """The trunk is told the action that comes, where it is otherwise told the one that was."""

    def known(self, actions: Tensor) -> Tensor:
        return super().known(coming(actions))


class SwappedStreams(Streams):
    """Some of the actions, the last of the sources, are random ones."""

    def __init__(self, *sources: Any, num_actions: int, **how: Any) -> None:
        super().__init__(*sources, **how)
        self._num_actions = num_actions

    def next(self) -> Chunk:
        chunk = super().next()
        *others, actions = chunk.arrays
        rng = np.random.default_rng(int(self._random.integers(2**31)))
        wrong = rng.integers(self._num_actions, size=actions.shape).astype(actions.dtype)
        swapped = np.where(rng.random(actions.shape) < SWAPPED, wrong, actions)
        return replace(chunk, arrays=[*others, swapped])


def coming(actions: Tensor) -> Tensor:
    """int (L, T + 1), what led to each frame -> what each frame leads to; nobody reads the last."""
    return torch.cat([actions[:, 1:], actions[:, -1:]], dim=1)


@dataclass(frozen=True)
class Player:
    """Plays a trained dynamics from a window on, in either order, by its means: a Predictor."""

    dynamics: Dynamics
    tokenizer: Tokenizer
    is_late: bool
    name: str = "world"
    seconds: dict[str, list[float]] = field(default_factory=dict)  # per part, of every tick

    @torch.inference_mode()
    def rollout(
        self, windows: Sequence[Window], controls: npt.NDArray[np.int64]
    ) -> Iterator[Frames]:
        pixels = to_pixels(torch.from_numpy(np.stack([w.frames for w in windows])))
        past = torch.from_numpy(np.stack([_past(w) for w in windows]))
        past[:, 0] = self.dynamics.config.num_actions  # nobody saw what led to the first frame
        latents = self.tokenizer.encode(pixels)
        actions = torch.from_numpy(controls)
        if not self.is_late:
            past = coming(torch.cat([past, actions[:, :1]], dim=1))[:, :-1]
        latent, before, picture = latents[:, -1], latents[:, -2], pixels[:, -1]
        motion = match(pixels[:, -2], picture, self.tokenizer.config.grid)
        state = replace(self.dynamics.initial_state(len(latent)), latent=latents[:, 0])
        context, state = self._read(latents, past, state, last=self.is_late)
        for t in range(actions.shape[1]):
            if not self.is_late:
                context, state = self._remember(latent, actions[:, t], state)
            latent, before, picture, motion = self._answer(
                context, latent, before, picture, motion, actions[:, t]
            )
            if self.is_late:
                context, state = self._remember(latent, actions[:, t], state)
            yield to_frames(picture).numpy()

    def time_ms(self, window: Window) -> dict[str, float]:
        """From an action to the picture, and to the memory of it: medians over many ticks."""
        clocked = replace(self, seconds={"answer": [], "remember": []})
        for _ in clocked.rollout([window], np.ones((1, TIMED), dtype=np.int64)):
            pass
        answer, remember = (1e3 * float(np.median(s)) for s in clocked.seconds.values())
        return {
            "key_to_picture_ms": answer if self.is_late else answer + remember,
            "tick_ms": answer + remember,
        }

    @contextmanager
    def _clock(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds.setdefault(part, []).append(time.perf_counter() - started)

    def _read(
        self, latents: Tensor, actions: Tensor, state: TrunkState, *, last: bool
    ) -> tuple[Tensor, TrunkState]:
        """All frames, or all but the `last`, whose action comes later."""
        end = latents.shape[1] if last else -1
        levels = latents.new_zeros(latents.shape[:2])
        context, state = self.dynamics.trunk(
            latents[:, :end], actions[:, :end], levels[:, :end], state
        )
        return context[:, -1], state

    def _remember(
        self, latent: Tensor, action: Tensor, state: TrunkState
    ) -> tuple[Tensor, TrunkState]:
        with self._clock("remember"):
            found: tuple[Tensor, TrunkState] = self.dynamics.trunk.step(
                latent, action, latent.new_zeros(len(latent)), state
            )
        return found

    def _answer(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        picture: Tensor,
        motion: Tensor,
        action: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next latent, the one before it, the next picture, and how it came from the last."""
        with self._clock("answer"):
            drawn, moved = self.dynamics.predict(
                context,
                latent,
                before,
                motion,
                picture,
                action,
                self.tokenizer.move,
                noise=None,
                steps=1,
            )
            painted = self.tokenizer.decoder(drawn, moved.latent, moved.picture).clamp(-1, 1)
            motion = told_by(moved.flow, match(picture, painted, self.tokenizer.config.grid))
        return drawn, latent, painted, motion


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--windows", type=int, default=64, help="held-out windows")
    parser.add_argument("--states", type=int, default=40, help="moments of the game to branch from")
    args = parser.parse_args()
    prepare(threads=1)
    config = read_config(find_world(args.init))
    model = WorldModel(config)
    read_weights(find_world(args.init), model)
    tokenizer = model.tokenizer.requires_grad_(False).eval()
    preset = PRESETS["default"]
    footage = prepare_footage(args.recordings, args.out, config, preset, None, is_learned=False)
    latents = encode_footage(tokenizer, footage, args.out / "latents")
    plan = replace(plan_of("standard"), states=args.states)
    library = load_library(
        args.held_out,
        (config.tokenizer.height, config.tokenizer.width),
        max_frames=plan.max_frames,
        log=say,
    )
    windows = library.windows(
        context=plan.context, horizon=max(fidelity.GAINS), count=args.windows, seed=1
    )
    branches = branch(library, branch_points(library, plan), say)
    results = []
    for seed in args.seeds:
        for row in args.rows:
            say(f"{row}, seed {seed}")
            dynamics = trained(args, row, seed, config, tokenizer, footage, latents)
            player = Player(dynamics, tokenizer, is_late=row != "one stack")
            found = graded(player, library, windows, branches)
            line = {"row": row, "seed": seed, "steps": args.steps, **found}
            say(json.dumps(line))
            results.append(line)
    print(json.dumps({"command": "late", "rows": results}))
    return 0


def trained(
    args: argparse.Namespace,
    row: str,
    seed: int,
    config: WorldConfig,
    tokenizer: Tokenizer,
    footage: Footage,
    latents: Latents,
) -> Dynamics:
    """A dynamics that begins with nothing, after its updates."""
    torch.manual_seed(seed)
    bare = replace(config, objects=None, keyframes=0)
    dynamics = WorldModel(bare).dynamics
    batches = PRESETS["default"].dynamics_batches
    sources: list[Any] = [footage.frames, latents, footage.actions]
    how: dict[str, Any] = {**asdict(batches), "seed": seed}
    if row == "swapped":
        count = config.dynamics.num_actions
        streams: Streams = SwappedStreams(sources, num_actions=count, **how)
    else:
        streams = Streams(sources, **how)
    run = args.out / f"{row.replace(' ', '-')}-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    with changed(NO_CRITIC | ROWS[row]):
        stage = (OneStackStage if row == "one stack" else DynamicsStage)(
            dynamics, tokenizer, streams
        )
        averaged = fit(stage, steps=args.steps, run=run)
    dynamics.load_state_dict(averaged.state_dict())
    return dynamics.requires_grad_(False).eval()


def graded(
    player: Player, library: Library, windows: Sequence[Window], branches: Sequence[Branches]
) -> dict[str, Any]:
    """The measures of a row, each with its interval."""
    names = library.controls
    batch = plan_of("standard").batch
    found: dict[str, Measure | Missing] = {**fidelity.gains(player, windows, batch)}
    found["delta4"] = fidelity.delta(player, windows, len(names), batch)
    found["cfr4"] = control.retrieval(player, branches, batch)
    found["sign"] = control.sign(player, branches, names, batch)
    return {k: v.graded() for k, v in found.items()} | player.time_ms(windows[0])


def _past(window: Window) -> npt.NDArray[np.int64]:
    """What led to each frame of the context, (context,); the first is not known."""
    past = window.past_controls
    assert past is not None, "windows of recordings that have side files"
    return np.concatenate([[0], past]).astype(np.int64)


if __name__ == "__main__":
    sys.exit(main())
