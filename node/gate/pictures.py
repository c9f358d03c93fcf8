"""Pictures and documents for people: whole, and honest on whether pixels name the patient."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from pydicom.valuerep import PersonName

from node.gate.burned_in import burned_in_annotation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_STREAM = re.compile(rb"stream\r?\n")
_SHOWN = re.compile(rb"\[([^\]]*)\]\s*TJ|(\([^()]*\))\s*Tj")
_STRING = re.compile(rb"\(((?:\\.|[^\\()])*)\)", re.DOTALL)

_LONG_ENOUGH = 6
"""Characters of a patient ID; shorter ones occur by chance among the numbers of a report."""


def picture_problems(picture: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a secondary capture in colour, as predicates of it."""
    yield from annotation_problems(picture, sources)
    if picture.get("PhotometricInterpretation") != "RGB":
        yield "is not in colour (RGB)"
    frames = int(picture.get("NumberOfFrames") or 1)
    expected = frames * picture.Rows * picture.Columns * 3
    if len(picture.get("PixelData") or b"") != expected + expected % 2:
        yield "has pixel data that are not as long as its frames need"


def pdf_problems(document: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with an encapsulated PDF, as predicates of it."""
    yield from annotation_problems(document, sources)
    content = document.get("EncapsulatedDocument") or b""
    if document.get("MIMETypeOfEncapsulatedDocument") != "application/pdf":
        yield "does not say that it is a PDF"
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-1024:]:
        yield "holds no whole PDF"
    words = set(re.findall(r"\w+(?:[.-]\w+)*", text_of(content).casefold()))
    if any(_is_named_by(words, source) for source in sources):
        yield "names the patient on its pages"


def text_of(pdf: bytes) -> str:
    """Return the text of a PDF whose fonts have a character's own number as its code.

    That of one or two bytes, which holds for Latin text as matplotlib writes it. What is shown
    by other fonts is not read.
    """
    shown: list[bytes] = []
    for start in _STREAM.finditer(pdf):
        with suppress(zlib.error):
            page = zlib.decompressobj().decompress(pdf[start.end() :])
            shown += (several or one for several, one in _SHOWN.findall(page))
    strings = (b"".join(_STRING.findall(one)).replace(b"\0", b"") for one in shown)
    return "\n".join(one.decode("latin-1") for one in strings)


def _is_named_by(words: set[str], source: Dataset) -> bool:
    """Say whether words name a patient: by ID, or by family and given name."""
    patient_id = str(source.get("PatientID") or "").strip().casefold()
    name = PersonName(str(source.get("PatientName") or ""))
    names = [part.casefold() for part in (name.family_name, name.given_name)]
    return (len(patient_id) >= _LONG_ENOUGH and patient_id in words) or (
        all(names) and set(names) <= words
    )


def annotation_problems(picture: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield how an object is wrong about names burned into its pixels, as predicates of it."""
    said = picture.get("BurnedInAnnotation")
    if said not in ("YES", "NO"):
        yield "does not say whether anything of the patient is burned in"
    elif said == "NO" and burned_in_annotation(sources) == "YES":
        yield "says that nothing of the patient is burned in, which its source does not"
