"""Pictures of what a PACS holds, drawn from the objects alone, as a viewer would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from pydicom.waveforms import multiplex_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset

mpl.use("Agg")

Mask = npt.NDArray[np.bool_]

RED = (0.9, 0.25, 0.2)
PAPER_MM_PER_S, PAPER_MM_PER_MV = 25.0, 10.0
LEADS_SHOWN = 12


def mask_of(segmentation: Dataset, images: Sequence[Dataset]) -> Mask:
    """Return the first segment on the grid of ``images``, shape (images, rows, columns).

    Frames are placed by the SOP instance they say they come from (PS3.3 C.7.6.16.2.6).
    """
    place = {str(image.SOPInstanceUID): number for number, image in enumerate(images)}
    mask = np.zeros((len(images), images[0].Rows, images[0].Columns), dtype=bool)
    for frame, groups in zip(
        np.atleast_3d(segmentation.pixel_array),
        segmentation.PerFrameFunctionalGroupsSequence,
        strict=True,
    ):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        mask[place[str(source.ReferencedSOPInstanceUID)]] = frame > 0
    return mask


def draw_overlay(images: Sequence[Dataset], mask: Mask, path: Path) -> None:
    """Draw three slices with the segment's outline over them."""
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    chosen = [int(np.quantile(filled, share)) for share in (0.25, 0.5, 0.75)]
    figure, axes = plt.subplots(1, 3, figsize=(12, 5), facecolor="black")
    for axis, number in zip(axes, chosen, strict=True):
        pixels = images[number].pixel_array
        axis.imshow(pixels, cmap="gray", vmax=np.quantile(pixels, 0.995))
        overlay = np.zeros((*pixels.shape, 4))
        overlay[mask[number]] = (*RED, 0.3)
        axis.imshow(overlay)
        axis.contour(mask[number], levels=[0.5], colors=[RED], linewidths=1.2)
        axis.set_title(f"slice {number + 1} of {len(images)}", color="white")
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_strip(electrocardiogram: Dataset, path: Path) -> None:
    """Draw the first multiplex group on ECG paper: 25 mm/s, 10 mm/mV."""
    group = electrocardiogram.WaveformSequence[0]
    millivolts = multiplex_array(electrocardiogram, 0) / 1000.0  # pydicom's example is in uV
    seconds = np.arange(len(millivolts)) / float(group.SamplingFrequency)
    labels = [
        channel.ChannelSourceSequence[0].CodeMeaning for channel in group.ChannelDefinitionSequence
    ]
    shown = min(LEADS_SHOWN, millivolts.shape[1])
    width_mm, height_mm = PAPER_MM_PER_S * seconds[-1], PAPER_MM_PER_MV * 3.0 * shown
    figure, axis = plt.subplots(figsize=(width_mm / 25.4 * 1.2, height_mm / 25.4 * 0.7))
    for number in range(shown):
        offset = -3.0 * number
        axis.plot(seconds, millivolts[:, number] + offset, color="black", linewidth=0.7)
        axis.text(0.05, offset + 1.0, labels[number], fontsize=7)
    axis.set_xticks(np.arange(0, seconds[-1], 0.2))
    axis.set_yticks(np.arange(-3.0 * shown, 3.0, 0.5))
    axis.grid(color="#f0b0a8", linewidth=0.5)
    axis.set_xlim(0, seconds[-1])
    axis.tick_params(labelbottom=False, labelleft=False, length=0)
    axis.set_title("25 mm/s, 10 mm/mV", fontsize=8, loc="right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
