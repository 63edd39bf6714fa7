"""What the picture would be without objects: all that a few numbers can say of it.

A hall looks as it does from where the camera stands, which takes few numbers; where every object
is takes many more. So a network that has to paint the picture through a narrow code paints the
hall alone, and what it cannot explain is objects (Sauvalle and de La Fortelle 2021, "Autoencoder-
based background reconstruction"). How wrong it usually is at a place, for texture and for a gun
that swings, is learned too, as the median of its errors, which objects are too rare to move.

Shapes: B pictures, P tokens, C channels of a token, h w cells, H W picture.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE = 12  # numbers in which the whole background is told
SPREAD = 16  # numbers per token, on the way back to a picture
SURELY = 0.03  # error of a colour, in [-1, 1], that is never worth a thought
EXPECTED, STRANGE = 1.2, 2.8  # in usual errors: below the one nothing, above the other surely


class Background(nn.Module):
    def __init__(
        self, rows: int, columns: int, channels: int, cells: int, width: int = 128
    ) -> None:
        """`cells` per token side."""
        super().__init__()
        self.rows, self.columns = rows, columns
        self.squeeze = nn.Linear(channels, 8)
        self.code = nn.Sequential(
            nn.Linear(8 * rows * columns, width), nn.SiLU(), nn.Linear(width, CODE)
        )
        self.spread = nn.Sequential(
            nn.Linear(CODE, width), nn.SiLU(), nn.Linear(width, SPREAD * rows * columns)
        )
        self.paint = nn.Sequential(
            nn.Conv2d(SPREAD, width // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width // 2, 6 * cells**2, 1),
            nn.PixelShuffle(cells),
        )

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, C) -> colours (B, 3, h, w) as of `cell_colours`, and the usual error of each."""
        code = self.code(self.squeeze(latent).flatten(1))
        x = self.spread(code).unflatten(1, (SPREAD, self.rows, self.columns))
        colours, usual = self.paint(x).float().split(3, dim=1)
        return colours, F.softplus(usual - 2)


def cell_colours(pixels: Tensor, cells: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> light, red against green, yellow against blue, (B, 3, h, w):
    stone differs in light, what lives in colour."""
    red, green, blue = F.adaptive_avg_pool2d(pixels, cells).unbind(dim=1)
    return torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], dim=1)


def background_loss(colours: Tensor, usual: Tensor, seen: Tensor) -> Tensor:
    """L1 of colours, and of the usual error, whose best value is then the median error."""
    error = (colours - seen).abs()
    return error.mean() + (usual - error.detach()).abs().mean()


def strangeness(colours: Tensor, usual: Tensor, seen: Tensor) -> Tensor:
    """How surely a cell is no background, (B, h, w), 0..1."""
    errors = ((colours - seen).abs() / (usual + SURELY)).mean(dim=1)
    return ((errors - EXPECTED) / (STRANGE - EXPECTED)).clamp(0, 1)
