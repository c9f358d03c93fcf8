"""What torch holds of a graphics card in this process, where torch is loaded at all."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTEXT_BYTES = 600_000_000
"""What CUDA itself takes of a card for each process: kernels, and workspaces of libraries."""


def held_bytes() -> int:
    """Return what this process holds of the card between two runs: weights, and CUDA itself."""
    torch = _torch_on_card()
    if torch is None:
        return 0
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_reserved()) + _CONTEXT_BYTES


@contextmanager
def at_most(run_bytes: int | None, card_bytes: int) -> Iterator[None]:
    """Have torch run out of memory in this process before it takes what others were promised.

    Args:
        run_bytes: What a run may take beside what is held already; None: all.
        card_bytes: What the card has.
    """
    torch = _torch_on_card()
    if torch is None or run_bytes is None:
        yield
        return
    share = (torch.cuda.memory_reserved() + run_bytes) / card_bytes
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _torch_on_card() -> Any:
    """Return torch if this process uses a card through it; never load it for the question."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
