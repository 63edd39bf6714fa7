"""phi: pictures to semantic features, frozen, for training and grading.

One interface: uint8 (N, H, W, 3) or pixels (N, 3, H, W) in [-1, 1] -> (N, d), each of length 1;
gradients reach the pixels. Behind it is one of

| name          | layer                               | input     | d   | learned from     |
| ------------- | ----------------------------------- | --------- | --- | ---------------- |
| EfficientNet  | block 10 of Lite0, mean over places | 64 x 64   | 112 | ImageNet         |
| Own           | last, mean over places              | 64 x 48   | 64  | the user's video |
| a transformer | last, mean over patches             | 224 x 224 | its | its own          |

EfficientNet-Lite0 (Tan and Le 2019; Liu 2020, without squeeze-and-excite and with ReLU6) is kept
up to block 10 with its batch norms folded into the convolutions.
"""

from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.tokenizer.tokenizer import to_pixels

# of blocks 0 to 10: kernel, stride, expansion, channels out
BLOCKS = (
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
)
STEM = 32  # channels
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and spread of its colours, 0..1
NAMES = ("efficientnet-lite0", "own")  # what a file of features may say that it is


class Features(nn.Module):
    """The interface. A subclass says `name`, its `input_size` (H, W) and its `size`, d."""

    name: str
    input_size: tuple[int, int]
    size: int

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (N, H, W, 3), or pixels (N, 3, H, W) in [-1, 1] -> (N, d) of length 1."""
        pixels = to_pixels(pictures) if pictures.dtype == torch.uint8 else pictures.float()
        if pixels.shape[-2:] != self.input_size:
            pixels = F.interpolate(
                pixels, self.input_size, mode="bilinear", antialias=True, align_corners=False
            )
        return F.normalize(self.see(pixels), dim=-1)

    def see(self, pixels: Tensor) -> Tensor:
        """(N, 3, *input_size) -> (N, d) of any length."""
        raise NotImplementedError

    @property
    def described(self) -> str:
        """For people and for config.json."""
        height, width = self.input_size
        return f"{self.name}, {width}x{height}, {self.size} numbers of length 1"


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: the odd pixel at the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        out: Tensor = self._conv_forward(F.pad(x, pads), self.weight, self.bias)
        return out


class Block(nn.Module):
    """Widen, look around in each channel, narrow (MobileNet's inverted residual)."""

    def __init__(self, inputs: int, kernel: int, stride: int, widen: int, outputs: int) -> None:
        super().__init__()
        middle = widen * inputs
        self.expand = nn.Conv2d(inputs, middle, 1) if widen > 1 else None
        self.look = SameConv(middle, middle, kernel, stride, groups=middle)
        self.project = nn.Conv2d(middle, outputs, 1)
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.look(wide)))
        return out + x if self._adds else out


class EfficientNet(Features):
    """EfficientNet-Lite0 up to block 10: 0.7 M weights, 2.4 ms a picture on one core."""

    name, input_size, size = "efficientnet-lite0", (64, 64), BLOCKS[-1][-1]

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, 2)
        widths = [STEM, *(outputs for *_, outputs in BLOCKS)]
        self.blocks = nn.ModuleList(
            Block(inputs, *row) for inputs, row in zip(widths, BLOCKS, strict=False)
        )

    def see(self, pixels: Tensor) -> Tensor:
        scaled = pixels * (127.5 / 128) + 0.5 / 128  # it was trained on (colour - 127) / 128
        x = F.relu6(self.stem(scaled))
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(-2, -1))


class Own(Features):
    """A small network for those who have no other: learns from frames alone, in a minute."""

    name, input_size, size = "own", (48, 64), 64

    def __init__(self) -> None:
        super().__init__()
        widths = (12, 32, 64, 96)
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], self.size, 1)

    def see(self, pixels: Tensor) -> Tensor:
        x = F.pixel_unshuffle(pixels, 2)
        for layer in self.layers:
            x = F.silu(layer(x))
        spread: Tensor = self.last(x)
        return spread.mean(dim=(-2, -1))


class Transformer(Features):
    """A vision transformer of DINO's class through `transformers`, weights as safetensors only."""

    input_size = (224, 224)

    def __init__(self, source: str) -> None:
        """Raises OSError or ValueError if there is no such model, ImportError without the extra."""
        super().__init__()
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False
        )
        self.name, self.size = source, int(self.model.config.hidden_size)

    def see(self, pixels: Tensor) -> Tensor:
        mean, spread = (pixels.new_tensor(c).view(3, 1, 1) for c in IMAGENET)
        shown = ((pixels + 1) / 2 - mean) / spread
        tokens: Tensor = self.model(pixel_values=shown).last_hidden_state
        return tokens[:, 1:].mean(dim=1)  # the first one is the class's


def read_features(path: Path) -> Features:
    """A file that `worldsim data features` or training wrote; OSError, ValueError or
    SafetensorError if it is another one."""
    with safe_open(path, framework="pt") as file:
        kind = (file.metadata() or {}).get("features")
    if kind not in NAMES:
        raise ValueError(f"it holds no features; expected one of {', '.join(NAMES)}, got {kind}")
    net: Features = EfficientNet() if kind == EfficientNet.name else Own()
    try:
        net.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"weights are missing or of another shape ({error})") from error
    return frozen(net)


def frozen(net: Features) -> Features:
    """For use: nothing of it learns."""
    return net.eval().requires_grad_(False)
