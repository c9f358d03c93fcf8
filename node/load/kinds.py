"""Which kinds of objects are judged each by itself, and which together as a series."""

from __future__ import annotations

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."
"""The root of all waveform storage SOP classes (PS3.4 table B.5-1)."""

IMAGES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame, retired; archives still send them
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound, retired
)
"""Views and clips: the images of a series have no place in a common volume."""


def is_waveform(sop_class_uid: str) -> bool:
    """Whether objects of this class are recordings."""
    return sop_class_uid.startswith(WAVEFORMS)


def is_judged_alone(sop_class_uid: str) -> bool:
    """Whether each object of this class is judged by itself: a recording, a view, a clip."""
    return is_waveform(sop_class_uid) or sop_class_uid in IMAGES
