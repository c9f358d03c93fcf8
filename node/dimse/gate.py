"""The gate: what a received data set must be before it may be kept and acknowledged.

It reads identifiers, never pixels, and repairs nothing. What fails here is refused with a status
(PS3.4 table B.2-1) and a comment, so that the sender keeps its copy and a person there is told.
"""

from __future__ import annotations

import mmap
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.dimse.elements import MalformedDataSet, encoding_of, read_values
from node.errors import RejectedInstance
from node.profiles import IMAGE_CLASSES, SOP_CLASSES
from node.uids import is_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from node.dimse.elements import Encoding
    from node.spool import Spool

CLASS_MISMATCH = 0xA900
ILLEGAL_SOP_CLASS_UID = 0xC002
ILLEGAL_SOP_INSTANCE_UID = 0xC003
ILLEGAL_STUDY_UID = 0xC004
ILLEGAL_SERIES_UID = 0xC005
OTHER_INSTANCE = 0xC006
MALFORMED = 0xC020

MANUFACTURER = "radnode"
"""(0008,0070) of every object that this software makes."""

MADE_CLASSES = frozenset(SOP_CLASSES.values())
"""Of these objects, and of ``IMAGE_CLASSES`` those that say that they are derived. An image of a
scanner is never ours, whatever it says of its maker: it would be acknowledged and never
analysed."""

INFLATED_RATIO = 100
INFLATED_BYTES = 512_000_000
SMALL_BYTES = 1_000_000
"""A deflated data set may inflate to ``INFLATED_BYTES``, and to ``INFLATED_RATIO`` times its size
or ``SMALL_BYTES``, whichever is more. Beyond, it is taken for a bomb."""

MAXIMUM_ELEMENTS = 2_000_000
"""Elements and items together. Multi-frame instances have most: 26 a frame in a segmentation by
dcmqi (counted), so 75 000 of its frames pass; at 100 a frame, 20 000. Reading them takes seconds
of this process's time, not gigabytes of its memory."""

REPORT_ELEMENTS = 20_000
"""The same for a commitment report, which is decoded in memory: some 5000 objects, where the
node asks for those of one study at a time."""

_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_MODALITY = 0x00080060
_IMAGE_TYPE = 0x00080008
_MANUFACTURER = 0x00080070
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_REFERENCED, _FAILED = 0x00081199, 0x00081198
_WANTED = frozenset(
    {_SOP_CLASS, _SOP_INSTANCE, _MODALITY, _MANUFACTURER, _IMAGE_TYPE, _STUDY, _SERIES}
)
_PIECE_BYTES = 1 << 18
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}")


@dataclass(frozen=True)
class Identity:
    """What a data set says it is.

    Attributes:
        modality: Empty where it is missing or no code string.
        made_here: By this software, here or at another site.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    made_here: bool


def identify(path: Path, data_offset: int, transfer_syntax_uid: str, spool: Spool) -> Identity:
    """Check the structure of the data set in a file, and read what it says it is.

    Args:
        path: Of the file.
        data_offset: Where in it the data set begins.
        transfer_syntax_uid: In which it is encoded.
        spool: Lends the disk for inflating a deflated one.

    Raises:
        RejectedInstance: It is malformed, or an identifier is missing or illegal.
        OSError: The disk failed.
    """
    encoding = encoding_of(transfer_syntax_uid)
    if encoding.deflated:
        with spool.scratch() as inflated:
            _inflate(path, data_offset, inflated.write)
            if inflated.failure is not None:
                raise inflated.failure
            return _identify(inflated.path, 0, encoding)
    return _identify(path, data_offset, encoding)


def check_request(sop_class_uid: str, sop_instance_uid: str, abstract_syntax: str) -> None:
    """Check the identifiers of a C-STORE request, before its data set comes.

    Raises:
        RejectedInstance: One is illegal, or the class is not that of the presentation context.
    """
    _legal(sop_class_uid, "Affected SOP Class UID", ILLEGAL_SOP_CLASS_UID)
    _legal(sop_instance_uid, "Affected SOP Instance UID", ILLEGAL_SOP_INSTANCE_UID)
    if sop_class_uid != abstract_syntax:
        raise RejectedInstance(
            "SOP class is not that of the context.",
            do="Correct the sender.",
            status=CLASS_MISMATCH,
        )


def check_agreement(identity: Identity, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Check that the data set is what the request announced.

    Raises:
        RejectedInstance: It is another instance, or of another class.
    """
    if identity.sop_class_uid != sop_class_uid:
        raise RejectedInstance(
            "SOP class of data set and request differ.",
            do="Correct the sender.",
            status=CLASS_MISMATCH,
        )
    if identity.sop_instance_uid != sop_instance_uid:
        raise RejectedInstance(
            "SOP instance of data set and request differ.",
            do="Correct the sender.",
            status=OTHER_INSTANCE,
        )


def may_decode(report: bytes, transfer_syntax_uid: str) -> bool:
    """Whether a commitment report (PS3.4 table J.3.3-1) takes little memory to decode.

    Empty items take a hundred times their bytes, also as a sequence in the guise of VR UN.
    """
    sequences = {_REFERENCED, _FAILED}
    encoding = encoding_of(transfer_syntax_uid)
    try:
        disguised = read_values(report, 0, sequences, encoding, maximum_elements=REPORT_ELEMENTS)
    except MalformedDataSet:
        return False
    return not disguised


def _identify(path: Path, data_offset: int, encoding: Encoding) -> Identity:
    with path.open("rb") as file:
        try:
            # Only the pages with element headers are ever read; a gigabyte of pixels is not.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as encoded:
                values = read_values(
                    encoded, data_offset, _WANTED, encoding, maximum_elements=MAXIMUM_ELEMENTS
                )
        except MalformedDataSet as error:
            raise _malformed(str(error)) from error
        except ValueError:  # nothing to map: an inflated data set of no bytes
            values = {}
    text = {tag: _text(value) for tag, value in values.items()}
    modality = text.get(_MODALITY, "")
    return Identity(
        sop_class_uid=_legal(text.get(_SOP_CLASS, ""), "SOP Class UID", ILLEGAL_SOP_CLASS_UID),
        sop_instance_uid=_legal(
            text.get(_SOP_INSTANCE, ""), "SOP Instance UID", ILLEGAL_SOP_INSTANCE_UID
        ),
        study_uid=_legal(text.get(_STUDY, ""), "Study Instance UID", ILLEGAL_STUDY_UID),
        series_uid=_legal(text.get(_SERIES, ""), "Series Instance UID", ILLEGAL_SERIES_UID),
        modality=modality if _CODE_STRING.fullmatch(modality) else "",
        made_here=text.get(_MANUFACTURER) == MANUFACTURER and _can_be_made_here(text),
    )


def _can_be_made_here(text: Mapping[int, str]) -> bool:
    sop_class = text.get(_SOP_CLASS)
    derived = text.get(_IMAGE_TYPE, "").startswith("DERIVED")
    return sop_class in MADE_CLASSES or (sop_class in IMAGE_CLASSES and derived)


def _inflate(path: Path, data_offset: int, write: Callable[[bytes], None]) -> None:
    """Inflate a data set piece by piece (PS3.5 section A.5: RFC 1951, no header)."""
    size_bytes = path.stat().st_size - data_offset
    allowed = min(INFLATED_BYTES, max(SMALL_BYTES, INFLATED_RATIO * size_bytes))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(data_offset)
        while not inflater.eof:
            deflated = inflater.unconsumed_tail or file.read(_PIECE_BYTES)
            if not deflated:
                raise _malformed("does not inflate")
            try:
                piece = inflater.decompress(deflated, _PIECE_BYTES)
            except zlib.error as error:
                raise _malformed("does not inflate") from error
            allowed -= len(piece)
            if allowed < 0:
                raise _malformed("inflates without end")
            write(piece)


def _text(value: bytes) -> str:
    """Decode a value without its padding (PS3.5 section 6.2)."""
    return value.decode("ascii", errors="replace").rstrip("\0 ")


def _legal(uid: str, name: str, status: int) -> str:
    if is_uid(uid):
        return uid
    raise RejectedInstance(
        f"{name} is {'not legal' if uid else 'missing'}.", do="Correct the sender.", status=status
    )


def _malformed(how: str) -> RejectedInstance:
    return RejectedInstance(f"Data set {how}.", do="Check the sender.", status=MALFORMED)
