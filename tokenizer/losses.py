"""What the tokenizer is trained on: colour, edges, the hardest places, and a small critic.

Plain L1 + L2 loses every small monster: they are a few pixels of a frame. Edges and the hardest
places put them back; the critic puts the texture back that every mean of likely pictures lacks.

Shapes: N frames, H W picture.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def edges(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbouring pixels, across and down."""
    return pixels[..., :, 1:] - pixels[..., :, :-1], pixels[..., 1:, :] - pixels[..., :-1, :]


def edge_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """L1 between the differences of neighbouring pixels of (N, 3, H, W) pictures."""
    return sum(
        ((p - r).abs().mean() for p, r in zip(edges(predicted), edges(real), strict=True)),
        start=predicted.new_zeros(()),
    )


def hardest_loss(error: Tensor, *, side: int = 8, share: float = 0.1) -> Tensor:
    """Mean of the worst `share` of all side x side places of a squared error (N, 3, H, W)."""
    places = F.avg_pool2d(error.mean(1, keepdim=True), side).flatten()
    return places.topk(max(1, int(share * places.numel()))).values.mean()


def reconstruction_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """(N, 3, H, W) pictures in [-1, 1] -> scalar."""
    difference = predicted - real
    return (
        difference.abs().mean()
        + difference.square().mean()
        + edge_loss(predicted, real)
        + hardest_loss(difference.square())
    )


class Critic(nn.Module):
    """Tells real patches from painted ones: (N, 3, H, W) -> logits (N, 1, H/8, W/8).

    A hinge-loss patch critic (Isola et al. 2017; Lim and Ye 2017), small enough for a CPU.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.ModuleList(
            [
                norm(nn.Conv2d(12, width, 3, padding=1)),
                norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
                norm(nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1)),
            ]
        )
        self.verdict = norm(nn.Conv2d(2 * width, 1, 3, padding=1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the features of each layer for feature matching."""
        x, features = F.pixel_unshuffle(pixels, 2), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.verdict(x), features


def critic_loss(real: Tensor, painted: Tensor) -> Tensor:
    """Hinge loss of the critic on its logits."""
    return F.relu(1 - real).mean() + F.relu(1 + painted).mean()


def feature_loss(painted: list[Tensor], real: list[Tensor]) -> Tensor:
    """L1 between the critic's features of painted and real pictures (Wang et al. 2018)."""
    return torch.stack(
        [(p - r.detach()).abs().mean() for p, r in zip(painted, real, strict=True)]
    ).sum()
