"""The verbs of the audit trail, as a person types them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from node.audit import keep
from node.audit.records import segments
from node.cli.person import person
from tests.node.trails import STUDY, bodies_of, happen, lines_of, taken_over

if TYPE_CHECKING:
    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.node.command import Command

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def trail(radnode: Command, settings: Settings, ledger: Ledger) -> Command:
    """The command, on a node whose trail has three records."""
    radnode.configure(settings)
    happen(ledger, "received", study_uid=STUDY, subject="CT1", detail="3 of 1.2.840.10008.1")
    happen(ledger, "job_planned", "sent", study_uid=STUDY, subject="pacs")
    taken_over(settings, ledger)
    return radnode


def tamper(settings: Settings) -> None:
    (path,) = segments(keep.places(settings).folder)
    path.write_bytes(path.read_bytes().replace(b"job_planned", b"job_planted"))


def test_verify_says_how_much_is_as_it_was_written(trail: Command, settings: Settings):
    said = trail("audit", "verify")
    assert said.status == 0
    assert said.out.startswith("3 records, each as it was written.")
    head = said.out.split()[-1]
    assert trail("audit", "verify", "--head", head).status == 0


def test_verify_fails_and_names_the_first_bad_record(trail: Command, settings: Settings):
    tamper(settings)
    assert trail("audit", "verify").error == "radnode: Record 2 is not what was written."


def test_verify_compares_with_a_head_from_elsewhere(trail: Command, settings: Settings):
    elsewhere = f"5:{'0' * 64}"
    assert "Records 4 to 5 are gone" in trail("audit", "verify", "--head", elsewhere).error
    assert "is no head" in trail("audit", "verify", "--head", "5").error


def test_verify_without_a_trail_says_so(radnode: Command, settings: Settings):
    radnode.configure(settings)
    assert "There is no audit trail" in radnode("audit", "verify").error


def test_export_prints_every_record_and_that_it_was_read(
    trail: Command, settings: Settings, ledger: Ledger
):
    out = trail.folder / "trail.jsonl"
    assert trail("audit", "export", "--out", out).status == 0
    exported = [json.loads(line) for line in out.read_text().splitlines()]
    assert exported == bodies_of(keep.places(settings))
    *_, read = taken_over(settings, ledger)
    assert (read["kind"], read["subject"]) == ("audit_read", person())


def test_export_prints_the_messages_of_the_standard(trail: Command, settings: Settings):
    out = trail.folder / "trail.xml"
    assert trail("audit", "export", "--xml", "--out", out).status == 0
    messages = [etree.fromstring(line) for line in out.read_bytes().splitlines()]
    names = [one.find("EventIdentification/EventID").get("originalText") for one in messages]
    assert names == ["DICOM Instances Transferred"] * 2


def test_export_stops_at_the_first_bad_record(trail: Command, settings: Settings):
    tamper(settings)
    out = trail.folder / "trail.jsonl"
    assert "Record 2" in trail("audit", "export", "--out", out).error
    assert len(out.read_text().splitlines()) == 1
    assert len(lines_of(keep.places(settings))) == 3
