"""What has to be settled before torch is first imported."""

import os


def prepare(threads: int = 1) -> None:
    """Give torch `threads` compute threads that sleep when they have nothing to do.

    Busy-waiting threads take the core that encodes and serves. What the environment already says
    about OpenMP stays. Call it before anything imports torch: OpenMP reads these names once.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(threads)
