"""A world folder: config.json, model.safetensors, README.md, start clip. Never pickle.

The same folder works on disk, inside the installed package and on a model hub.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldsim.axes import Axis
from worldsim.dynamics import DynamicsConfig, ObjectsConfig
from worldsim.dynamics.sound import SoundDynamicsConfig
from worldsim.errors import CheckpointError
from worldsim.sound import SoundConfig
from worldsim.tokenizer import TokenizerConfig
from worldsim.tokenizer.sound import CodecConfig
from worldsim.tokenizer.student import FeaturesConfig

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "worlds"
HUB_FILES = ["config.json", "model.safetensors", "README.md", "start.*"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """config.json."""

    format_version: int = FORMAT_VERSION
    name: str
    fps: float  # Hz
    sample_rate: int | None = None  # Hz
    actions: list[str]  # one name per code; none, if the actions are axes
    bindings: dict[str, int]  # control -> code
    axes: list[Axis] = field(default_factory=list)  # of continuous actions, in place of codes
    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    sound: SoundConfig | None = None  # None: a silent world
    objects: ObjectsConfig | None = None  # slots, if the world has any
    features: FeaturesConfig | None = None  # None: no student of phi, no alarm
    noise_scale: float = 1.0  # of the noise that frames are sampled from; less is calmer
    learned_actions: bool = False  # the codes were learned, and model.safetensors can infer them
    # per learned code: ticks after which it comes again while its key is held; 0: always there
    holds: list[int] = field(default_factory=list)
    keyframes: int = 0  # frames of its footage that the world keeps
    # between the frames of the start clip: codes, or vectors
    start_actions: list[int | list[float]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)  # the account that the model card tells


def find_world(name: str | Path) -> Path:
    """The folder of a world: a path, the name of a shipped one, or OWNER/NAME[@REVISION] on a
    model hub, from where only the files of a world are fetched, none of which can hold code."""
    path = Path(name)
    if (path / "config.json").is_file():
        return path
    shipped = SHIPPED / str(name)
    if path.name == str(name) and (shipped / "config.json").is_file():
        return shipped
    known = ", ".join(sorted(p.name for p in SHIPPED.iterdir() if p.is_dir()))
    if path.exists() or str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise CheckpointError(
            f"{name}: no world here (a world folder has a config.json); shipped worlds: {known}"
        )
    return _from_hub(str(name))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        repository, _, revision = name.partition("@")
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=HUB_FILES)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{name}: not a folder here, and not on the hub: {error}") from error


def read_config(folder: Path) -> WorldConfig:
    """config.json of a world folder; CheckpointError names the key that is wrong."""
    path = folder / "config.json"
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: expected an object with the world's settings")
    version = raw.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {version}, this worldsim reads {FORMAT_VERSION}"
        )
    parts: dict[str, type] = {
        "tokenizer": TokenizerConfig,
        "dynamics": DynamicsConfig,
        "objects": ObjectsConfig,
        "features": FeaturesConfig,
    }
    for key, kind in parts.items():
        _refuse_unknown(raw.get(key, {}), kind, f"{path}: {key}.")
    if isinstance(raw.get("sound"), dict):
        for key, kind in {"codec": CodecConfig, "dynamics": SoundDynamicsConfig}.items():
            _refuse_unknown(raw["sound"].get(key, {}), kind, f"{path}: sound.{key}.")
    config = _convert(raw, WorldConfig, str(path))
    _refuse_contradictions(config, str(path))
    return config


def _convert(raw: Mapping[str, Any], kind: type[T], where: str) -> T:
    _refuse_unknown(raw, kind, f"{where}: ")
    try:
        return msgspec.convert(raw, kind)
    except (msgspec.ValidationError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{where}: {error}") from error


def _refuse_unknown(raw: Any, kind: type, where: str) -> None:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(raw) - known) if isinstance(raw, dict) else []
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), known, n=1, cutoff=0.0)
        raise CheckpointError(
            f"{where}{unknown[0]} is not a setting; the nearest is {near[0]}, "
            f"known are {', '.join(sorted(known))}"
        )


def _refuse_contradictions(config: WorldConfig, where: str) -> None:
    """What every part alone allows, but not all of them together."""
    parts: dict[str, Any] = {"tokenizer": config.tokenizer, "dynamics": config.dynamics}
    if config.sound is not None:
        parts |= {"sound.codec": config.sound.codec, "sound.dynamics": config.sound.dynamics}
    if config.objects:
        parts["objects"] = config.objects
    for part, value in parts.items():
        for key, number in asdict(value).items():
            if key == "num_actions" and config.axes:
                continue
            for single in number if isinstance(number, tuple) else (number,):
                if isinstance(single, (int, float)) and single <= 0:
                    raise CheckpointError(f"{where}: {part}.{key} must be > 0, got {single}")
    if config.features is not None and config.features.size <= 0:
        raise CheckpointError(f"{where}: features.size must be > 0, got {config.features.size}")
    if config.keyframes < 0:
        raise CheckpointError(f"{where}: keyframes must be >= 0, got {config.keyframes}")
    if config.holds and len(config.holds) != len(config.actions):
        raise CheckpointError(
            f"{where}: holds must have one number for each of the {len(config.actions)} actions, "
            f"got {len(config.holds)}"
        )
    if not 0 < config.fps < float("inf"):
        raise CheckpointError(f"{where}: fps must be > 0 and finite, got {config.fps}")
    rows, columns = config.tokenizer.grid
    wanted = {
        "rows": rows,
        "columns": columns,
        "cell": config.tokenizer.stem,
        "channels": config.tokenizer.channels,
        "num_actions": len(config.actions),
    }
    scales = tuple(axis.scale for axis in config.axes)
    if config.axes and config.actions:
        raise CheckpointError(f"{where}: a world has actions or axes, not both")
    if config.dynamics.axes != scales:
        raise CheckpointError(f"{where}: dynamics.axes is {config.dynamics.axes}, not {scales}")
    for key, value in wanted.items():
        if getattr(config.dynamics, key) != value:
            raise CheckpointError(
                f"{where}: dynamics.{key} is {getattr(config.dynamics, key)}, "
                f"but the tokenizer and the actions need {value}"
            )
    if config.sound is not None:
        _refuse_wrong_sound(config, config.sound, where)
    for control, code in config.bindings.items():
        if not 0 <= code < len(config.actions):
            raise CheckpointError(
                f"{where}: bindings.{control} must be < {len(config.actions)}, got {code}"
            )


def _refuse_wrong_sound(config: WorldConfig, sound: SoundConfig, where: str) -> None:
    codec, wanted = sound.codec, config.tokenizer
    rate = round(codec.samples * config.fps)
    if not rate == codec.sample_rate == config.sample_rate:
        raise CheckpointError(
            f"{where}: sample_rate and sound.codec.sample_rate must be {rate}, "
            f"{codec.samples} samples at {config.fps:g} Hz, "
            f"got {config.sample_rate} and {codec.sample_rate}"
        )
    needed: dict[str, Any] = {"tokens": wanted.num_tokens, "channels": wanted.channels}
    needed["axes"] = config.dynamics.axes
    needed |= {"num_actions": len(config.actions), "groups": codec.groups}
    needed |= {"digits": codec.digits, "levels": codec.levels}
    for key, value in needed.items():
        if getattr(sound.dynamics, key) != value:
            raise CheckpointError(
                f"{where}: sound.dynamics.{key} is {getattr(sound.dynamics, key)}, "
                f"but the tokenizer, the actions and the codec need {value}"
            )


def read_weights(folder: Path, model: nn.Module) -> str:
    """Fill `model` from model.safetensors (16 bits on disk, 32 in memory); returns its sha256."""
    path = folder / "model.safetensors"
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: {error}; the file is missing or truncated, get the world again"
        ) from error
    stored.setdefault("tokenizer.decoder.sharpening", torch.zeros(()))  # worlds before it had none
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in stored or stored[name].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {name} is missing or has another shape than config.json"
            )
        if not torch.isfinite(stored[name]).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite")
    model.load_state_dict({name: stored[name].to(like.dtype) for name, like in wanted.items()})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_world(folder: Path, config: WorldConfig, model: nn.Module) -> None:
    """Write config.json and model.safetensors, each beside its final name and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {
        k: (v.detach().half() if v.is_floating_point() else v.detach()).contiguous()
        for k, v in model.state_dict().items()
    }
    draft = folder / ".model.safetensors.tmp"
    save_file(weights, draft, metadata={"format": "pt"})
    draft.chmod(0o644)  # safetensors writes for the owner alone; an installed world is for all
    os.replace(draft, folder / "model.safetensors")
    write_config(folder, config)


def write_config(folder: Path, config: WorldConfig) -> None:
    """Write config.json beside its final name, then rename it."""
    draft = folder / ".config.json.tmp"
    draft.write_text(json.dumps(asdict(config), indent=2) + "\n")
    os.replace(draft, folder / "config.json")
