"""How the pictures of a decoder in training are judged: by pixels, then by a critic."""

import torch
from torch import Tensor

from worldsim.tokenizer.losses import Critic, critic_loss, feature_loss, reconstruction_loss
from worldsim.training.checkpoint import load_moments, moments
from worldsim.training.device import lowered
from worldsim.training.loop import take_step

CRITIC_WEIGHT = 0.04
FEATURE_WEIGHT = 0.2


class PaintLoss:
    """The painter's loss; owns the critic and trains it as it goes."""

    def __init__(self, device: torch.device, *, precision: torch.dtype | None = None) -> None:
        self.critic = Critic().to(device)
        self._precision = precision
        self.optimizer = torch.optim.AdamW(
            self.critic.parameters(), 4e-4, betas=(0.5, 0.98), weight_decay=0.0
        )

    def __call__(
        self, painted: Tensor, real: Tensor, *, judged: bool, faithful: float = 1.0
    ) -> dict[str, Tensor]:
        """(N, 3, H, W) twice -> "paint", to be minimized by the painter, and "psnr"; with
        `judged`, the critic makes an update and its opinion is part of "paint". `faithful` is the
        weight of the pixels: less where the real picture is one of many that could have been."""
        loss = faithful * reconstruction_loss(painted, real)
        metrics: dict[str, Tensor] = {}
        if judged:
            metrics["critic"] = self._train_critic(painted.detach(), real)
            loss = loss + self._opinion(painted, real)
        error = (painted.detach().clamp(-1, 1) - real).square().mean()
        return {"paint": loss, "psnr": 10 * torch.log10(4 / error), **metrics}

    def state_dict(self) -> dict[str, Tensor]:
        """The critic and what its optimizer remembers."""
        weights = {f"model.{k}": v for k, v in self.critic.state_dict().items()}
        return {**weights, **{f"moment.{k}": v for k, v in moments([self.optimizer]).items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.critic.load_state_dict(part_of(state, "model."))
        load_moments([self.optimizer], part_of(state, "moment."))

    def _train_critic(self, painted: Tensor, real: Tensor) -> Tensor:
        with lowered(real.device, self._precision):
            on_real, _ = self.critic(real)
            on_painted, _ = self.critic(painted)
            cost = critic_loss(on_real.float(), on_painted.float())
        take_step([self.optimizer], cost, self.critic)
        return cost.detach()

    def _opinion(self, painted: Tensor, real: Tensor) -> Tensor:
        with lowered(real.device, self._precision):
            verdict, features = self.critic(painted)
            with torch.no_grad():
                _, wanted = self.critic(real)
            matching = feature_loss(features, wanted)
        opinion: Tensor = FEATURE_WEIGHT * matching.float() - CRITIC_WEIGHT * verdict.float().mean()
        return opinion


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
