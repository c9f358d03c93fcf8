"""Audit messages are what DICOM PS3.15 A.5 asks for: by its schema, and table by table."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from lxml import etree
from pydicom.sr.codedict import codes

from node.audit import messages
from node.audit.messages import DCM, KINDS, Source
from node.audit.trail import body_of
from node.audit.xml import xml_of
from node.settings import DimseDestination, FolderDestination, Settings
from node.store.events import Event
from tests.node.trails import AT, STUDY
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
SOURCE = Source("radnode-1", "St. Elsewhere", "RADNODE", "node.hospital.lan")
SETTINGS = Settings(
    destinations={
        "pacs": DimseDestination(kind="dimse", ae_title="MAINPACS", host="10.0.1.10", port=104),
        "research": FolderDestination(kind="folder", path="/srv/research"),
    }
)


@cache
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(file=REPOSITORY / "tests" / "node" / "audit_message.rng")


def event(kind: str, subject: str = "", detail: str = "", study_uid: str | None = None) -> Event:
    return Event(7, AT, kind, study_uid, None, subject or None, detail)


def message(one: Event, patient_id: str | None = None) -> Element:
    """Return the message of an event, once it has passed the schema."""
    text = xml_of(body_of(one, SETTINGS, patient_id), SOURCE)
    assert text is not None
    element = etree.fromstring(text)
    schema().assertValid(element)
    return element


def coded(element: Element, path: str) -> list[tuple[str, str, str]]:
    return [
        (one.get("csd-code"), one.get("codeSystemName"), one.get("originalText"))
        for one in element.findall(path)
    ]


def participants(element: Element) -> list[tuple[str, str | None, str]]:
    """Return UserID, code of the role, and UserIsRequestor of each."""
    return [
        (
            one.get("UserID"),
            None if (role := one.find("RoleIDCode")) is None else role.get("csd-code"),
            one.get("UserIsRequestor"),
        )
        for one in element.findall("ActiveParticipant")
    ]


def about(element: Element) -> list[dict[str, Any]]:
    return [dict(one.attrib) for one in element.findall("ParticipantObjectIdentification")]


def happened(element: Element) -> tuple[str, str, str]:
    """Return EventID, action and outcome."""
    ((code, _, _),) = coded(element, "EventIdentification/EventID")
    identification = element.find("EventIdentification")
    return (
        code,
        identification.get("EventActionCode"),
        identification.get("EventOutcomeIndicator"),
    )


def test_every_code_has_the_meaning_that_dicom_gives_it():
    known = {
        code.value: code.meaning for name in codes.DCM.dir() for code in [getattr(codes.DCM, name)]
    }
    assert {value: known[value] for value in DCM} == DCM


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("subject", ["pacs", "research", "CT1"])
@pytest.mark.parametrize("study_uid", [None, STUDY])
def test_every_message_passes_the_schema(kind: str, subject: str, study_uid: str | None):
    one = event(kind, subject, f"3 of {CT}, status 0xB000", study_uid)
    if (kind, subject) == ("sending", "research"):
        assert xml_of(body_of(one, SETTINGS, None), SOURCE) is None
        return
    element = message(one, None if study_uid is None else "4711")
    assert element.find("AuditSourceIdentification").attrib == {
        "AuditEnterpriseSiteID": "St. Elsewhere",
        "AuditSourceID": "radnode-1",
    }
    assert element.find("EventIdentification").get("EventDateTime") == "2025-11-30T19:30:00.250Z"


def test_an_event_that_the_standard_does_not_know_has_no_message():
    assert xml_of(body_of(event("job_planned", study_uid=STUDY), SETTINGS, None), SOURCE) is None


def test_starting_and_stopping_are_application_activity():
    """PS3.15 table A.5.3.1-1."""
    for kind, code in (("application_started", "110120"), ("application_stopped", "110121")):
        element = message(event(kind, "radnode"))
        assert happened(element) == ("110100", "E", "0")
        assert coded(element, "EventIdentification/EventTypeCode") == [(code, "DCM", DCM[code])]
        assert participants(element) == [("radnode", "110150", "false")]
        (started,) = element.findall("ActiveParticipant")
        assert started.get("AlternativeUserID") == "AETITLES=RADNODE"
        assert about(element) == []


def test_what_came_is_instances_transferred_from_its_sender_to_us():
    """PS3.15 table A.5.3.7-1."""
    element = message(event("received", "CT1", f"120 of {CT}, 1 of {SEG}", STUDY))
    assert happened(element) == ("110104", "C", "0")
    assert participants(element) == [("CT1", "110153", "true"), ("RADNODE", "110152", "false")]
    assert about(element) == [
        {
            "ParticipantObjectID": STUDY,
            "ParticipantObjectTypeCode": "2",
            "ParticipantObjectTypeCodeRole": "3",
        }
    ]
    assert coded(element, "*/ParticipantObjectIDTypeCode") == [
        ("110180", "DCM", "Study Instance UID")
    ]
    assert [dict(one.attrib) for one in element.iter("SOPClass")] == [
        {"UID": CT, "NumberOfInstances": "120"},
        {"UID": SEG, "NumberOfInstances": "1"},
    ]


def test_what_goes_is_begun_and_then_transferred_from_us_to_the_pacs():
    """PS3.15 tables A.5.3.3-1 and A.5.3.7-1."""
    begun = message(event("sending", "pacs", f"2 of {SEG}", STUDY))
    assert happened(begun) == ("110102", "E", "0")
    sent = message(event("sent", "pacs", f"1 of {SEG}, status 0xB000", STUDY))
    assert happened(sent) == ("110104", "R", "0")
    for element in (begun, sent):
        assert participants(element) == [
            ("RADNODE", "110153", "true"),
            ("MAINPACS", "110152", "false"),
        ]
        _, pacs = element.findall("ActiveParticipant")
        assert pacs.get("NetworkAccessPointID") == "10.0.1.10"
        assert pacs.get("NetworkAccessPointTypeCode") == "2"


def test_what_the_pacs_refused_is_a_transfer_that_failed_and_says_why():
    element = message(event("refused", "pacs", "The PACS answered 0xA900.", STUDY))
    assert happened(element) == ("110104", "R", "8")
    assert element.findtext("*/EventOutcomeDescription") == "The PACS answered 0xA900."
    assert list(element.iter("ParticipantObjectDescription")) == []


def test_what_goes_into_a_folder_is_an_export():
    """PS3.15 table A.5.3.4-1."""
    element = message(event("sent", "research", f"1 of {SEG}", STUDY))
    assert happened(element) == ("110106", "R", "0")
    assert participants(element) == [
        ("RADNODE", "110153", "true"),
        ("research", "110154", "false"),
    ]
    assert coded(element, ".//MediaType") == [("110037", "DCM", "URI")]


@pytest.mark.parametrize("kind", ["result_shown", "exported"])
def test_what_a_person_sees_is_instances_accessed(kind: str):
    """PS3.15 table A.5.3.6-1."""
    element = message(event(kind, "m.curie", study_uid=STUDY))
    assert happened(element) == ("110103", "R", "0")
    assert participants(element)[0] == ("m.curie", None, "true")


@pytest.mark.parametrize(
    ("kind", "code", "who"),
    [
        ("study_released", "110105", ["RADNODE"]),
        ("study_discarded", "110105", ["m.curie", "RADNODE"]),
        ("results_released", "110103", ["RADNODE"]),
    ],
)
def test_what_is_removed_is_a_deletion(kind: str, code: str, who: list[str]):
    """PS3.15 tables A.5.3.8-1 and A.5.3.6-1."""
    element = message(event(kind, "m.curie", "120 files, 63.0 MB: old", STUDY))
    assert happened(element) == (code, "D", "0")
    assert [user for user, _, _ in participants(element)] == who
    assert about(element)[0]["ParticipantObjectID"] == STUDY


def test_a_stranger_is_a_security_alert():
    """PS3.15 table A.5.3.11-1."""
    element = message(event("association_rejected", "EVIL", "10.9.9.9: not in listen.accept_from"))
    assert happened(element) == ("110113", "E", "4")
    assert coded(element, "EventIdentification/EventTypeCode") == [
        ("110126", "DCM", "Node Authentication")
    ]
    ((alert),) = about(element)
    assert (alert["ParticipantObjectID"], alert["ParticipantObjectTypeCode"]) == ("EVIL", "2")
    detail = element.find(".//ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert base64.b64decode(detail.get("value")) == b"10.9.9.9: not in listen.accept_from"


@pytest.mark.parametrize(("kind", "outcome"), [("logged_in", "0"), ("login_refused", "4")])
def test_a_login_is_user_authentication(kind: str, outcome: str):
    """PS3.15 table A.5.3.12-1."""
    element = message(event(kind, "ct1", "10.0.4.21: as CT1"))
    assert happened(element) == ("110114", "E", outcome)
    assert element.find("ActiveParticipant").get("NetworkAccessPointID") == "10.0.4.21"
    assert coded(element, "EventIdentification/EventTypeCode") == [("110122", "DCM", "Login")]


def test_reading_the_trail_is_audit_log_used():
    """PS3.15 table A.5.3.2-1."""
    element = message(event("audit_read", "m.curie", "exported"))
    assert happened(element) == ("110101", "R", "0")
    ((log),) = about(element)
    assert log["ParticipantObjectTypeCodeRole"] == "13"
    assert coded(element, "*/ParticipantObjectIDTypeCode") == [("12", "RFC-3881", "URI")]
    assert element.findtext("*/ParticipantObjectName") == "Security Audit Log"


def test_the_patient_is_named_only_where_the_site_asks_for_it():
    one = event("received", "CT1", f"1 of {CT}", STUDY)
    assert len(about(message(one))) == 1
    named = message(one, "4711^^^St. Elsewhere")
    assert about(named)[1] == {
        "ParticipantObjectID": "4711^^^St. Elsewhere",
        "ParticipantObjectTypeCode": "1",
        "ParticipantObjectTypeCodeRole": "1",
    }
    assert coded(named, "*/ParticipantObjectIDTypeCode")[1] == ("2", "RFC-3881", "Patient Number")


@pytest.mark.parametrize(
    "hostile", ['"><x/>', "\x00\x1b[2J", "\ud800", "]]>", "&lt;", "Ü\U0001f600"]
)
def test_nothing_that_a_peer_calls_itself_breaks_a_message(hostile: str):
    element = message(event("association_rejected", hostile, hostile))
    assert about(element)[0]["ParticipantObjectID"]


def test_the_same_record_always_makes_the_same_message():
    body = body_of(event("received", "CT1", f"1 of {CT}", STUDY), SETTINGS, None)
    assert xml_of(body, SOURCE) == xml_of(dict(reversed(body.items())), SOURCE)
    assert messages.message_of(body, SOURCE) is not None
