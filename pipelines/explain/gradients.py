"""What a score rests on, by the gradients of a torch network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 16


def integrated_gradients(
    score: Callable[[Any], Any],
    given: npt.NDArray[np.float32],
    *,
    baseline: float = 0.0,
    device: str = "cpu",
    steps: int = STEPS,
) -> npt.NDArray[np.float32]:
    """Return what each number of an input adds to a score.

    Integrated gradients along the straight line from the baseline, by the midpoint rule
    (Sundararajan et al. 2017, arXiv:1703.01365). Their sum is the difference of the score between
    input and baseline, but for the rule's error.

    Args:
        score: A torch tensor of the input's shape -> a tensor of one number.
        given: The input, any shape.
        baseline: What says nothing: black, or the mean of what the network was trained on.
        device: Where the network is.
        steps: How often the network is asked; one at a time, to spare memory.
    """
    import torch  # noqa: PLC0415 - an extra, and slow to import

    end = torch.from_numpy(np.ascontiguousarray(given, np.float32)).to(device)
    start = torch.full_like(end, baseline)
    total = torch.zeros_like(end)
    for step in range(steps):
        at = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        (gradient,) = torch.autograd.grad(score(at), at)
        total += gradient
    added: npt.NDArray[np.float32] = ((end - start) * total / steps).cpu().numpy()
    return added
