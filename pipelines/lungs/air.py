"""Where a CT shows air inside of the body.

Source: Hu et al. 2001, IEEE Trans Med Imaging 20:490-498, section II-A: a threshold half-way
between body and air, found by iteration; then what is connected to the outside is dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.lungs.morphology import Mask, dilated, eroded, filled_in_slices, pieces

Voxels = npt.NDArray[np.float32]

PADDING_HU = -1100.0
"""Below what any matter has: scanners fill what lies beside a round field of view with less."""
OUTSIDE_HU = -930.0
"""Air around a patient is at -1000 HU, an emphysematous lung as a whole seldom below this."""
TABLE_WALL_MM = 4.0
"""Walls of tables are thinner, those of a chest thicker. Own choice."""
_START_HU = -500.0
_SETTLED_HU = 0.5
_SMALLEST_CUT_CM2 = 2.0


class InnerAir(NamedTuple):
    """Air in the body, and where the field of view cuts it off.

    Attributes:
        mask: bool, (slices, rows, columns).
        cut_off_cm2: Area of air with a lung's density that reaches the edge of its slice, of
            the slice with most of it.
    """

    mask: Mask
    cut_off_cm2: float


def threshold_hu(voxels: Voxels) -> float:
    """Return the value half-way between the mean of the body and that of the air.

    Source: Hu et al. 2001, equation 1. Padding is left out.
    """
    inside = voxels[voxels >= PADDING_HU]
    threshold = _START_HU
    for _ in range(50):
        is_air = inside < threshold
        if not is_air.any() or is_air.all():
            return _START_HU
        middle = float(inside[is_air].mean() + inside[~is_air].mean()) / 2.0
        if abs(middle - threshold) < _SETTLED_HU:
            break
        threshold = middle
    return threshold


def inner_air(voxels: Voxels, threshold: float, spacing_mm: tuple[float, float, float]) -> InnerAir:
    """Return the air that no path within its axial slice connects to that around the patient.

    Within a slice, because through the mouth all airways are connected to the outside.

    Args:
        voxels: HU, axial slices.
        threshold: Below it is air, in HU.
        spacing_mm: Along (slice, row, column).
    """
    pixel_cm2 = spacing_mm[1] * spacing_mm[2] / 100.0
    found = np.zeros(voxels.shape, np.bool_)
    cut_off_cm2 = 0.0
    for k, plane in enumerate(voxels):
        labels, sizes = pieces((plane < threshold) & (plane >= PADDING_HU))
        open_to = np.unique(labels[_edge(plane)])
        keep = sizes > 0
        for label in open_to[open_to > 0]:
            area_cm2 = float(sizes[label]) * pixel_cm2
            cut_off = (
                area_cm2 >= _SMALLEST_CUT_CM2
                and float(np.median(plane[labels == label])) > OUTSIDE_HU
            )
            keep[label] = False
            if cut_off:
                cut_off_cm2 = max(cut_off_cm2, area_cm2)
        found[k] = keep[labels]
    return InnerAir(found, cut_off_cm2)


def within_body(voxels: Voxels, threshold: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Return the patient, filled in each axial slice: the largest piece of tissue.

    Tables, pads and tubes are thin-walled, or touch the patient along a thin line only.
    """
    tissue = eroded(voxels >= threshold, spacing_mm, TABLE_WALL_MM / 2.0)
    labels, sizes = pieces(tissue)
    body = labels == int(np.argmax(sizes)) if sizes.any() else tissue
    return filled_in_slices(dilated(body, spacing_mm, TABLE_WALL_MM / 2.0))


def _edge(plane: Voxels) -> Mask:
    """Return the pixels at the edge of a slice, or beside its padding."""
    padding = plane < PADDING_HU
    edge = padding.copy()
    edge[1:] |= padding[:-1]
    edge[:-1] |= padding[1:]
    edge[:, 1:] |= padding[:, :-1]
    edge[:, :-1] |= padding[:, 1:]
    edge[0] = edge[-1] = edge[:, 0] = edge[:, -1] = True
    return edge
