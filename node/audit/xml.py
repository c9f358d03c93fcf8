"""XML of audit messages, as the schema of PS3.15 A.5.1 asks for it."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from node.audit.messages import RFC_3881, SUCCESS, Code, code, message_of
from node.store.transfers import from_words

if TYPE_CHECKING:
    from node.audit.messages import Body, Message, Participant, Source, Subject

MACHINE_NAME, IP_ADDRESS = "1", "2"
"""NetworkAccessPointTypeCode."""
APPLICATION_SERVER = "4"
"""AuditSourceTypeCode: application server process tier (A.5.1.2.1)."""
PERSON, SYSTEM_OBJECT = "1", "2"
"""ParticipantObjectTypeCode."""
PATIENT, REPORT = "1", "3"
"""ParticipantObjectTypeCodeRole."""
PATIENT_NUMBER = Code("2", "Patient Number", RFC_3881)

_UNSPEAKABLE = re.compile("[^\\t\\n\\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (section 2.2)."""


def xml_of(body: Body, source: Source) -> bytes | None:
    """Return the message of a record, UTF-8; None if the standard has none for its event."""
    message = message_of(body, source)
    return None if message is None else _xml(message, body, source)


def _xml(message: Message, body: Body, source: Source) -> bytes:
    root = ET.Element("AuditMessage")
    at = datetime.fromtimestamp(body["at"], UTC).isoformat(timespec="milliseconds")
    event = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=at.replace("+00:00", "Z"),
        EventOutcomeIndicator=message.outcome,
    )
    _coded(event, "EventID", message.event)
    for kind in message.types:
        _coded(event, "EventTypeCode", kind)
    if message.outcome != SUCCESS and body.get("detail"):
        ET.SubElement(event, "EventOutcomeDescription").text = _legible(body["detail"])
    for participant in message.participants:
        _participant(root, participant)
    site = {"AuditEnterpriseSiteID": source.enterprise_site} if source.enterprise_site else {}
    told_by = ET.SubElement(
        root, "AuditSourceIdentification", {**site, "AuditSourceID": source.source_id}
    )
    ET.SubElement(told_by, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    for subject in message.subjects:
        _subject(root, subject)
    if "study_uid" in body:
        _study(root, body)
    if "patient_id" in body:
        _patient(root, body["patient_id"])
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def _coded(parent: ET.Element, name: str, one: Code) -> ET.Element:
    said = {"csd-code": one.value, "codeSystemName": one.scheme, "originalText": one.meaning}
    return ET.SubElement(parent, name, said)


def _participant(root: ET.Element, one: Participant) -> None:
    said = {
        "UserID": _legible(one.user_id),
        "UserIsRequestor": str(one.requestor).lower(),
    }
    if one.alternative_id:
        said["AlternativeUserID"] = one.alternative_id
    if one.address:
        said["NetworkAccessPointID"] = one.address
        said["NetworkAccessPointTypeCode"] = _kind_of(one.address)
    element = ET.SubElement(root, "ActiveParticipant", said)
    if one.role is not None:
        _coded(element, "RoleIDCode", one.role)
    if one.media is not None:
        _coded(ET.SubElement(element, "MediaIdentifier"), "MediaType", one.media)


def _kind_of(address: str) -> str:
    try:
        ip_address(address)
    except ValueError:
        return MACHINE_NAME
    return IP_ADDRESS


def _object(root: ET.Element, object_id: str, kind: str, role: str, id_type: Code) -> ET.Element:
    said = {
        "ParticipantObjectID": _legible(object_id),
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    element = ET.SubElement(root, "ParticipantObjectIdentification", said)
    _coded(element, "ParticipantObjectIDTypeCode", id_type)
    return element


def _subject(root: ET.Element, subject: Subject) -> None:
    element = _object(root, subject.object_id, SYSTEM_OBJECT, subject.role, subject.id_type)
    ET.SubElement(element, "ParticipantObjectName").text = _legible(subject.name)
    if subject.detail is not None:
        kind, text = subject.detail
        value = base64.b64encode(_legible(text).encode("utf-8")).decode("ascii")
        ET.SubElement(element, "ParticipantObjectDetail", type=kind, value=value)


def _study(root: ET.Element, body: Body) -> None:
    element = _object(root, body["study_uid"], SYSTEM_OBJECT, REPORT, code("110180"))
    # A name is asked for; that of a study would be a patient's.
    ET.SubElement(element, "ParticipantObjectName").text = "Study"
    counts = from_words(body.get("detail", ""))
    if counts:
        description = ET.SubElement(element, "ParticipantObjectDescription")
        for uid, count in counts.items():
            ET.SubElement(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _patient(root: ET.Element, patient_id: str) -> None:
    element = _object(root, patient_id, PERSON, PATIENT, PATIENT_NUMBER)
    ET.SubElement(element, "ParticipantObjectName").text = "Patient"


def _legible(text: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", text)
