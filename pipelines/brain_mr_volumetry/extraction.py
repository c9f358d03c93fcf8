"""deepbet's brain extraction: a network finds the head's brain box, another fills in the brain.

The procedure and its numbers are those of deepbet 1.0.2 (``deepbet/bet.py``), so that the mask
is the one its authors published on; only the libraries differ.

Source: Fisch et al. 2024, Comput Biol Med 179:108845.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK
import torch
from torch.nn import functional

from pipelines.brain_mr_volumetry.weights import BOX_NETWORK, BRAIN_NETWORK
from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOX_SHAPE = (128, 128, 128)
_BRAIN_SHAPE = (256, 256, 256)
_DARKEST, _BRIGHTEST = 0.005, 0.995
"""Quantiles between which intensities are stretched; the rest is clipped."""
_BOX_MARGIN = 0.1
"""Of the box, added on each side."""
_BOX_SHARE = 0.02
"""Planes with less brain than this share of them stay outside the box."""

BoolArray = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]


class BrainExtraction:
    """Both networks, loaded and ready."""

    def __init__(self, weights: Mapping[str, bytes]) -> None:
        """Load the networks from their verified bytes, onto a GPU where there is one."""
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._box_network = self._network(weights[BOX_NETWORK])
        self._brain_network = self._network(weights[BRAIN_NETWORK])

    def brain_mask(self, voxels: npt.NDArray[np.float32], threshold: float) -> BoolArray:
        """Return the brain: one piece, without holes.

        Args:
            voxels: T1-weighted head, array axes growing to the right, the front and the head.
            threshold: Probability above which a voxel is brain.

        Raises:
            CouldNotLook: The image is blank, or no brain is in it.
        """
        head = torch.from_numpy(np.ascontiguousarray(voxels)).to(self._device).nan_to_num()
        small = _resized(head, _BOX_SHAPE)
        low, high = small.quantile(_DARKEST), small.quantile(_BRIGHTEST)
        if not high > low:
            raise CouldNotLook("The images are blank: their grey values do not differ.")
        box = _brain_box(self._probability(self._box_network, small, low, high), voxels.shape)
        crop = _resized(head[box], _BRAIN_SHAPE)
        probability = self._probability(self._brain_network, crop, low, high)
        inside = _resized(probability, tuple(head[box].shape)) > threshold
        mask = np.zeros(voxels.shape, dtype=np.bool_)
        mask[box] = _filled(_largest_piece(inside.cpu().numpy()))
        return mask

    def _network(self, content: bytes) -> torch.jit.ScriptModule:
        network: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content), self._device)
        return network.eval()

    def _probability(
        self,
        network: torch.jit.ScriptModule,
        head: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
    ) -> torch.Tensor:
        with torch.inference_mode():
            brain: torch.Tensor = network(_normalised(head, low, high)[None, None])[0, 1]
        return brain


def _resized(head: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return functional.interpolate(head[None, None], shape, mode="nearest-exact")[0, 0]


def _normalised(head: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    stretched = ((head - low) / (high - low)).clamp(min=0, max=1)
    return 0.226 * (stretched - stretched.mean()) / stretched.std() + 0.449


def _brain_box(probability: torch.Tensor, shape: tuple[int, ...]) -> Box:
    """Return the brain's box in an array of ``shape``, from its probability on a coarse grid."""
    piece = _largest_piece((probability > 0.5).cpu().numpy())
    box = []
    for axis, size in enumerate(shape):
        across = tuple(other for other in range(3) if other != axis)
        (planes,) = np.nonzero(piece.mean(axis=across) > _BOX_SHARE)
        if not planes.size:
            raise CouldNotLook("No brain was found in the images.")
        scale = np.float32(size) / np.float32(piece.shape[axis])
        first, past = planes[0], planes[-1] + 1
        centre = np.rint(scale * np.float32((first + past) / 2))
        width = np.rint(np.float32(1 + 2 * _BOX_MARGIN) * (scale * np.float32(past - first)))
        box.append(slice(max(0, int(centre - width / 2)), min(size, int(centre + width / 2))))
    return box[0], box[1], box[2]


def _largest_piece(mask: BoolArray) -> BoolArray:
    """Keep the largest piece of ``mask``, voxels that touch at a corner being connected."""
    if not mask.any():
        raise CouldNotLook("No brain was found in the images.")
    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    sizes = np.bincount(SimpleITK.GetArrayViewFromImage(pieces).ravel())
    largest: BoolArray = SimpleITK.GetArrayViewFromImage(pieces) == 1 + int(np.argmax(sizes[1:]))
    return largest


def _filled(mask: BoolArray) -> BoolArray:
    """Fill the cavities of ``mask`` that no face-to-face path connects to its outside."""
    filled = SimpleITK.BinaryFillhole(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), False, 1)
    return SimpleITK.GetArrayFromImage(filled).astype(np.bool_)
