"""The tokenizer: pixels <-> latents, one latent frame per video frame, causal and streaming."""

import torch
from torch import Tensor, nn

from worldsim.tokenizer.blocks import warp
from worldsim.tokenizer.config import TokenizerConfig
from worldsim.tokenizer.decoder import Decoder
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

    def step(self, latent: Tensor, picture: Tensor) -> Tensor:
        """A wanted latent (B, P, C) and the picture before it, (B, 3, H, W) in [-1, 1] -> the
        picture of that latent, about [-1, 1]."""
        with torch.no_grad():
            code = self.encoder(picture)
        painted: Tensor = self.decoder(latent, code, picture)
        return painted

    def move(self, picture: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """A picture (B, 3, H, W) and a flow (B, 2, H, W) in pixels (`warp`) -> the moved picture,
        and its latent (B, P, C), without gradients."""
        # bicubic: what is moved is moved again in the next tick, and bilinear blur adds up
        moved = warp(picture, flow, mode="bicubic").clamp(-1, 1)
        with torch.no_grad():
            return moved, self.encoder(moved)

    def decode(self, latents: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, T, P, C) and the picture before them -> pixels (B, T, 3, H, W), about
        [-1, 1], and the last picture, clamped."""
        frames = []
        for latent in latents.unbind(dim=1):
            frames.append(self.step(latent, picture))
            picture = frames[-1].clamp(-1, 1)
        return torch.stack(frames, dim=1), picture


def to_pixels(frames: Tensor) -> Tensor:
    """uint8 (..., H, W, 3) -> float (..., 3, H, W) in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Tensor:
    """float (..., 3, H, W) in [-1, 1] -> uint8 (..., H, W, 3)."""
    return (pixels.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).movedim(-3, -1)
