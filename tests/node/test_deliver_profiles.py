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
from tests.node.results import happened, make_due, rows, waiting_result
from tests.peers.pacs import Pacs, Script, pacs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        from node.store import listing

        return {row["role"]: row["state"] for row in listing.deliveries(db, 100)}


def held(archive: Pacs) -> list[str]:
    return [entry["sop_class_uid"] for entry in archive.journal("store")]


def test_a_label_map_that_is_not_known_goes_as_a_binary_segmentation(settings, ledger, archive):
    archive.script = Script(sop_classes=(SegmentationStorage, Comprehensive3DSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings) == {
        "labelmap": "canceled",
        "labelmap-sr": "canceled",
        "seg": "sent",
        "sr": "sent",
    }
    assert held(archive) == [SegmentationStorage, Comprehensive3DSRStorage]
    (event,) = happened(ledger, "fell_back")
    assert event.detail == "labelmap is not accepted: seg, sr instead"
    assert "seg, sr went instead" in next(r.what for r in rows(ledger) if r.state == "canceled")


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
    assert by_role(ledger, settings) == {
        "seg": "sent",
        "sr": "canceled",
        "comprehensive-sr": "sent",
    }


def test_one_fall_back_may_lead_to_another(settings, ledger, archive):
    archive.script = Script(sop_classes=(SegmentationStorage, ComprehensiveSRStorage))
    settings = sending_to(settings, archive.port)
    waiting_result(settings, ledger, ["pacs"], roles=LABEL_MAP, held=BINARY)
    deliver_all(settings, ledger)
    assert held(archive) == [SegmentationStorage, ComprehensiveSRStorage]
    assert sorted(s for s in by_role(ledger, settings).values() if s != "canceled") == ["sent"] * 2


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


def revised(settings: Settings, ledger: Ledger) -> None:
    waiting_result(settings, ledger, ["pacs"], name="revision 1")
    deliver_all(settings, ledger)
    waiting_result(
        settings,
        ledger,
        ["pacs"],
        name="revision 2",
        held=["rejection"],
        supersedes="revision 1",
    )


def test_an_old_result_is_rejected_once_the_new_one_is_there(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True)
    revised(settings, ledger)
    deliver_all(settings, ledger)
    assert by_role(ledger, settings)["rejection"] == "sent"
    assert held(archive)[-1] == SOP_CLASSES[Role.KO]


def test_an_old_result_stays_while_the_new_one_is_refused(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True)
    revised(settings, ledger)
    archive.script = Script(store=("ok", "0xC000"))
    deliver_all(settings, ledger)
    assert "rejection" not in by_role(ledger, settings)


def test_nothing_is_rejected_where_the_old_result_never_came(settings, ledger, archive):
    settings = sending_to(settings, archive.port, reject_superseded=True)
    archive.script = Script(then="0xC000")
    revised(settings, ledger)
    archive.script = Script()
    deliver_all(settings, ledger)
    assert "rejection" not in by_role(ledger, settings)


def test_nothing_is_rejected_unless_a_site_asks_for_it(settings, ledger, archive):
    settings = sending_to(settings, archive.port)
    revised(settings, ledger)
    deliver_all(settings, ledger)
    assert "rejection" not in by_role(ledger, settings)


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
