"""A state as bytes: versioned, hashed, exact; never pickle.

magic b"WSAV" | version u16 | world hash (32) | sha256 of the payload (32) | safetensors payload
"""

import hashlib
import struct

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from worldsim.errors import CheckpointError
from worldsim.state import WorldState

MAGIC = b"WSAV"
VERSION = 1
HEADER = struct.Struct("<4sH32s32s")


def encode_state(state: WorldState, world_hash: str) -> bytes:
    """The snapshot of `state` in the world with this sha256 (hexadecimal)."""
    tensors = {k: v.cpu().contiguous() for k, v in state.tensors().items()}
    payload = save(tensors)
    digest = hashlib.sha256(payload).digest()
    return HEADER.pack(MAGIC, VERSION, bytes.fromhex(world_hash), digest) + payload


def decode_state(data: bytes, world_hash: str, device: torch.device) -> WorldState:
    """The state in a snapshot; CheckpointError if it is not one, is damaged, or is of another
    world."""
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise CheckpointError(
            "not a worldsim snapshot; expected a file written by F5 or snapshot()"
        )
    _, version, of_world, digest = HEADER.unpack_from(data)
    if version != VERSION:
        raise CheckpointError(f"snapshot has version {version}, this worldsim reads {VERSION}")
    if of_world.hex() != world_hash:
        raise CheckpointError(
            f"snapshot belongs to world {of_world.hex()[:12]}, this one is {world_hash[:12]}"
        )
    payload = data[HEADER.size :]
    if hashlib.sha256(payload).digest() != digest:
        raise CheckpointError("snapshot is truncated or altered; use another one")
    try:
        tensors = load(payload)
        return WorldState(**{k: v.to(device) for k, v in tensors.items()})
    except (SafetensorError, TypeError) as error:
        raise CheckpointError(f"snapshot cannot be read: {error}") from error
