"""The tokenizer: pixels <-> latents, one latent frame per video frame, causal and streaming."""

import torch
from torch import Tensor, nn

from worldsim.tokenizer.config import TokenizerConfig
from worldsim.tokenizer.decoder import Decoder, DecoderCache
from worldsim.tokenizer.encoder import Encoder


class Tokenizer(nn.Module):
    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, T, 3, H, W) in [-1, 1] -> latents (B, T, P, C)."""
        batch, ticks = pixels.shape[:2]
        latents: Tensor = self.encoder(pixels.flatten(0, 1))
        return latents.view(batch, ticks, *latents.shape[1:])

    def decode(self, latents: Tensor, cache: DecoderCache) -> tuple[Tensor, DecoderCache]:
        """(B, T, P, C), cache -> pixels (B, T, 3, H, W), cache after the last frame."""
        pixels, cache = self.decoder(latents, cache)
        return pixels, cache

    def show(self, pixels: Tensor, latent: Tensor) -> DecoderCache:
        """The cache of a decoder that has just shown a real frame: (B, 3, H, W), (B, P, C)."""
        return DecoderCache(picture=pixels, latent=latent)


def to_pixels(frames: Tensor) -> Tensor:
    """uint8 (..., H, W, 3) -> float (..., 3, H, W) in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Tensor:
    """float (..., 3, H, W) in [-1, 1] -> uint8 (..., H, W, 3)."""
    return (pixels.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).movedim(-3, -1)
