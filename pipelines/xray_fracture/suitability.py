"""Which images may be judged: one grey radiograph as the detector gave it, without writing."""

from __future__ import annotations

import numpy as np

from pipelines.contract import CouldNotLook, Images, Study

_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
}
_SMALLEST_PX = 64
"""Own limit: an icon of a radiograph is none."""


def require_radiograph(study: Study) -> Images:
    """Return the study as the single radiograph that it is.

    Raises:
        CouldNotLook: It is something else, several frames, coloured, made of other images, or
            has writing in its pixels.
    """
    if not isinstance(study, Images):
        raise CouldNotLook("The series is no radiograph, so nobody looked for fractures.")
    said = study.attributes
    if said.get("Modality", "") not in ("DX", "CR") or said.get("SOPClassUID", "") not in _CLASSES:
        raise CouldNotLook("The image is no digital or computed radiograph for presentation.")
    if said.get("PresentationIntentType", "") == "FOR PROCESSING":
        raise CouldNotLook(
            "The image is the detector's raw data, which no model here was made for."
        )
    if "SECONDARY" in said.get("ImageType", "").upper().split("\\"):
        raise CouldNotLook("The image was made of other images: it is no original radiograph.")
    if said.get("BurnedInAnnotation", "") == "YES":
        raise CouldNotLook("Writing is burned into the image, which a model may take for bone.")
    frames, rows, columns = study.shape
    if study.frames.ndim > 3:
        raise CouldNotLook("The image is coloured: it is no radiograph.")
    if frames != 1:
        raise CouldNotLook(f"The object has {frames} frames; a radiograph has one.")
    if min(rows, columns) < _SMALLEST_PX:
        raise CouldNotLook(f"The image has {columns} x {rows} pixels, too few to see a fracture.")
    if not float(np.ptp(study.frames)) > 0.0:
        raise CouldNotLook("All pixels have the same value; there is no image to judge.")
    return study
