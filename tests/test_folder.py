"""World folders and snapshots: every damaged or foreign one is one clear sentence (F43-F45, F54,
F55)."""

import contextlib
import json
import re
import struct
import tracemalloc
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from worldsim.dynamics import DynamicsConfig
from worldsim.errors import CheckpointError, MachineError
from worldsim.folder import WorldConfig, find_world, read_config, read_weights, write_world
from worldsim.model import WorldModel
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import World


def small_config() -> WorldConfig:
    tokenizer = TokenizerConfig(height=32, width=48, channels=8)
    rows, columns = tokenizer.grid
    return WorldConfig(
        name="small",
        fps=35.0,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            rows=rows, columns=columns, channels=8, num_actions=3, width=20, heads=5, state_size=4
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A world folder with random weights: enough for everything but a good picture."""
    torch.manual_seed(0)
    model = WorldModel(small_config())
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_world(tmp_path / "small", small_config(), model)
    return tmp_path / "small"


def context(batch: int = 2, ticks: int = 5, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (batch, ticks, 32, 48, 3), dtype=np.uint8)


def test_a_written_world_loads_and_plays(folder: Path) -> None:
    world = World.load(folder)
    state = world.reset(context())

    state, out = world.step(state, [0, 2])

    assert out.frame.shape == (2, 32, 48, 3)
    assert out.frame.dtype == np.uint8
    assert set(out.timing) == {"head_ms", "decode_ms", "trunk_ms"}
    assert state.tick.tolist() == [1, 1]


def test_a_restored_snapshot_replays_bit_for_bit(folder: Path) -> None:
    world = World.load(folder)
    state = world.reset(context(), seed=7)
    state, _ = world.step(state, 1)
    saved = world.snapshot(state)

    def play(state: object) -> list[np.ndarray]:
        frames = []
        for action in (0, 1, 2, 1):
            state, out = world.step(state, action)
            frames.append(out.frame)
        return frames

    for first, again in zip(play(state), play(world.restore(saved)), strict=True):
        assert np.array_equal(first, again)


def test_the_seed_determines_the_rollout_and_differs_between_players(folder: Path) -> None:
    world = World.load(folder)
    frames = np.repeat(context(batch=1), 2, axis=0)

    _, out = world.step(world.reset(frames, seed=3), 1)
    _, again = world.step(world.reset(frames, seed=3), 1)

    assert np.array_equal(out.frame, again.frame)
    assert not np.array_equal(out.frame[0], out.frame[1])


@pytest.mark.parametrize("flow_steps", [1, 2, 4])
def test_without_noise_the_seed_does_not_matter(folder: Path, flow_steps: int) -> None:
    world = World.load(folder, flow_steps=flow_steps)
    world._model.dynamics.head.write.weight.data.normal_()  # what is new is not what was moved
    state = world.reset(np.repeat(context(batch=1), 2, axis=0), seed=[1, 2])

    _, sampled = world.step(state, 0)
    _, exact = world.step(state, 0, noise_scale=0.0)

    assert not np.array_equal(sampled.frame[0], sampled.frame[1])
    assert np.array_equal(exact.frame[0], exact.frame[1])


def test_a_player_is_not_changed_by_the_others_in_the_batch(folder: Path) -> None:
    world = World.load(folder)
    one, other = context(seed=0), context(seed=0)
    other[0] = context(seed=1)[0]

    _, first = world.step(world.reset(one), [0, 1])
    _, second = world.step(world.reset(other), [2, 1])

    assert np.array_equal(first.frame[1], second.frame[1])
    assert not np.array_equal(first.frame[0], second.frame[0])


def test_observing_a_real_frame_equals_having_had_it_as_context(folder: Path) -> None:
    world, frames = World.load(folder), context()
    actions = np.array([[0, 1, 2, 1], [2, 2, 0, 0]])

    whole = world.reset(frames, actions=actions)
    state = world.reset(frames[:, :-1], actions=actions[:, :-1])
    state = world.observe(state, frames[:, -1], actions[:, -1])

    torch.testing.assert_close(state.context, whole.context, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("action", [3, -1, [0, 9]])
def test_a_wrong_action_names_the_rule(folder: Path, action: object) -> None:
    world = World.load(folder)
    with pytest.raises(ValueError, match=r"action must be < 3, got (3|-1|9)"):
        world.step(world.reset(context()), action)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"flow_steps": 3}, r"flow_steps must be one of \(1, 2, 4\), got 3"),
        ({"noise_scale": float("inf")}, "noise_scale must be a number from 0 on, got inf"),
        ({"noise_scale": float("nan")}, "noise_scale must be a number from 0 on, got nan"),
    ],
)
def test_a_tick_with_a_wrong_number_names_the_rule(
    folder: Path, how: dict[str, float], rule: str
) -> None:
    world = World.load(folder)
    with pytest.raises(ValueError, match=rule):
        world.step(world.reset(context()), 0, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"frames": None, "batch": 0}, "batch must be at least 1, got 0"),
        ({"frames": None, "actions": [0]}, "give frames, too"),
        ({"frames": context()[0, 0]}, r"frames must be uint8 \(T, 32, 48, 3\) or \(B, T, "),
        ({"frames": context()[:, :0]}, "got uint8 "),
        ({"batch": 3}, "frames are of 2 players, batch is 3"),
        ({"seed": 2**63}, "seed must be an int of 64 bits"),
        ({"seed": [1, 2, 3]}, "seed must be one int or 2 ints, got 3"),
    ],
)
def test_a_wrong_beginning_names_the_rule(
    folder: Path, given: dict[str, object], rule: str
) -> None:
    world = World.load(folder)
    with pytest.raises(ValueError, match=rule):
        world.reset(**{"frames": context(), **given})  # type: ignore[arg-type]


def test_what_is_shown_to_a_world_has_the_shape_that_it_names(folder: Path) -> None:
    world, frames = World.load(folder), context()[0]
    state = world.reset(frames)
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, "):
        world.encode(frames[0])
    with pytest.raises(ValueError, match=r"frames must be uint8 \(B, "):
        world.observe(state, frames[0], 0)
    with pytest.raises(ValueError, match="one for each of 1 players, got 2"):
        world.observe(state, frames[:2], 0)


def test_a_state_of_another_world_is_refused(folder: Path) -> None:
    world = World.load(folder)
    state = world.reset(context())
    other = replace(state, latent=state.latent[..., 1:])
    with pytest.raises(ValueError, match="the state is of another world"):
        world.step(other, 0)


def test_a_seed_may_be_of_any_kind_of_int(folder: Path) -> None:
    world = World.load(folder)
    one, other = (world.reset(context(), seed=s) for s in (np.int64(3), [3, 4]))  # type: ignore[arg-type]

    assert one.seed.tolist() == other.seed.tolist() == [3, 4]


def test_without_keyframes_all_else_stays(folder: Path) -> None:
    world = World.load(folder, flow_steps=4)

    assert world.without_keyframes().flow_steps == 4
    assert not world.without_keyframes().has_keyframes


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_here_is_one_sentence(folder: Path, device: str) -> None:
    with pytest.raises(MachineError, match=f"device '{device}' cannot be used here .*; cpu can"):
        World.load(folder, device=device)


def test_a_missing_world_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no world here.*shipped worlds"):
        World.load(tmp_path / "nowhere")


def test_weights_of_a_world_before_sharpening_load_without_it(folder: Path) -> None:
    path = folder / "model.safetensors"
    stored = load_file(path)
    del stored["tokenizer.decoder.sharpening"]
    save_file(stored, path)

    assert World.load(folder)._model.tokenizer.decoder.sharpening == 0


def test_truncated_weights_name_the_file(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated"):
        World.load(folder)


def header(**tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**33) + b"{}",
        header(w={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}) + bytes(8),
        header(
            a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            b={"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        )
        + bytes(12),
        header(w={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + bytes(4),
    ],
    ids=["header of 8 GB", "tensor of 4 TB", "overlap", "negative shape"],
)
def test_f44_bombs_in_the_header_are_refused_before_anything_is_allocated(
    folder: Path, content: bytes
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read_weights(folder, WorldModel(small_config()))
        assert tracemalloc.get_traced_memory()[1] < 50e6  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_f44_weights_that_are_no_numbers_are_named(folder: Path, value: float) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[3]
    weights[name].view(-1)[0] = value
    save_file(weights, path)

    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} holds values that are not fin"):
        World.load(folder)


def test_f43_a_pickle_under_the_name_of_weights_is_refused_and_not_run(
    folder: Path, tmp_path: Path
) -> None:
    sentinel = tmp_path / "sentinel"
    # what pickle.dumps makes of an object whose __reduce__ calls os.system
    call = f"cos\nsystem\n(S'touch {sentinel}'\ntR.".encode()
    (folder / "model.safetensors").write_bytes(call)

    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        World.load(folder)

    assert not sentinel.exists()


def test_f55_only_what_cannot_hold_code_is_fetched_at_the_revision_that_was_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "world.py").write_text("raise SystemExit('ran')")
    (folder / "optimizer.pkl").write_bytes(b"cos\n")
    asked: dict[str, object] = {}

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision)
        files = [path.name for path in folder.iterdir()]
        fetched = {f for f in files if any(fnmatch(f, p) for p in allow_patterns)}
        assert fetched == {"config.json", "model.safetensors"}
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)

    assert find_world("someone/hall@4f2a") == folder
    assert asked == {"name": "someone/hall", "revision": "4f2a"}


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc", "~/worlds", "a/b/c", "doom-hall/../doom-hall/../.."]
)
def test_f54_a_name_that_is_a_path_is_never_looked_for_among_the_shipped_worlds(name: str) -> None:
    with pytest.raises(CheckpointError, match="no world here"):
        find_world(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version is 99, this worldsim reads 1"),
        ({"speed": 3}, "speed is not a setting"),
        ({"fps": "fast"}, r"Expected `float`, got `str` - at `\$\.fps`"),
    ],
)
def test_a_foreign_config_names_the_key(folder: Path, change: dict, message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        World.load(folder)


def change_config(folder: Path, part: str | None, changes: dict[str, object]) -> None:
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    (raw if part is None else raw[part]).update(changes)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (None, {"binding": {}}, r": binding is not a setting; the nearest is bindings"),
        ("dynamics", {"head": 3}, r"dynamics\.head is not a setting; the nearest is heads"),
        ("tokenizer", {"encoder_widths": 3}, r"the nearest is encoder_width,"),
        ("dynamics", {"rows": 3}, r"dynamics\.rows is 3, but .* need 2"),
        ("dynamics", {"channels": 9}, r"dynamics\.channels is 9, but .* need 8"),
        ("dynamics", {"num_actions": 9}, r"dynamics\.num_actions is 9, but .* need 3"),
        ("dynamics", {"heads": 0}, r"config\.json"),
        ("tokenizer", {"height": -16}, r"tokenizer\.height must be > 0, got -16"),
        (None, {"fps": 0.0}, r"fps must be > 0"),
        (None, {"holds": [0, 14]}, r"holds must have one number for each of the 3 actions, got 2"),
        (None, {"bindings": {"jump": 7}}, r"bindings\.jump must be < 3, got 7"),
    ],
)
def test_f45_a_config_that_cannot_be_names_the_key_and_the_nearest_valid_one(
    folder: Path, part: str | None, changes: dict[str, object], message: str
) -> None:
    change_config(folder, part, changes)

    with pytest.raises(CheckpointError, match=message):
        read_config(folder)


values = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=values | st.lists(values, max_size=3))
def test_f45_whatever_stands_in_a_config_it_is_read_or_refused(
    folder: Path, data: st.DataObject, value: object
) -> None:
    raw = asdict(small_config())
    part = raw[data.draw(st.sampled_from(["tokenizer", "dynamics"]))]
    where = data.draw(st.sampled_from([raw, part]))
    where[data.draw(st.sampled_from(sorted(where)) | st.text(max_size=6))] = value
    (folder / "config.json").write_text(json.dumps(raw))

    with contextlib.suppress(CheckpointError):
        assert read_config(folder).fps > 0


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "noise"])
def test_a_damaged_or_foreign_snapshot_is_refused(folder: Path, damage: str) -> None:
    world = World.load(folder)
    data = bytearray(world.snapshot(world.reset(context())))
    if damage == "truncate":
        data = data[:-50]
    elif damage == "flip":
        data[-7] ^= 1
    elif damage == "foreign":
        data[10] ^= 1
    else:
        data = bytearray(b"not a snapshot at all")
    with pytest.raises(CheckpointError, match=r"snapshot"):
        world.restore(bytes(data))
