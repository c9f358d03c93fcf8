"""MONAI's ``SlidingWindowInferer``, to the letter, by our own sliding window.

Windows and weights are those of ``monai.inferers.sliding_window_inference``; MONAI's own functions
make them. What is faster: batches fill the device, and sums leave it while it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.inferer import SlidingWindowInferer
from monai.utils.misc import ensure_tuple_rep, fall_back_tuple

from pipelines.runtimes.sliding_window import SlidingNetwork, UnlikeWindow, autocast
from pipelines.runtimes.window import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence


class BundleInferer:
    """The inferer of a bundle, and its network."""

    def __init__(self, inferer: Any, network: Any, on: torch.device, precision: str) -> None:
        self._inferer, self._network = inferer, network
        self._on, self._precision = on, precision
        self._sliding = SlidingNetwork(network, on, precision)
        # Not its subclasses, which may do something else between the windows.
        self._slides = type(inferer) is SlidingWindowInferer and not inferer.with_coord

    def __call__(self, image: torch.Tensor) -> Any:
        """Return what the inferer makes of an image of shape (channels, *spatial)."""
        if self._slides:
            try:
                return slide(self._inferer, image, self._sliding)[None]
            except UnlikeWindow:
                self._slides = False  # answers of another size than the window: as MONAI does it
        with torch.inference_mode(), autocast(self._on, self._precision):
            return self._inferer(image[None].to(self._on), self._network)


def slide(
    inferer: SlidingWindowInferer, image: torch.Tensor, network: SlidingNetwork
) -> torch.Tensor:
    """Return a network's answer for every voxel of an image.

    Args:
        inferer: Says how large windows are, how they overlap and are weighted.
        image: Shape (channels, *spatial).
        network: It gets the windows.

    Returns:
        float32, shape (classes, *spatial), on the host.

    Raises:
        UnlikeWindow: The network does not answer as its windows lie.
        NetworkFault: It answers with NaN or infinity.
    """
    shape = tuple(image.shape[1:])
    size = fall_back_tuple(inferer.roi_size, shape)
    missing = [max(wide - here, 0) for wide, here in zip(size, shape, strict=True)]
    before = [one // 2 for one in missing]
    if any(missing):
        # torch counts from the last axis.
        pads = [
            part
            for one, half in zip(reversed(missing), reversed(before), strict=True)
            for part in (half, one - half)
        ]
        mode = str(getattr(inferer.padding_mode, "value", inferer.padding_mode))
        image = torch.nn.functional.pad(image[None], pads, mode, inferer.cval)[0]
    steps = _steps(tuple(image.shape[1:]), size, inferer.overlap)
    weight = compute_importance_map(size, mode=inferer.mode, sigma_scale=inferer.sigma_scale)
    places = dense_patch_slices(tuple(image.shape[1:]), size, steps)
    blended = network.blend(
        image, Windows(tuple(places), weight.numpy()), max(1, inferer.sw_batch_size)
    )
    inside = (slice(half, half + width) for half, width in zip(before, shape, strict=True))
    return blended[(slice(None), *inside)]


def _steps(
    shape: Sequence[int], size: Sequence[int], overlap: float | Sequence[float]
) -> tuple[int, ...]:
    """Return from one window to the next, as ``monai.inferers.utils._get_scan_interval``."""
    return tuple(
        wide if wide == whole else max(int(wide * (1 - part)), 1)
        for whole, wide, part in zip(shape, size, ensure_tuple_rep(overlap, len(size)), strict=True)
    )
