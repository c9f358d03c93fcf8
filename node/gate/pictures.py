"""Pictures and documents for people: whole, and with nothing of the patient burned in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset


def picture_problems(picture: Dataset) -> Iterator[str]:
    """Yield what is wrong with a secondary capture in colour, as predicates of it."""
    yield from _annotation_problems(picture)
    if picture.get("PhotometricInterpretation") != "RGB":
        yield "is not in colour (RGB)"
    frames = int(picture.get("NumberOfFrames") or 1)
    expected = frames * picture.Rows * picture.Columns * 3
    if len(picture.get("PixelData") or b"") != expected + expected % 2:
        yield "has pixel data that are not as long as its frames need"


def pdf_problems(document: Dataset) -> Iterator[str]:
    """Yield what is wrong with an encapsulated PDF, as predicates of it."""
    yield from _annotation_problems(document)
    content = document.get("EncapsulatedDocument") or b""
    if document.get(
        "MIMETypeOfEncapsulatedDocument"
    ) != "application/pdf" or not content.startswith(b"%PDF-"):
        yield "holds no PDF"
    elif b"%%EOF" not in content[-1024:]:
        yield "holds a PDF that is cut short"


def _annotation_problems(picture: Dataset) -> Iterator[str]:
    if picture.get("BurnedInAnnotation") != "NO":
        yield "does not say that nothing of the patient is burned in"
