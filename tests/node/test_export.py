"""`radnode export`, and destinations for research: the same rules on the way out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage

from node import deliver
from node.configuration import load_settings
from node.errors import ConfigError
from node.settings import DimseDestination, FolderDestination, Settings
from node.store import deliveries
from node.store.deliveries import DeliveryState
from tests.node.command import scan
from tests.node.results import happened, make_due, rows, states, waiting_result
from tests.peers.pacs import pacs

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.node.command import Command

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*.dcm")}


@once
def test_export_writes_what_the_node_holds_of_a_study(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    said = radnode("export", study_uid, "out")
    assert said.out == "6 objects written. They name the patient.\n"
    assert contents(radnode.folder / "out" / "images") == contents(node.spool_folder)
    assert "No study is called that" in radnode("export", "1.2.3", "out").error
    next(node.spool_folder.glob("*.dcm")).unlink()
    assert "1 objects are released" in radnode("export", study_uid, "out").out


@once
def test_export_without_identity_is_the_same_study_of_nobody(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    said = radnode("export", study_uid, "out", "--deidentify")
    assert said.out == "6 of 6 objects written, de-identified.\n"
    assert (node.data / "deidentify.key").stat().st_mode & 0o777 == 0o600
    files = sorted((radnode.folder / "out" / "images").iterdir())
    headers = [dcmread(path) for path in files]
    assert [f"{one.SOPInstanceUID}.dcm" for one in headers] == [path.name for path in files]
    (new_uid,) = {str(one.StudyInstanceUID) for one in headers}
    assert new_uid != study_uid
    for path, header in zip(files, headers, strict=True):
        assert header.PatientIdentityRemoved == "YES"
        assert b"Phantom^Bright" not in path.read_bytes()
        assert study_uid.encode() not in path.read_bytes()
    once_written = contents(radnode.folder / "out")
    radnode("export", study_uid, "again", "--deidentify")
    assert contents(radnode.folder / "again") == once_written


@once
def test_export_says_how_much_it_left_out_and_why(
    radnode: Command, node: Settings, ledger: Ledger
) -> None:
    study_uid = scan(node, ledger)
    for number, path in enumerate(sorted(node.spool_folder.glob("*.dcm"))):
        if number < 2:
            image = dcmread(path)
            image.BurnedInAnnotation = "YES"
            image.save_as(path)
    said = radnode("export", study_uid, "out", "--deidentify")
    assert said.out == "4 of 6 objects written, de-identified.\n"
    assert "2 objects were left out, 2 for this: Its pixels show who" in said.error
    assert "[deidentify.blank]" in said.err


# --- destinations --------------------------------------------------------------------------------


def research(settings: Settings, **destinations: DimseDestination | FolderDestination) -> Settings:
    return settings.model_copy(update={"destinations": destinations})


def folder_for_research(path: Path) -> FolderDestination:
    path.mkdir()
    return FolderDestination(kind="folder", path=path, deidentify=True)


@once
def test_what_goes_to_research_names_nobody_and_the_pacs_gets_it_whole(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    node = research(
        settings,
        research=folder_for_research(tmp_path / "research"),
        archive=FolderDestination(kind="folder", path=tmp_path),
    )
    made = waiting_result(settings, ledger, ["research", "archive"], roles=("seg",))
    assert deliver.run_once(node, ledger) == 2
    assert states(ledger) == [DeliveryState.SENT] * 2
    (sent,) = (tmp_path / "research").rglob("*.dcm")
    header = dcmread(sent)
    assert header.PatientIdentityRemoved == "YES"
    assert header.StudyInstanceUID.startswith("2.25.")
    content = sent.read_bytes()
    assert b"Doe" not in content
    for uid in (made[0].sop_instance_uid, made[0].study_uid):
        assert uid.encode() not in content
        assert hashlib.sha256(uid.encode()).hexdigest()[:32] not in str(sent)
    assert any(
        path.read_bytes() == (settings.artifact_folder / made[0].path).read_bytes()
        for path in tmp_path.glob("*/*.dcm")
    )
    assert list((settings.data / "deidentified").iterdir()) == []


@once
def test_a_resend_to_research_is_the_same_bytes(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    with pacs(tmp_path / "pacs") as archive:
        peer = DimseDestination(
            kind="dimse",
            ae_title="PACS",
            host="127.0.0.1",
            port=archive.port,
            commit=False,
            deidentify=True,
        )
        node = research(settings, research=peer)
        made = waiting_result(settings, ledger, ["research"], roles=("seg",))
        deliver.run_once(node, ledger)
        (first,) = [path.read_bytes() for path in archive.files()]
        with ledger.write() as db:
            db.execute(deliveries.delivery.update().values(state=DeliveryState.PENDING))
        make_due(ledger)
        deliver.run_once(node, ledger)
        assert {path.read_bytes() for path in archive.files()} == {first}
    assert states(ledger) == [DeliveryState.SENT]
    assert made[0].sop_instance_uid.encode() not in first


@once
def test_what_cannot_be_de_identified_is_refused_and_a_person_is_told(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    (made,) = waiting_result(settings, ledger, ["research"], roles=("seg",))
    path = settings.artifact_folder / made.path
    spoiled = dcmread(path)
    spoiled.SOPClassUID = EncapsulatedPDFStorage
    spoiled.save_as(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with ledger.write() as db:
        db.execute(deliveries.artifact.update().values(digest=digest))
    node = research(settings, research=folder_for_research(tmp_path / "research"))
    deliver.run_once(node, ledger)
    (row,) = rows(ledger)
    assert row.state == DeliveryState.REFUSED
    assert "encapsulated document" in row.what
    assert happened(ledger, "refused")
    assert list((tmp_path / "research").iterdir()) == []


@once
def test_nothing_leaves_while_the_secret_is_open_to_others(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    waiting_result(settings, ledger, ["research"], roles=("seg",))
    settings.deidentify_secret.write_text("ab" * 32)
    settings.deidentify_secret.chmod(0o644)
    node = research(settings, research=folder_for_research(tmp_path / "research"))
    deliver.run_once(node, ledger)
    assert states(ledger) == [DeliveryState.PENDING]
    settings.deidentify_secret.chmod(0o600)
    make_due(ledger)
    deliver.run_once(node, ledger)
    assert states(ledger) == [DeliveryState.SENT]


def test_a_destination_for_research_asks_for_no_commitment(tmp_path: Path) -> None:
    path = tmp_path / "radnode.toml"
    lines = ['kind = "dimse"', 'ae_title = "R"', 'host = "h"', "port = 104", "deidentify = true"]
    path.write_text("\n".join(["[destinations.r]", *lines]))
    with pytest.raises(ConfigError, match="commit = false"):
        load_settings(path)
    path.write_text("\n".join(["[destinations.r]", *lines, "commit = false"]))
    assert load_settings(path).destinations["r"].deidentify
