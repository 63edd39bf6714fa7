"""Flow matching with x-prediction and shortcut steps.

On the way from noise e to the next latent z the point at time s is x_s = s z + (1 - s) e. The model
says z from x_s; the velocity is (z - x_s) / (1 - s). A sampler of K equal steps follows it. Told
the size of its step, the same weights serve K = 1, 2 and 4 (Frans et al. 2024, "One step diffusion
via shortcut models"; x-prediction as in Hafner et al. 2025, Dreamer 4).

From zero instead of noise, in one step, comes the model's mean, the same every time.
"""

from collections.abc import Callable

from torch import Tensor

STEPS = (1, 2, 4)  # the numbers of steps that the model is trained for
Predict = Callable[[Tensor, float, float], Tensor]  # x_s, s, step size -> z


def sample(predict: Predict, noise: Tensor, steps: int) -> Tensor:
    """Follow the flow from `noise` in `steps` equal Euler steps; the shape of `noise` is kept."""
    if steps not in STEPS:
        raise ValueError(f"flow_steps must be one of {STEPS}, got {steps}")
    x, size = noise, 1 / steps
    for i in range(steps):
        x = advance(x, predict(x, i * size, size), i * size, size)
    return x


def advance(x: Tensor, z: Tensor, time: float | Tensor, size: float | Tensor) -> Tensor:
    """One Euler step of `size` from `time` towards the predicted `z`."""
    return x + (z - x) * (size / (1 - time))


def mix(z: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point at `time` on the way from `noise` to `z`; `time` broadcasts."""
    return time * z + (1 - time) * noise


def shortcut_target(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, time: Tensor, size: Tensor
) -> Tensor:
    """What one step of `size` should predict: where two steps of half the size arrive."""
    half = size / 2
    middle = advance(x, predict(x, time, half), time, half)
    end = advance(middle, predict(middle, time + half, half), time + half, half)
    return x + (end - x) * ((1 - time) / size)
