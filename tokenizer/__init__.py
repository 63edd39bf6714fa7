"""Pixels <-> latents; causal, streaming."""

from worldsim.tokenizer.blocks import carry, warp
from worldsim.tokenizer.config import TokenizerConfig
from worldsim.tokenizer.decoder import Decoder
from worldsim.tokenizer.tokenizer import Tokenizer, to_frames, to_pixels

__all__ = ["Decoder", "Tokenizer", "TokenizerConfig", "carry", "to_frames", "to_pixels", "warp"]
