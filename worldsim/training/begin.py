"""What a run begins with: its footage, the settings of its world, and the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from worldsim.bindings import bound
from worldsim.dynamics import Dynamics
from worldsim.dynamics.latent_actions import ActionEncoder
from worldsim.dynamics.objects import Objects, SlotReader
from worldsim.dynamics.sound import SoundDynamics
from worldsim.errors import DataError, WorldsimError
from worldsim.folder import WorldConfig, find_world, read_weights
from worldsim.model import WorldModel, new_keyframes
from worldsim.phi import find_features
from worldsim.sound import Sound, new_sound
from worldsim.tokenizer.features import Features
from worldsim.tokenizer.student import FeaturesConfig, Student
from worldsim.training.footage import Footage, look, pick_rate, pick_size, read_footage
from worldsim.training.labels import only_labelled, read_labels
from worldsim.training.own_features import own_features
from worldsim.training.presets import Preset
from worldsim.training.say import say

BEGUN_ANEW = ("dynamics", "objects")  # stages of which nothing stays where labels are forgotten


def prepare_footage(
    videos: Path,
    run: Path,
    base: WorldConfig | None,
    preset: Preset,
    size: tuple[int, int] | None,
    *,
    is_learned: bool,
) -> Footage:
    """What is in `videos`, at the size and rate of `base`, or at those that fit it best; side
    files are opened only if the actions are not to be learned."""
    found = look(videos)
    if not is_learned:
        found = only_labelled(found)
    fps = base.fps if base else pick_rate(found)
    if base:
        size = (base.tokenizer.height, base.tokenizer.width)
    elif size is None:
        size = pick_size(found, preset.tokenizer.num_tokens, preset.tokenizer.patch)
    ticks = max(preset.tokenizer_batches.ticks, preset.dynamics_batches.ticks)
    footage = read_footage(found, size, fps, run / "cache", min_frames=ticks + 2)
    if not is_learned:
        footage = read_labels(footage)
    if base and footage.axes:
        mine, theirs = ([a.name for a in axes] for axes in (base.axes, footage.axes))
        if mine != theirs:
            raise DataError(f"{base.name} has the axes {mine}, the footage has {theirs}")
    elif base and base.axes:
        raise DataError(f"{base.name} has axes; use --actions labelled, with axes in side files")
    minutes = footage.num_frames / fps / 60
    say(
        f"footage: {len(footage.frames)} of {len(found)} videos, {footage.num_frames} frames, "
        f"{minutes:.1f} min, at {size[1]}x{size[0]} and {fps:g} Hz"
    )
    return footage


def new_config(footage: Footage, preset: Preset, name: str) -> WorldConfig:
    """A world for `footage`, with its controls, or with codes to be learned if it has none."""
    height, width = footage.frames[0].shape[1:3]
    tokenizer = replace(preset.tokenizer, height=height, width=width)
    rows, columns = tokenizer.grid
    scales = tuple(axis.scale for axis in footage.axes)
    count = 0 if scales else len(footage.controls) or preset.dynamics.num_actions
    names = footage.controls or tuple(f"code_{code}" for code in range(count))
    return WorldConfig(
        name=name,
        fps=footage.fps,
        actions=list(names),
        bindings={control: i for i, control in enumerate(names)},
        axes=list(footage.axes),
        learned_actions=not (footage.controls or footage.axes),
        tokenizer=tokenizer,
        dynamics=replace(
            preset.dynamics,
            rows=rows,
            columns=columns,
            cell=tokenizer.stem,
            num_actions=count,
            axes=scales,
        ),
    )


def config_of(preset: Preset, name: str) -> WorldConfig:
    """The settings of a world of the preset's own shape, for which there is no footage."""
    codes = [f"code_{code}" for code in range(preset.dynamics.num_actions)]
    return WorldConfig(
        name=name,
        fps=24.0,
        actions=codes,
        bindings={},
        tokenizer=preset.tokenizer,
        dynamics=preset.dynamics,
    )


def continued(base: WorldConfig, *, is_learned: bool) -> WorldConfig:
    """The settings of a world that goes on from `base`. One with labelled actions may begin to
    learn codes of its own; learned codes stay codes, since nobody has labels for them.

    Raises WorldsimError if they should not.
    """
    if base.learned_actions and not is_learned:
        raise WorldsimError(f"{base.name}: its actions are learned; use --actions learned")
    if base.learned_actions or not is_learned:
        return base
    history = _still_true(base.training.get("history", []))
    training = {**base.training, "history": history}
    return replace(bound(base, {}), learned_actions=True, start_actions=[], training=training)


def _still_true(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The account of a world's training without that of the networks that begin anew."""
    told = []
    for run in history:
        steps = {k: v for k, v in run.get("steps", {}).items() if k not in BEGUN_ANEW}
        if steps or not run.get("steps"):
            told.append({**run, "steps": steps})
    return told


def refuse_without_codes(config: WorldConfig, consistency: str | None) -> None:
    """WorldsimError for what needs codes, in a world that has axes."""
    if config.axes and consistency == "band":
        raise WorldsimError(f"{config.name}: a band per action needs codes, it has axes")


def with_sound(config: WorldConfig) -> WorldConfig:
    """The same world, fit to learn sound; as it is if it has some already."""
    if config.sound is not None:
        return config
    tokens, channels = config.tokenizer.num_tokens, config.tokenizer.channels
    sound = new_sound(config.fps, tokens, channels, len(config.actions), axes=config.dynamics.axes)
    return replace(config, sound=sound, sample_rate=sound.codec.sample_rate)


def begin_model(
    config: WorldConfig, init: str | Path | None, base: WorldConfig | None
) -> WorldModel:
    """New networks, or those of the world `init`, whose settings are `base`. Where codes are to be
    learned now, what was trained on labels is new: it would know them."""
    if init is None or base is None:
        return WorldModel(config)
    model = WorldModel(base)
    read_weights(find_world(init), model)
    if config.learned_actions and not base.learned_actions:
        _forget_labels(model, base)
    if config.keyframes and model.keyframes is None:
        model.keyframes = new_keyframes(config)
    if config.sound is not None and model.sound is None:
        model.sound = Sound(config.sound)
    if config.learned_actions and model.actions is None:
        model.actions = ActionEncoder(config.dynamics)
    if config.objects and model.objects is None:
        model.objects = Objects(config.objects, config.dynamics)
        model.dynamics.reader = SlotReader(config.objects, config.dynamics)
    if config.features is not None and config.features != base.features:
        model.features = Student(config.tokenizer, config.features.size)
    return model


def _forget_labels(model: WorldModel, base: WorldConfig) -> None:
    """New networks for old ones that were told what was done."""
    parts = ["dynamics"]
    model.dynamics = Dynamics(base.dynamics, base.objects)
    if base.objects is not None:
        parts.append("objects")
        model.objects = Objects(base.objects, base.dynamics)
    if model.sound is not None and base.sound is not None:
        parts.append("sound")
        model.sound.dynamics = SoundDynamics(base.sound.dynamics)  # the codec knows no actions
    say(f"{base.name}: what was trained on its labels begins anew: {', '.join(parts)}")


def begin_features(
    source: str | None, footage: Footage, run: Path, preset: Preset, *, needed: bool
) -> Features | None:
    """phi from `source`, or what there is: EfficientNet-Lite0 if it was converted, else, if it is
    `needed`, a small one that learns from the footage. `source` "own" asks for that."""
    phi = None if source == "own" else find_features(source)
    if phi is None and (needed or source == "own"):
        phi = own_features(footage, run, preset.own_features)
    if phi is not None:
        say(f"features: {phi.described}")
    return phi


def featured(config: WorldConfig, phi: Features) -> WorldConfig:
    """The settings of a world whose student is to learn from `phi`; limits come with training."""
    known = config.features
    if known is not None and known.phi == phi.described:
        return config  # its student goes on
    return replace(config, features=FeaturesConfig(phi=phi.described, size=phi.size))
