"""Convolutional parts shared by the encoder and the decoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Module):
    """A convolution whose weight is stored as a matrix, (out, in * k * k): Muon takes matrices."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        like = nn.Conv2d(inputs, outputs, kernel)
        self.weight = nn.Parameter(like.weight.detach().flatten(1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._shape = (outputs, inputs, kernel, kernel)
        self._stride, self._padding = stride, (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        weight = self.weight.view(self._shape)
        return F.conv2d(x, weight, self.bias, self._stride, self._padding)


class Residual(nn.Module):
    """x + conv(act(conv(norm(x)))), 3x3 through a narrow middle: (B, D, H, W) -> (B, D, H, W).

    Starts as the identity. The norm is over the channels of each place, so that a place does not
    know how bright the others are. Widths are multiples of 32: others make bfloat16 convolutions
    several times slower on a CPU.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = Conv(width, hidden, 3)
        self.second = Conv(hidden, width, 3)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)
        change: Tensor = self.second(F.silu(self.first(normed)))
        return x + change


def carry(picture: Tensor, flow: Tensor) -> Tensor:
    """Move a picture by a coarse flow: (B, C, H, W), (B, 2, H / s, W / s) in pixels of the
    picture -> (B, C, H, W)."""
    size = picture.shape[-2:]
    fine = F.interpolate(flow.float(), size=size, mode="bilinear", align_corners=False)
    return warp(picture, fine)


def warp(picture: Tensor, flow: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Fetch each pixel from where `flow` points: out(p) = picture(p + flow(p)).

    picture (B, C, H, W), flow (B, 2, H, W) in pixels, x then y -> (B, C, H, W). Outside the
    picture its border is repeated. `mode` bicubic is sharper, and may overshoot a little.
    """
    _, _, height, width = picture.shape
    y = torch.arange(height, device=picture.device, dtype=torch.float32)
    x = torch.arange(width, device=picture.device, dtype=torch.float32)
    # fp32: a pixel position needs more than the 8 bits of bfloat16's mantissa
    flow = flow.float()
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    scale = place.new_tensor([2 / (width - 1), 2 / (height - 1)])
    grid = ((flow + place) * scale[:, None, None] - 1).permute(0, 2, 3, 1)
    picture = picture.float()
    return F.grid_sample(picture, grid, mode=mode, padding_mode="border", align_corners=True)
