"""Messages: what DICOM's Audit Trail Message Format says of an event (PS3.15 A.5.3).

An event that the standard has no message for stands in the chain alone. Every message is made of
its record and of the node's own names, so that the same record always makes the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Body = Mapping[str, Any]
"""What a record of the chain says (``trail.body_of``)."""

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
"""EventOutcomeIndicator (PS3.15 A.5.1.1)."""
CREATE, READ, DELETE, EXECUTE = "C", "R", "D", "E"
"""EventActionCode."""
RFC_3881 = "RFC-3881"


@dataclass(frozen=True)
class Source:
    """Who tells: this node.

    Attributes:
        source_id: AuditSourceID.
        enterprise_site: AuditEnterpriseSiteID; empty: none.
        ae_title: Under which it is called and calls.
        host: Name of its host.
    """

    source_id: str
    enterprise_site: str
    ae_title: str
    host: str


@dataclass(frozen=True)
class Code:
    """One coded value."""

    value: str
    meaning: str
    scheme: str = "DCM"


@dataclass(frozen=True)
class Participant:
    """Who took part: a process or a person.

    Attributes:
        user_id: AE title of a process, name of a person.
        role: Code of RoleIDCode; None: none.
        address: Host name or address; empty: not known.
        requestor: Whether the event happened at its wish.
        alternative_id: AlternativeUserID; empty: none.
        media: Code of the medium that is written to; None: none.
    """

    user_id: str
    role: Code | None = None
    address: str = ""
    requestor: bool = False
    alternative_id: str = ""
    media: Code | None = None


@dataclass(frozen=True)
class Subject:
    """What it was about, beside the study and the patient: ParticipantObjectIdentification."""

    object_id: str
    id_type: Code
    role: str
    name: str
    detail: tuple[str, str] | None = None


@dataclass(frozen=True)
class Message:
    """What is told of one event, before the study and the patient are added."""

    event: Code
    action: str
    participants: tuple[Participant, ...]
    outcome: str = SUCCESS
    types: tuple[Code, ...] = ()
    subjects: tuple[Subject, ...] = ()


DCM = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110102": "Begin Transferring DICOM Instances",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110106": "Export",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110126": "Node Authentication",
    "110131": "Software Configuration",
    "110150": "Application",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
    "110154": "Destination Media",
    "110037": "URI",
    "110180": "Study Instance UID",
    "110182": "Node ID",
}
"""Meaning of each code of PS3.16 annex D that is used here."""


def code(value: str) -> Code:
    """Return a code of DICOM, with its meaning."""
    return Code(value, DCM[value])


SOURCE, DESTINATION = code("110153"), code("110152")
URI = Code("12", "URI", RFC_3881)
SECURITY_RESOURCE = "13"


def message_of(body: Body, source: Source) -> Message | None:
    """Return the message of a record; None if the standard has none for its event."""
    make = _MAKERS.get(body["kind"])
    return None if make is None else make(body, source)


# --- one function for each message -----------------------------------------------------------


def _application(kind: str) -> Callable[[Body, Source], Message]:
    def make(body: Body, source: Source) -> Message:
        """A.5.3.1 Application Activity."""
        role = code("110150")
        started = Participant(
            body["subject"], role, source.host, alternative_id=f"AETITLES={source.ae_title}"
        )
        types = (code(kind),)
        return Message(code("110100"), EXECUTE, (started,), types=types)

    return make


def _audit_log_used(body: Body, source: Source) -> Message:
    """A.5.3.2 Audit Log Used."""
    log = Subject(f"file://{source.host}/audit", URI, SECURITY_RESOURCE, "Security Audit Log")
    person = _person(body, source)
    return Message(code("110101"), READ, (person,), subjects=(log,))


def _begin_transferring(body: Body, source: Source) -> Message | None:
    """A.5.3.3 Begin Transferring DICOM Instances; a folder is no node that they go to."""
    if "folder" in body.get("peer", {}):
        return None
    return Message(code("110102"), EXECUTE, _to_peer(body, source))


def _sent(body: Body, source: Source) -> Message:
    """A.5.3.7 DICOM Instances Transferred; into a folder, A.5.3.4 Data Export."""
    if "folder" not in body.get("peer", {}):
        # Whether the receiver held them before is not known: R (table A.5.3.7-1).
        return Message(code("110104"), READ, _to_peer(body, source))
    media = Participant(body["subject"], code("110154"), media=code("110037"))
    return Message(code("110106"), READ, (_own(source, SOURCE, requestor=True), media))


def _refused(body: Body, source: Source) -> Message:
    return replace(_sent(body, source), outcome=SERIOUS_FAILURE)


def _received(body: Body, source: Source) -> Message:
    """A.5.3.7 DICOM Instances Transferred."""
    sender = Participant(body["subject"], SOURCE, requestor=True)
    return Message(code("110104"), CREATE, (sender, _own(source, DESTINATION)))


def _accessed(body: Body, source: Source) -> Message:
    """A.5.3.6 DICOM Instances Accessed."""
    return Message(code("110103"), READ, (_person(body, source), _own(source)))


def _released(_body: Body, source: Source) -> Message:
    """A.5.3.8 DICOM Study Deleted."""
    return Message(code("110105"), DELETE, (_own(source, requestor=True),))


def _discarded(body: Body, source: Source) -> Message:
    """A.5.3.8 DICOM Study Deleted, by a person."""
    return Message(code("110105"), DELETE, (_person(body, source), _own(source)))


def _results_released(_body: Body, source: Source) -> Message:
    """A.5.3.6 DICOM Instances Accessed: some of a study were deleted."""
    return Message(code("110103"), DELETE, (_own(source, requestor=True),))


def _alert(kind: str, outcome: str) -> Callable[[Body, Source], Message]:
    def make(body: Body, source: Source) -> Message:
        """A.5.3.11 Security Alert."""
        name = body.get("subject", "")
        peer = body.get("peer", {})
        subject = Subject(
            peer.get("ae_title") or name or source.source_id,
            code("110182"),
            SECURITY_RESOURCE,
            name or source.source_id,
            ("Alert Description", body.get("detail") or body["kind"]),
        )
        return Message(
            code("110113"),
            EXECUTE,
            (_own(source),),
            outcome,
            (code(kind),),
            (subject,),
        )

    return make


def _login(outcome: str) -> Callable[[Body, Source], Message]:
    def make(body: Body, source: Source) -> Message:
        """A.5.3.12 User Authentication, at the opening of an association."""
        address, _, _ = body.get("detail", "").partition(": ")
        person = Participant(body["subject"], address=address or source.host, requestor=True)
        types = (code("110122"),)
        return Message(code("110114"), EXECUTE, (person, _own(source)), outcome, types)

    return make


_MAKERS: Mapping[str, Callable[[Body, Source], Message | None]] = {
    "application_started": _application("110120"),
    "application_stopped": _application("110121"),
    "audit_read": _audit_log_used,
    "received": _received,
    "sending": _begin_transferring,
    "sent": _sent,
    "refused": _refused,
    "result_shown": _accessed,
    "exported": _accessed,
    "study_released": _released,
    "study_discarded": _discarded,
    "results_released": _results_released,
    "association_rejected": _alert("110126", MINOR_FAILURE),
    "rejected": _alert("110126", MINOR_FAILURE),
    "pipeline_enabled": _alert("110131", SUCCESS),
    "pipeline_shadow": _alert("110131", SUCCESS),
    "pipeline_disabled": _alert("110131", SUCCESS),
    "logged_in": _login(SUCCESS),
    "login_refused": _login(MINOR_FAILURE),
}
"""Kind of event -> its message."""

KINDS = frozenset(_MAKERS)


# --- who -------------------------------------------------------------------------------------


def _own(source: Source, role: Code | None = None, *, requestor: bool = False) -> Participant:
    return Participant(source.ae_title, role, source.host, requestor)


def _to_peer(body: Body, source: Source) -> tuple[Participant, ...]:
    peer = body.get("peer", {})
    to = Participant(peer.get("ae_title", body["subject"]), DESTINATION, peer.get("host", ""))
    return (_own(source, SOURCE, requestor=True), to)


def _person(body: Body, source: Source) -> Participant:
    return Participant(body["subject"], address=source.host, requestor=True)
