"""Deliver: a destination that does not know an object gets another; an old result goes last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    SegmentationStorage,
)

from node import deliver
from node.dimse import capabilities
from node.domain import Role
from node.profiles import SOP_CLASSES
from node.settings import DimseDestination
from node.store import commitments, deliveries, listing, rejections
from node.store.tables import job
from tests.node.results import happened, make_due, rows, waiting_result
from tests.peers.pacs import Pacs, Script, pacs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.domain import Artifact
    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.orthanc import Orthanc

LABEL_MAP = ("labelmap", "labelmap-sr")
BINARY = ("seg", "sr", "comprehensive-sr")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Pacs]:
    with pacs(tmp_path / "pacs") as running:
        yield running


def to(port: int, **fields: object) -> DimseDestination:
    return DimseDestination(kind="dimse", ae_title="PACS", host="127.0.0.1", port=port, **fields)


def sending_to(settings: Settings, port: int, **fields: object) -> Settings:
    return settings.model_copy(update={"destinations": {"pacs": to(port, **fields)}})


def deliver_all(settings: Settings, ledger: Ledger) -> None:
    while deliver.run_once(settings, ledger):
        make_due(ledger)


def by_role(ledger: Ledger, settings: Settings) -> dict[str, str]:
    """Return the state of each object that was planned for the PACS, by its role."""
    with ledger.read() as db:
        return {row["role"]: row["state"] for row in listing.deliveries(db, 100)}


def held(archive: Pacs) -> list[str]:
    return [entry["sop_class_uid"] for entry in archive.journal("store")]


def test_a_label_map_that_is_not_known_goes_as_a_binary_segmentation(settings, ledger, archive):
    archive.script = Script(sop_classes=(SegmentationStorage, Comprehensive3DSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "sr": "sent"}
    assert held(archive) == [SegmentationStorage, Comprehensive3DSRStorage]
    (event,) = happened(ledger, "fell_back")
    assert event.detail == "labelmap is not accepted: seg, sr instead"


def test_a_label_map_that_is_known_goes_as_it_is(settings, ledger, archive):
    archive.script = Script(sop_classes=(SOP_CLASSES[Role.LABELMAP], Comprehensive3DSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"labelmap": "sent", "labelmap-sr": "sent"}


def test_a_pacs_without_comprehensive_3d_reports_gets_a_comprehensive_one(
    settings, ledger, archive
):
    archive.script = Script(sop_classes=(SegmentationStorage, ComprehensiveSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], held=["comprehensive-sr"])
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "comprehensive-sr": "sent"}


def test_one_fall_back_may_lead_to_another(settings, ledger, archive):
    archive.script = Script(sop_classes=(SegmentationStorage, ComprehensiveSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert held(archive) == [SegmentationStorage, ComprehensiveSRStorage]
    assert by_role(ledger, settings) == {"seg": "sent", "comprehensive-sr": "sent"}


def test_a_retry_by_a_person_brings_no_second_form(settings, ledger, archive):
    archive.script = Script(
        sop_classes=(SegmentationStorage, Comprehensive3DSRStorage), store=("ok", "0xC000")
    )
    settings = sending_to(settings, archive.port)
    made = waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "sr": "refused"}
    archive.script = Script()  # it has learned label maps meanwhile
    with ledger.write() as db:
        deliveries.retry(db, [one.sop_instance_uid for one in made], "pacs")
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "sr": "sent"}


@pytest.mark.parametrize("status", ["0x0118", "0x0122"])
def test_a_class_that_is_refused_by_status_is_fallen_back_from_too(
    settings, ledger, archive, status
):
    archive.script = Script(store=(status,))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "sr": "sent"}


def test_where_there_is_nothing_to_fall_back_to_a_person_is_told(settings, ledger, archive):
    archive.script = Script(sop_classes=(SegmentationStorage,))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"])
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"seg": "sent", "sr": "refused"}
    (refused,) = (row for row in rows(ledger) if row.state == "refused")
    assert "does not accept SOP class" in refused.what


def test_a_status_of_failure_is_no_reason_to_send_something_else(settings, ledger, archive):
    archive.script = Script(then="0xC000")
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {"labelmap": "refused", "labelmap-sr": "refused"}


def revise(settings: Settings, ledger: Ledger) -> tuple[Artifact, ...]:
    """Deliver one result, and plan a later one with its rejection note."""
    waiting_result(settings, ledger, ["pacs"], name="revision 1")
    deliver_all(settings, ledger)
    return waiting_result(
        settings,
        ledger,
        ["pacs"],
        name="revision 2",
        held=["rejection"],
        supersedes="revision 1",
    )


def settle(settings: Settings, ledger: Ledger) -> dict[str, str]:
    """Deliver all there is, and what then becomes due; the state of each object by its role."""
    deliver_all(settings, ledger)
    deliver.reject_superseded(settings, ledger)
    deliver_all(settings, ledger)
    return by_role(ledger, settings)


def test_an_old_result_is_rejected_once_the_new_one_is_there(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    revise(settings, ledger)
    assert settle(settings, ledger)["rejection"] == "sent"
    assert held(archive)[-1] == SOP_CLASSES[Role.KO]
    assert deliver.reject_superseded(settings, ledger) == 0


def test_an_old_result_stays_until_the_archive_has_committed_to_the_new_one(
    settings, ledger, archive
):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=True)
    made = revise(settings, ledger)
    assert "rejection" not in settle(settings, ledger)
    with ledger.write() as db:
        asked = commitments.claim_uncommitted(db, "pacs", timeout_s=600.0)
        every = [one.sop_instance_uid for one in made]
        commitments.mark_committed(db, asked.transaction_uid, every)
    assert settle(settings, ledger)["rejection"] == "sent"


def test_an_old_result_stays_while_the_new_one_is_refused(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    revise(settings, ledger)
    archive.script = Script(store=("ok", "0xC000"))
    assert "rejection" not in settle(settings, ledger)


def test_an_old_result_stays_where_a_person_has_canceled_part_of_the_new_one(
    settings, ledger, archive
):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    made = revise(settings, ledger)
    with ledger.write() as db:
        deliveries.cancel(db, [one.sop_instance_uid for one in made if one.role == "sr"])
    assert "rejection" not in settle(settings, ledger)


def test_nothing_is_rejected_where_the_old_result_never_came(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    archive.script = Script(then="0xC000")
    revise(settings, ledger)
    archive.script = Script()
    assert "rejection" not in settle(settings, ledger)


def test_an_old_result_that_comes_after_the_new_one_is_rejected_then(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    archive.script = Script(then="0xA700")
    waiting_result(settings, ledger, ["pacs"], name="revision 1")
    deliver.run_once(settings, ledger)
    waiting_result(
        settings, ledger, ["pacs"], name="revision 2", held=["rejection"], supersedes="revision 1"
    )
    assert deliver.reject_superseded(settings, ledger) == 0
    archive.script = Script()
    make_due(ledger)
    assert settle(settings, ledger)["rejection"] == "sent"


def test_nothing_is_rejected_unless_a_site_asks_for_it(settings, ledger, archive):
    settings = sending_to(settings, archive.port, commit=False)
    revise(settings, ledger)
    assert "rejection" not in settle(settings, ledger)


@pytest.mark.parametrize(("status", "state"), [("0xA770", "sent"), ("0xA772", "refused")])
def test_what_an_archive_says_of_a_rejection_note_is_believed(
    settings, ledger, archive, status, state
):
    """As dcm4chee answers: it has the note already; it never got what the note names."""
    settings = sending_to(settings, archive.port, reject_superseded=True, commit=False)
    revise(settings, ledger)
    archive.script = Script(store=("ok", "ok", status))
    assert settle(settings, ledger)["rejection"] == state


def test_what_could_not_look_replaces_nothing_so_the_result_before_it_is_replaced(settings, ledger):
    for name, before in (("1", None), ("2", "1"), ("3", "2"), ("4", "3")):
        waiting_result(settings, ledger, [], name=name, supersedes=before)
    with ledger.write() as db:
        looked = {"1": "found", "2": "found", "3": "could_not_look", "4": "found"}
        for name, outcome in looked.items():
            db.execute(job.update().where(job.c.id == name).values(outcome=outcome))
    with ledger.read() as db:
        assert rejections.superseded(db, "4") == ("3", "2")
        assert rejections.superseded(db, "1") == ()


def test_a_note_names_only_what_went_to_an_archive_that_gets_notes(settings, ledger, archive):
    settings = sending_to(settings, archive.port)
    made = waiting_result(settings, ledger, ["pacs"], name="1", held=["comprehensive-sr"])
    with ledger.read() as db:
        assert rejections.to_reject(db, ["1"], ["elsewhere"]) == ()
        named = rejections.to_reject(db, ["1"], ["pacs"])
    assert {one.role for one in named} == {"seg", "sr"}
    assert {one.sop_instance_uid for one in named} < {one.sop_instance_uid for one in made}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_orthanc_says_which_objects_it_takes(settings: Settings, orthanc: Orthanc):
    taken, commits = capabilities.ask(settings, to(orthanc.port))
    assert commits
    assert taken >= {Role.SEG, Role.SR, Role.VIEWER_SR, Role.TEXT_SR, Role.SC, Role.PDF}
    assert Role.LABELMAP not in taken
    assert capabilities.suitable(taken) == ("ohif", "weasis", "orthanc", "air", "old-pacs")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("classes", "profiles"),
    [
        (["SC", "GSPS"], ("old-pacs",)),
        (["SEG", "COMPREHENSIVE_SR"], ("air",)),
        (["SC"], ()),
    ],
)
def test_the_profiles_that_fit_are_those_all_of_whose_objects_are_taken(
    settings, archive, classes, profiles
):
    archive.script = Script(
        sop_classes=tuple(SOP_CLASSES[Role[name]] for name in classes), commits=False
    )
    taken, commits = capabilities.ask(settings, to(archive.port))
    assert not commits
    assert capabilities.suitable(taken) == profiles
