"""Deliver: C-STORE with every answer a PACS can give, and with none. D19 to D23."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage

from node import deliver, wake
from node.dimse import sender
from node.errors import PeerRefused, PeerUnreachable
from node.settings import DimseDestination, FolderDestination
from node.store import deliveries
from node.store.tables import artifact, delivery
from node.wake import Alarm
from tests.node.results import (
    data_set_digest,
    happened,
    make_due,
    rows,
    states,
    waiting_result,
)
from tests.peers import dcmtk, free_port, wait_until
from tests.peers.pacs import Pacs, Script, pacs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.orthanc import Orthanc

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def to(settings: Settings, **destinations: DimseDestination | FolderDestination) -> Settings:
    return settings.model_copy(update={"destinations": destinations})


def dimse(port: int, ae_title: str = "PACS", *, timeout_s: float = 10.0) -> DimseDestination:
    return DimseDestination(
        kind="dimse", ae_title=ae_title, host="127.0.0.1", port=port, timeout_s=timeout_s
    )


@contextmanager
def delivering(settings: Settings, ledger: Ledger) -> Iterator[Alarm]:
    alarm, stop = Alarm(), threading.Event()
    thread = threading.Thread(target=deliver.run, args=(settings, ledger, alarm, stop))
    thread.start()
    try:
        yield alarm
    finally:
        stop.set()
        alarm.ring()
        thread.join(60.0)
    assert not thread.is_alive()


def large_result(settings: Settings, ledger: Ledger) -> None:
    """One object that is larger than any socket buffer."""
    (made,) = waiting_result(settings, ledger, ["pacs"], roles=["seg"])
    path = settings.artifact_folder / made.path
    dataset = dcmread(path)
    dataset.NumberOfFrames, dataset.PixelData = 8192, bytes(64 * 64 * 8192)
    dataset.save_as(path)
    with ledger.write() as db:
        db.execute(artifact.update().values(digest=sha256(path.read_bytes()).hexdigest()))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Pacs]:
    with pacs(tmp_path / "pacs") as running:
        yield running


def test_a_study_goes_on_one_association_in_order_and_byte_for_byte(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    settings = to(settings, pacs=dimse(archive.port))
    made = waiting_result(settings, ledger, ["pacs"])
    assert deliver.run_once(settings, ledger) == 2
    assert states(ledger) == ["sent", "sent"]
    assert [entry["sop_instance_uid"] for entry in archive.journal("store")] == [
        one.sop_instance_uid for one in made
    ]
    for one, entry in zip(made, archive.journal("store"), strict=True):
        assert entry["digest"] == data_set_digest(settings.artifact_folder / one.path)
        assert entry["transfer_syntax_uid"] == ExplicitVRLittleEndian
    (association,) = archive.journal("association")
    assert association["calling_ae"] == settings.listen.ae_title
    # One context for each class and syntax, of the classes in hand alone.
    classes = {made[0].sop_class_uid, made[1].sop_class_uid}
    assert {sop_class for sop_class, _ in association["proposed"]} == classes
    assert all(len(syntaxes) == 1 for _, syntaxes in association["proposed"])
    assert len(association["proposed"]) == 4


def test_nothing_due_opens_no_association(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    settings = to(settings, pacs=dimse(archive.port))
    assert deliver.run_once(settings, ledger) == 0
    assert archive.journal() == []


def test_a_pacs_that_knows_only_implicit_vr_gets_the_same_values(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(transfer_syntaxes=(ImplicitVRLittleEndian,))
    settings = to(settings, pacs=dimse(archive.port))
    made = waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent", "sent"]
    for one in made:
        stored = dcmread(archive.folder / f"{one.sop_instance_uid}.dcm")
        assert stored.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        original = dcmread(settings.artifact_folder / one.path)
        assert [(e.tag, e.value) for e in stored] == [(e.tag, e.value) for e in original]


@pytest.mark.parametrize("status", ["0xB000", "0xB006", "0xB007", "0x0111"])
def test_a_warning_or_a_duplicate_is_delivered_once_and_kept_on_record(
    settings: Settings, ledger: Ledger, archive: Pacs, status: str
) -> None:
    archive.script = Script(store=(status,))
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"], roles=["sr"])
    assert deliver.run_once(settings, ledger) == 1
    assert deliver.run_once(settings, ledger) == 0
    (row,) = rows(ledger)
    assert (row.state, row.status) == ("sent", int(status, 16))


def test_a_pacs_out_of_resources_is_tried_again_until_it_has_room(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(store=("0xA700", "ok", "0xA701", "ok"))
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert sorted(states(ledger)) == ["pending", "sent"]
    assert any("0xA700" in (row.what or "") for row in rows(ledger))
    for _ in range(2):
        make_due(ledger)
        deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent", "sent"]
    assert len(archive.files()) == 2


@pytest.mark.parametrize("status", ["0xA900", "0xC001", "0x0122", "0x0124"])
def test_a_refusal_goes_to_a_person_and_is_not_repeated(
    settings: Settings, ledger: Ledger, archive: Pacs, status: str
) -> None:
    archive.script = Script(store=(status, "ok"))
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    make_due(ledger)
    assert deliver.run_once(settings, ledger) == 0
    assert sorted(states(ledger)) == ["refused", "sent"]
    (refused,) = [row for row in rows(ledger) if row.state == "refused"]
    assert refused.status == int(status, 16)
    assert f"status 0x{int(status, 16):04X}" in refused.what
    assert "radnode retry" in refused.do
    assert len(happened(ledger, "refused")) == 1


def test_a_class_the_pacs_does_not_accept_is_refused_and_the_other_is_sent(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    made = waiting_result(settings := to(settings, pacs=dimse(archive.port)), ledger, ["pacs"])
    archive.script = Script(sop_classes=(made[1].sop_class_uid,))
    deliver.run_once(settings, ledger)
    by_uid = {row.sop_instance_uid: row for row in rows(ledger)}
    assert by_uid[made[0].sop_instance_uid].state == "refused"
    assert SegmentationStorage in by_uid[made[0].sop_instance_uid].what
    assert by_uid[made[1].sop_instance_uid].state == "sent"


def test_a_pacs_that_accepts_no_class_at_all_is_told_to_a_person(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(sop_classes=("1.2.840.10008.5.1.4.1.1.2",))
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["refused", "refused"]
    assert all(row.do for row in rows(ledger))


@pytest.mark.parametrize("step", ["reject_transient", "abort", "stall"])
def test_an_association_that_fails_is_tried_again(
    settings: Settings, ledger: Ledger, archive: Pacs, step: str
) -> None:
    archive.script = Script(associate=step)
    settings = to(settings, pacs=dimse(archive.port, timeout_s=0.5))
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending", "pending"]
    assert deliver.run_once(settings, ledger) == 0  # backing off
    archive.script = Script()
    make_due(ledger)
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent", "sent"]


def test_a_permanent_rejection_is_told_at_once_and_tried_hourly(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(associate="reject_permanent")
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"])
    before = time.time()
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending", "pending"]
    (told,) = happened(ledger, "rejected")
    assert "ae_title" in told.detail
    for row in rows(ledger):
        assert row.next_attempt_at == pytest.approx(before + 3600.0, abs=60.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_nobody_there_is_tried_again_and_says_where_to_look(
    settings: Settings, ledger: Ledger, host: str
) -> None:
    nobody = DimseDestination(
        kind="dimse", ae_title="PACS", host=host, port=free_port(), timeout_s=5.0
    )
    settings = to(settings, pacs=nobody)
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending", "pending"]
    assert f"No answer from 'pacs' (PACS at {host}:{nobody.port})." in rows(ledger)[0].what


@pytest.mark.parametrize("step", ["cut_before", "cut_after"])
def test_an_answer_that_is_lost_leaves_one_object_with_the_same_bytes(
    settings: Settings, ledger: Ledger, archive: Pacs, step: str
) -> None:
    """D23: whether the PACS stored it cannot be known, and need not be."""
    archive.script = Script(store=(step,) * 3)
    settings = to(settings, pacs=dimse(archive.port))
    (made,) = waiting_result(settings, ledger, ["pacs"], roles=["sr"])
    for _ in range(4):
        make_due(ledger)
        deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent"]
    sent = archive.journal("store")
    assert len(sent) == 4
    assert {e["digest"] for e in sent} == {data_set_digest(settings.artifact_folder / made.path)}
    assert [path.name for path in archive.files()] == [f"{made.sop_instance_uid}.dcm"]


@once
def test_a_pacs_that_never_answers_is_given_up_after_the_timeout(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(store=("stall",))
    settings = to(settings, pacs=dimse(archive.port, timeout_s=0.5))
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending", "pending"]
    assert [row.what for row in rows(ledger) if row.what] == [
        "'PACS' stalled: nothing moved for 0.5 s."
    ]


@once
def test_a_pacs_that_stops_reading_holds_no_thread(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(associate="deaf")
    settings = to(settings, pacs=dimse(archive.port, timeout_s=1.0))
    large_result(settings, ledger)
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending"]
    wait_until(lambda: not any("Requestor" in t.name for t in threading.enumerate()))


@once
def test_a_slow_pacs_may_take_longer_than_the_timeout_while_bytes_flow(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(associate="slow")
    settings = to(settings, pacs=dimse(archive.port, timeout_s=2.0))
    large_result(settings, ledger)
    began = time.monotonic()
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent"]
    assert time.monotonic() - began > 2.0


def test_a_file_that_is_gone_goes_to_a_person_and_the_other_is_sent(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    settings = to(settings, pacs=dimse(archive.port))
    made = waiting_result(settings, ledger, ["pacs"])
    (settings.artifact_folder / made[0].path).unlink()
    deliver.run_once(settings, ledger)
    assert sorted(states(ledger)) == ["refused", "sent"]


def test_a_file_that_is_gone_while_it_is_its_turn_holds_nothing_up(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    settings = to(settings, pacs=dimse(archive.port))
    made = waiting_result(settings, ledger, ["pacs"], roles=["seg", "sr"])
    paths = {one.sop_instance_uid: settings.artifact_folder / one.path for one in made}
    outcomes = sender.send(settings, dimse(archive.port), paths)
    assert next(outcomes) == (made[0].sop_instance_uid, 0x0000)
    paths[made[1].sop_instance_uid].unlink()
    ((uid, refused),) = outcomes
    assert uid == made[1].sop_instance_uid
    assert isinstance(refused, PeerRefused)


def test_a_file_that_is_gone_keeps_no_other_from_a_folder(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    settings = to(settings, out=FolderDestination(kind="folder", path=tmp_path / "out"))
    made = [
        waiting_result(settings, ledger, ["out"], name=f"study {number}") for number in range(2)
    ]
    (settings.artifact_folder / made[0][0].path).unlink()
    assert [deliver.run_once(settings, ledger) for _ in range(3)] == [2, 2, 0]
    assert sorted(states(ledger)) == ["refused", "sent", "sent", "sent"]


def test_a_result_for_a_destination_that_is_gone_is_told_and_can_be_sent_later(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    made = waiting_result(settings, ledger, ["pacs"])
    with delivering(to(settings, renamed=dimse(archive.port)), ledger):
        wait_until(lambda: states(ledger) == ["refused", "refused"])
    for row in rows(ledger):
        assert row.what == "There is no destination 'pacs' any more."
        assert "radnode retry" in row.do
    assert len(happened(ledger, "refused")) == 2
    with ledger.write() as db:
        assert deliveries.retry(db, [one.sop_instance_uid for one in made], None) == 2
    with delivering(to(settings, pacs=dimse(archive.port)), ledger):
        wait_until(lambda: states(ledger) == ["sent", "sent"])


def test_what_waits_for_long_is_told(settings: Settings, ledger: Ledger, archive: Pacs) -> None:
    archive.script = Script(then="0xA700")
    settings = to(settings, pacs=dimse(archive.port))
    waiting_result(settings, ledger, ["pacs"])
    with ledger.write() as db:
        db.execute(delivery.update().values(planned_at=delivery.c.planned_at - 1000.0))
    with delivering(settings, ledger):
        wait_until(lambda: happened(ledger, "delivery_waits"))
    (told,) = happened(ledger, "delivery_waits")
    assert (told.subject, told.detail) == ("pacs", "2 objects have waited for 17 min.")


@once
def test_a_dead_destination_delays_no_other(
    settings: Settings, ledger: Ledger, archive: Pacs, tmp_path: Path
) -> None:
    with pacs(tmp_path / "stalled", script=Script(associate="stall")) as stalled:
        (tmp_path / "out").mkdir()
        settings = to(
            settings,
            stalled=dimse(stalled.port, timeout_s=5.0),
            pacs=dimse(archive.port),
            folder=FolderDestination(kind="folder", path=tmp_path / "out"),
        )
        with delivering(settings, ledger) as alarm:
            for number in range(3):
                everywhere = ["stalled", "pacs", "folder"]
                waiting_result(settings, ledger, everywhere, name=f"study {number}")
            alarm.ring()
            wait_until(lambda: states(ledger, "pacs") == ["sent"] * 6)
            wait_until(lambda: states(ledger, "folder") == ["sent"] * 6)
            assert states(ledger, "stalled") == ["pending"] * 6
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 6


def _reached(ledger: Ledger, expected: list[str]) -> None:
    wait_until(lambda: states(ledger, "folder") == expected)


@once
@pytest.mark.parametrize(("poll_s", "rings"), [(3600.0, True), (0.1, False)])
def test_it_is_woken_and_looks_by_itself_where_the_word_was_lost(
    settings: Settings,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    poll_s: float,
    rings: bool,
) -> None:
    monkeypatch.setattr(wake, "POLL_S", poll_s)
    settings = to(settings, folder=FolderDestination(kind="folder", path=tmp_path))
    with delivering(settings, ledger) as alarm:
        for number in range(3):  # whatever it had seen when it began
            made = waiting_result(settings, ledger, ["folder"], name=f"study {number}")
            if rings:
                alarm.ring()
            sent = ["sent"] * len(made) * (number + 1)
            _reached(ledger, sent)


def test_what_waited_for_a_pacs_goes_when_it_is_back_in_order_and_once(
    settings: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D19, with shorter pauses."""
    monkeypatch.setattr(deliver, "FIRST_PAUSE_S", 0.2)
    port = free_port()
    settings = to(settings, pacs=dimse(port))
    made = [
        one
        for number in range(10)
        for one in waiting_result(settings, ledger, ["pacs"], name=f"study {number}")
    ]
    with delivering(settings, ledger):
        wait_until(lambda: all(row.what for row in rows(ledger)))
        with pacs(tmp_path / "pacs", port=port) as back:
            wait_until(lambda: states(ledger) == ["sent"] * 20)
            sent = [entry["sop_instance_uid"] for entry in back.journal("store")]
            assert sent == [one.sop_instance_uid for one in made]


def test_an_outage_is_learned_once_for_all_that_waits_and_is_no_objects_fault(
    settings: Settings, ledger: Ledger
) -> None:
    settings = to(settings, pacs=dimse(free_port()))
    for number in range(3):
        waiting_result(settings, ledger, ["pacs"], name=f"study {number}")
    before = time.time()
    with pytest.raises(PeerUnreachable, match="No answer"):
        deliver.deliver_study(settings, ledger, "pacs", attempts=5)
    assert deliver.deliver_study(settings, ledger, "pacs") == 0
    assert all("No answer" in row.what for row in rows(ledger))
    assert [row.attempts for row in rows(ledger)] == [0] * 6
    for row in rows(ledger):
        assert row.next_attempt_at == pytest.approx(before + 30.0, abs=10.0)


def test_a_pacs_that_was_away_for_a_weekend_is_found_within_minutes_of_its_return(
    settings: Settings, ledger: Ledger
) -> None:
    settings = to(settings, pacs=dimse(free_port()))
    waiting_result(settings, ledger, ["pacs"])
    before = time.time()
    with pytest.raises(PeerUnreachable):
        deliver.deliver_study(settings, ledger, "pacs", attempts=5_000)
    for row in rows(ledger):
        assert row.next_attempt_at < before + 60.0


def test_an_object_that_the_pacs_chokes_on_holds_nothing_up(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(store=("cut_before",))
    settings = to(settings, pacs=dimse(archive.port))
    (choked, *_), *_ = [
        waiting_result(settings, ledger, ["pacs"], name=f"study {number}") for number in range(3)
    ]
    assert [deliver.run_once(settings, ledger) for _ in range(5)] == [1, 1, 2, 2, 0]
    pending = [row.sop_instance_uid for row in rows(ledger) if row.state == "pending"]
    assert pending == [choked.sop_instance_uid]
    make_due(ledger)
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent"] * 6


def test_what_the_pacs_has_choked_on_goes_after_what_it_has_not_seen(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(then="cut_before")
    settings = to(settings, pacs=dimse(archive.port))
    for number in range(3):
        waiting_result(settings, ledger, ["pacs"], name=f"study {number}")
    for _ in range(6):
        make_due(ledger)
        deliver.run_once(settings, ledger)
    assert [row.attempts for row in rows(ledger)] == [1] * 6


def test_a_pacs_that_one_object_stops_gets_the_others_when_it_is_back(
    settings: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "FIRST_PAUSE_S", 0.2)
    with pacs(tmp_path / "pacs", script=Script(store=("cut_before",))) as stopped:
        settings = to(settings, pacs=dimse(stopped.port))
        for number in range(3):
            waiting_result(settings, ledger, ["pacs"], name=f"study {number}", roles=["sr"])
        deliver.run_once(settings, ledger)
    with delivering(settings, ledger):
        wait_until(lambda: all("No answer" in (row.what or "") for row in rows(ledger)))
        with pacs(tmp_path / "pacs", port=stopped.port) as back:
            wait_until(lambda: states(ledger) == ["sent"] * 3)
    first, *others = [row.sop_instance_uid for row in rows(ledger)]
    assert [entry["sop_instance_uid"] for entry in back.journal("store")[1:]] == [*others, first]


def test_the_pause_doubles_from_5_s_to_15_min_and_is_never_exact() -> None:
    for attempts, pause_s in [(1, 5.0), (2, 10.0), (5, 80.0), (9, 900.0), (10_000, 900.0)]:
        drawn = [deliver.pause_s(attempts) for _ in range(100)]
        assert all(0.8 * pause_s <= one <= 1.2 * pause_s for one in drawn)
        assert len(set(drawn)) > 50


def test_a_folder_that_is_away_is_tried_again(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    settings = to(settings, out=FolderDestination(kind="folder", path=mount))
    made = waiting_result(settings, ledger, ["out"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["pending", "pending"]
    mount.mkdir()
    make_due(ledger)
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent", "sent"]
    assert {p.read_bytes() for p in mount.rglob("*.dcm")} == {
        (settings.artifact_folder / one.path).read_bytes() for one in made
    }


def test_dcmtk_and_orthanc_hold_what_was_sent(
    settings: Settings, ledger: Ledger, orthanc: Orthanc, tmp_path: Path
) -> None:
    with dcmtk.storescp(tmp_path, "--bit-preserving") as scp:
        settings = to(
            settings,
            dcmtk=dimse(scp.port, scp.ae_title),
            orthanc=dimse(orthanc.port, orthanc.ae_title),
        )
        made = waiting_result(settings, ledger, ["dcmtk", "orthanc"])
        assert deliver.run_once(settings, ledger) == 4
        assert states(ledger) == ["sent"] * 4
        originals = {data_set_digest(settings.artifact_folder / one.path) for one in made}
        assert {data_set_digest(path) for path in scp.files()} == originals
    held = orthanc.datasets(StudyInstanceUID=made[0].study_uid)
    assert {d.SOPInstanceUID for d in held} == {one.sop_instance_uid for one in made}


def test_an_object_that_changed_on_the_disk_is_not_sent_and_a_person_is_told(
    settings: Settings, ledger: Ledger, archive: Pacs
) -> None:
    settings = to(settings, pacs=dimse(archive.port))
    segmentation, _ = waiting_result(settings, ledger, ["pacs"])
    path = settings.artifact_folder / segmentation.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x01")
    deliver.run_once(settings, ledger)
    assert sorted(states(ledger)) == ["refused", "sent"]
    (told,) = [row for row in rows(ledger) if row.state == "refused"]
    assert told.what.startswith("The file of this object has changed on the disk")
    assert len(archive.files()) == 1
