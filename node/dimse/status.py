"""What a C-STORE status means for a delivery: every one of the 65536 codes has an answer.

Sources: PS3.4 table B.2-1 (Storage), PS3.7 annex C (all services). A failure that the standard
ties to the peer's present condition is tried again; every other one needs a person.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What a status does to a delivery."""

    ACCEPTED = "accepted"
    """The peer holds the object, as it was sent or with a warning."""
    BUSY = "busy"
    """The peer cannot take it now: tried again, for ever."""
    REFUSED = "refused"
    """The peer will not take it: a person decides."""


@dataclass(frozen=True)
class Meaning:
    """One row of the table: the codes ``first`` to ``last``, both included."""

    first: int
    last: int
    verdict: Verdict
    what: str
    do: str = ""


_ACCEPTED, _BUSY, _REFUSED = Verdict.ACCEPTED, Verdict.BUSY, Verdict.REFUSED

_READ_ITS_LOG = "Look into the log of the destination, then 'radnode retry'."
_ASK_FOR_SUPPORT = "Ask its administrator to accept this SOP class, then 'radnode retry'."
_REPORT = "Report this destination to its maker; 'radnode retry' sends the object again."

TABLE = (
    Meaning(0x0000, 0x0000, _ACCEPTED, "Success."),
    Meaning(0x0001, 0x0001, _ACCEPTED, "Requested optional attributes are not supported."),
    Meaning(0x0105, 0x0105, _REFUSED, "No such attribute.", _REPORT),
    Meaning(0x0106, 0x0106, _REFUSED, "Invalid attribute value.", _READ_ITS_LOG),
    Meaning(0x0107, 0x0107, _ACCEPTED, "Some attributes were not recognised."),
    Meaning(0x0110, 0x0110, _BUSY, "The destination failed while it processed the object."),
    # Held already. It is our own earlier attempt: the UID is derived from the content.
    Meaning(0x0111, 0x0111, _ACCEPTED, "The destination holds the object already."),
    Meaning(0x0112, 0x0112, _REFUSED, "No such SOP instance.", _REPORT),
    Meaning(0x0113, 0x0113, _REFUSED, "No such event type.", _REPORT),
    Meaning(0x0114, 0x0114, _REFUSED, "No such argument.", _REPORT),
    Meaning(0x0115, 0x0115, _REFUSED, "Invalid argument value.", _REPORT),
    Meaning(0x0116, 0x0116, _ACCEPTED, "An attribute value is out of range."),
    Meaning(0x0117, 0x0117, _REFUSED, "Invalid SOP instance.", _READ_ITS_LOG),
    Meaning(0x0118, 0x0118, _REFUSED, "No such SOP class.", _ASK_FOR_SUPPORT),
    Meaning(0x0119, 0x0119, _REFUSED, "SOP class and instance conflict.", _READ_ITS_LOG),
    Meaning(0x0120, 0x0120, _REFUSED, "An attribute is missing.", _READ_ITS_LOG),
    Meaning(0x0121, 0x0121, _REFUSED, "An attribute value is missing.", _READ_ITS_LOG),
    Meaning(0x0122, 0x0122, _REFUSED, "SOP class not supported.", _ASK_FOR_SUPPORT),
    Meaning(0x0123, 0x0123, _REFUSED, "No such action.", _REPORT),
    Meaning(
        0x0124,
        0x0124,
        _REFUSED,
        "Not authorised.",
        "Ask its administrator to let this AE title store, then 'radnode retry'.",
    ),
    Meaning(0x0210, 0x0210, _BUSY, "Duplicate invocation: that message ID is in use."),
    Meaning(0x0211, 0x0211, _REFUSED, "Unrecognised operation.", _REPORT),
    Meaning(0x0212, 0x0212, _REFUSED, "Mistyped argument.", _REPORT),
    Meaning(0x0213, 0x0213, _BUSY, "Resource limitation."),
    Meaning(0xA700, 0xA76F, _BUSY, "The destination is out of resources."),
    # What dcm4chee answers to a rejection note (its StoreService); the standard has only A7xx.
    Meaning(0xA770, 0xA770, _ACCEPTED, "The destination holds that rejection note already."),
    Meaning(0xA771, 0xA778, _REFUSED, "The destination will not reject it.", _READ_ITS_LOG),
    Meaning(0xA779, 0xA7FF, _BUSY, "The destination is out of resources."),
    Meaning(0xA900, 0xA9FF, _REFUSED, "Data set does not match its SOP class.", _READ_ITS_LOG),
    Meaning(0xB000, 0xB000, _ACCEPTED, "The destination changed data elements."),
    Meaning(0xB006, 0xB006, _ACCEPTED, "The destination discarded data elements."),
    Meaning(0xB007, 0xB007, _ACCEPTED, "The data set does not match its SOP class."),
    Meaning(0xC000, 0xCFFF, _REFUSED, "The destination cannot understand it.", _READ_ITS_LOG),
    Meaning(0xFE00, 0xFE00, _REFUSED, "Canceled at the destination.", _READ_ITS_LOG),
)

_WARNING = Meaning(0xB000, 0xBFFF, _ACCEPTED, "A warning that no standard defines.")
_UNKNOWN = Meaning(0x0000, 0xFFFF, _REFUSED, "A status that means nothing here.", _REPORT)
_FIRSTS = [meaning.first for meaning in TABLE]


def meaning_of(status: int) -> Meaning:
    """Return what a C-STORE response with ``status`` means.

    A code that no table lists is a warning if it is in the warning class (Bxxx, PS3.7
    section C.1), and else a refusal: nobody can say that the peer holds the object.

    Raises:
        ValueError: ``status`` is not a 16-bit number.
    """
    if not 0 <= status <= 0xFFFF:
        raise ValueError(f"A DIMSE status has 16 bits; got {status}.")
    nearest = TABLE[bisect_right(_FIRSTS, status) - 1]
    if status <= nearest.last:
        return nearest
    return _WARNING if _WARNING.first <= status <= _WARNING.last else _UNKNOWN
