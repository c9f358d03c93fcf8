"""Which clips may be measured, and which outlines in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contract import CouldNotLook, Images, Study
from pipelines.echo_lv.codes import UNKNOWN, VIEWS, Names
from pipelines.echo_lv.cycle import FEWEST_FRAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from pipelines.outline import Mask, Points

_CLASSES = {"1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.3"}
"""Ultrasound Multi-frame, and its retired predecessor."""
_TISSUE = ("1", "1")
"""Two-dimensional, tissue (PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2)."""
_OTHER_VIEWS = re.compile(
    r"\b(PLAX|PSAX|SAX|SUBCOSTAL|PARASTERNAL|SHORT[ -]AXIS|A5C|A3C|APLAX|RV[ -]FOCUS\w*)\b"
)
_BLACK = 6
"""Grey values up to this are no echo, also after lossy compression."""
_COLOURED = 48
"""Between the largest and the smallest of red, green and blue: more than a tinted grey scale."""
_MOST_COLOURED = 0.03
_EDGE_PX = 2
_MOST_CUT = 0.1
"""Own limit: of the outline, what may lie along the edge of the sector."""


def require_apical_clip(study: Study) -> tuple[Images, Names]:
    """Return the study as the clip that it is, and what its measurements are called.

    Raises:
        CouldNotLook: It is something else, a single image, or of another view.
    """
    if not isinstance(study, Images):
        raise CouldNotLook("The series is no ultrasound clip, so no ventricle was measured.")
    said = study.attributes
    if said.get("Modality", "") != "US" or said.get("SOPClassUID", "") not in _CLASSES:
        raise CouldNotLook("The images are no ultrasound clip, so no ventricle was measured.")
    if study.shape[0] < FEWEST_FRAMES:
        raise CouldNotLook(f"The clip has {study.shape[0]} frames, fewer than a heart beat needs.")
    view = said.get("ViewCodeSequence", "")
    if view and view not in VIEWS:
        raise CouldNotLook("The header says that this is no apical four- or two-chamber view.")
    words = " ".join(said.get(key, "") for key in ("SeriesDescription", "ProtocolName")).upper()
    if not view and _OTHER_VIEWS.search(words):
        raise CouldNotLook("The header says that this is no apical four- or two-chamber view.")
    if said.get("PixelAspectRatio", "1\\1").split("\\") != ["1", "1"] and study.spacing_mm is None:
        raise CouldNotLook("The pixels are not square, and the header does not say how large.")
    return study, VIEWS.get(view, UNKNOWN)


def grey(frames: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the brightest of the colours of each pixel, shape (frames, rows, columns)."""
    return np.asarray(frames.max(axis=3) if frames.ndim > 3 else frames, np.float32)


def sector(clip: Images) -> Mask:
    """Return where the scanner drew echoes in any frame: bool, shape (rows, columns).

    What lies between echoes of the same row and of the same column belongs to it, as a cavity
    may be black in all frames. Words beside the sector make it larger, never smaller.
    """
    brightest = grey(clip.frames).max(axis=0)
    seen = brightest > brightest.min() + _BLACK
    return _between(seen, 0) & _between(seen, 1)


def _between(seen: Mask, axis: int) -> Mask:
    before = np.maximum.accumulate(seen, axis=axis)
    after = np.flip(np.maximum.accumulate(np.flip(seen, axis), axis=axis), axis)
    return np.asarray(before & after)


def require_grey(clip: Images, masks: npt.NDArray[np.bool_]) -> None:
    """Refuse a ventricle under colour Doppler: its colours hide the wall.

    Raises:
        CouldNotLook: The header or the pixels say so.
    """
    rows, columns = np.nonzero(masks.any(axis=0))
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    for region in _regions(clip.attributes):
        if region[:2] != _TISSUE and _overlap(tuple(map(int, region[2:])), box):
            raise CouldNotLook("Colour Doppler or a trace lies over the ventricle.")
    if clip.frames.ndim > 3:
        inside = clip.frames[masks].astype(np.int16)
        coloured = (inside.max(axis=-1) - inside.min(axis=-1)) > _COLOURED
        if coloured.mean() > _MOST_COLOURED:
            raise CouldNotLook("Colour Doppler lies over the ventricle and hides its wall.")


def _regions(attributes: Mapping[str, str]) -> Iterable[tuple[str, ...]]:
    """Yield those regions whose kind the header states."""
    for said in attributes.get("SequenceOfUltrasoundRegions", "").split("\\"):
        numbers = tuple(said.split())
        if len(numbers) == 6 and numbers[1] != "0":
            yield numbers


def _overlap(region: tuple[int, ...], box: tuple[int, ...]) -> bool:
    return (
        region[0] <= box[2] and box[0] <= region[2] and region[1] <= box[3] and box[1] <= region[3]
    )


def require_whole(outline: Points, field: Mask) -> None:
    """Refuse an outline of which a part runs along the edge of the sector.

    Raises:
        CouldNotLook: The ventricle goes on beyond what is seen.
    """
    rows, columns = field.shape
    inner = np.pad(field, _EDGE_PX)
    for axis in (0, 1):
        for step in range(-_EDGE_PX, _EDGE_PX + 1):
            inner = inner & np.roll(np.pad(field, _EDGE_PX), step, axis=axis)
    inner = inner[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX]
    x, y = np.floor(outline[:-1]).astype(int).T
    within = inner[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]
    if 1.0 - within.mean() > _MOST_CUT:
        raise CouldNotLook("The ventricle is cut off by the edge of the ultrasound sector.")
