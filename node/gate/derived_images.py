"""Derived images: each beside the image that it was made of, and saying that it was made."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from node.gate.frames import frames_of
from node.gate.grid import grid_problems
from node.gate.pictures import annotation_problems
from node.profiles import IMAGE_CLASSES
from sr_templates import codes
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_SAME = {
    "FrameOfReferenceUID": "frame of reference",
    "ImagePositionPatient": "position",
    "ImageOrientationPatient": "orientation",
    "PixelSpacing": "pixel spacing",
    "SliceThickness": "slice thickness",
    "Rows": "number of rows",
    "Columns": "number of columns",
    "Modality": "modality",
    "SOPClassUID": "SOP class",
}
"""What an image has of the image that it was made of, to the letter."""

_BYTES = 2


def image_problems(image: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with one derived object, as predicates of it.

    Args:
        image: Its pixel data need not have been read.
        sources: Headers of the images analysed: single-frame ones, or one multi-frame.
    """
    if list(image.get("ImageType") or ())[:1] != ["DERIVED"]:
        yield "does not say that it is derived (Image Type)"
    yield from annotation_problems(image, sources)
    if image.get("LossyImageCompression") != "01" and any(
        source.get("LossyImageCompression") == "01" for source in sources
    ):
        yield "does not say that its source was compressed with loss"
    yield from _pixel_problems(image)
    if "PerFrameFunctionalGroupsSequence" in image:
        yield from grid_problems(image, frames_of(image), sources)
        frames = image.PerFrameFunctionalGroupsSequence
        if not all(_derived(one) for frame in frames for one in frame.DerivationImageSequence):
            yield "has a frame that does not say how it was derived"
        return
    if not _derived(image):
        yield "does not say how it was derived"
    references = image.get("SourceImageSequence") or ()
    if any(
        codes.SOURCE_IMAGE not in map(code_of, one.get("PurposeOfReferenceCodeSequence") or ())
        for one in references
    ):
        yield "does not say of an image that it is its source"
    own = {str(one.ReferencedSOPInstanceUID) for one in references}
    made_of = [source for source in sources if str(source.SOPInstanceUID) in own]
    if len(made_of) != 1 or len(references) != 1:
        yield "does not name the one image that it was made of"
    elif image.SOPClassUID == MultiFrameGrayscaleWordSecondaryCaptureImageStorage:
        yield from _capture_problems(image, made_of[0])
    else:
        yield from _difference_problems(image, made_of[0])


def series_problems(objects: Sequence[Dataset], sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield, as sentences, how derived series are not made of each image of the source once.

    Args:
        objects: Of the result, of any kind.
        sources: Headers of the images analysed.
    """
    series: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in objects:
        if one.SOPClassUID in IMAGE_CLASSES:
            series[str(one.SeriesInstanceUID)].update(
                {str(item.ReferencedSOPInstanceUID) for item in one.get("SourceImageSequence", ())}
            )
    expected = Counter(str(source.SOPInstanceUID) for source in sources if series)
    if any(made_of != expected for made_of in series.values()):
        yield "A derived series is not made of each image of its source once."


def _derived(holder: Dataset) -> bool:
    return bool(holder.get("DerivationDescription") and holder.get("DerivationCodeSequence"))


def _pixel_problems(image: Dataset) -> Iterator[str]:
    if image.get("BitsAllocated") != 8 * _BYTES or "PixelPaddingValue" in image:
        yield "does not hold whole grey values of 16 bits"
    expected = int(image.get("NumberOfFrames") or 1) * image.Rows * image.Columns * _BYTES
    if _length(image) != expected:
        yield "has pixel data that are not as long as its frames need"


def _length(image: Dataset) -> int:
    """Return the bytes of the pixel data, without reading them from the disk."""
    if "PixelData" not in image:
        return 0
    element = image.get_item("PixelData")
    length = getattr(element, "length", None)
    return len(image.PixelData) if length is None else int(length)


def _difference_problems(image: Dataset, source: Dataset) -> Iterator[str]:
    for keyword, what in _SAME.items():
        if not _same(image.get(keyword), source.get(keyword)):
            yield f"has another {what} than the image that it was made of"


def _same(own: object, theirs: object) -> bool:
    if own in (None, "") or theirs in (None, ""):
        return (own in (None, "")) == (theirs in (None, ""))
    if isinstance(own, str):
        return own == theirs
    return bool(np.array_equal(np.array(own, dtype=float), np.array(theirs, dtype=float)))


def _capture_problems(image: Dataset, source: Dataset) -> Iterator[str]:
    own, theirs = (
        (int(one.get("NumberOfFrames") or 1), one.Rows, one.Columns) for one in (image, source)
    )
    if own != theirs:
        yield "has other frames, rows or columns than its source"
