"""Start-up gives every spool file its row, once, also while a listener runs."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from node.dimse.receive import part10_header
from node.reindex import Reindexed, reindex
from node.spool import Part, Spool
from tests.node.receiving import conflicts, event_rows, instances, listening, parts, stored
from tests.peers import scanner

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from node.settings import Settings


def leave(settings: Settings, dataset: Dataset, *, calling_ae: str = "CT1") -> str:
    """Keep a data set as a listener would that dies before the row; return its path."""
    spool = Spool(settings.spool_folder)
    header = part10_header(
        dataset.SOPClassUID, dataset.SOPInstanceUID, "1.2.840.10008.1.2.1", calling_ae
    )
    part = Part(spool.new_part(), header)
    part.write(scanner.encode(dataset))
    path = spool.keep(part)
    part.close()
    return path


def found(swept: int = 0, indexed: int = 0, damaged: int = 0, missing: int = 0) -> Reindexed:
    return Reindexed(swept, indexed, damaged, missing)


def absolute(settings: Settings, path: str) -> Path:
    return Spool(settings.spool_folder).absolute(path)


def test_a_file_without_a_row_gets_one(settings, ledger):
    path = leave(settings, scanner.ct_slice(), calling_ae="MR2")
    assert reindex(settings, ledger) == found(indexed=1)
    (row,) = instances(ledger)
    assert (row["path"], row["digest"]) == (path, path[3:-4])
    assert (row["sop_instance_uid"], row["study_uid"]) == ("1.2.3.4.1", "1.2.3")
    assert (row["calling_ae"], row["association_id"]) == ("MR2", "")
    assert row["size_bytes"] == len(scanner.encode(scanner.ct_slice()))


def test_doing_it_again_changes_nothing(settings, ledger):
    leave(settings, scanner.ct_slice())
    reindex(settings, ledger)
    before = instances(ledger)
    assert reindex(settings, ledger) == found()
    assert instances(ledger) == before


def test_another_content_under_a_known_uid_becomes_a_conflict(settings, ledger):
    leave(settings, scanner.ct_slice())
    reindex(settings, ledger)
    other = scanner.ct_slice()
    other.PatientID = "T2"
    leave(settings, other)
    assert reindex(settings, ledger).indexed == 1
    assert reindex(settings, ledger).indexed == 0
    assert len(instances(ledger)) == len(conflicts(ledger)) == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", ["bit", "cut", "junk", "not gated"])
def test_a_damaged_file_is_told_and_stays(settings, ledger, capfd, damage):
    dataset = scanner.ct_slice()
    if damage == "not gated":
        dataset.StudyInstanceUID = ""
    name = leave(settings, dataset)
    path = absolute(settings, name)
    content = path.read_bytes()
    if damage == "bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(content[:-300])
    elif damage == "junk":
        path.write_bytes(b"junk")
    leave(settings, scanner.ct_slice(2))
    assert reindex(settings, ledger) == found(indexed=1, damaged=1)
    assert path.exists()
    assert [row["sop_instance_uid"] for row in instances(ledger)] == ["1.2.3.4.2"]
    assert "spool_file_damaged" in "".join(capfd.readouterr())
    (told,) = event_rows(ledger, "spool_file_damaged")
    assert told["subject"] == name
    assert "have its study sent again" in told["detail"]
    assert "Phantom" not in told["detail"]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_header_with_any_damage_keeps_nothing_from_starting(settings, ledger):
    """Cut after every byte, and 300 times with up to four bytes of the file meta changed."""
    path = absolute(settings, leave(settings, scanner.ct_slice()))
    whole = path.read_bytes()
    header_bytes = len(whole) - len(scanner.encode(scanner.ct_slice()))
    damaged = [whole[:size] for size in range(header_bytes + 1)]
    chance = random.Random(1)
    for _ in range(300):
        changed = bytearray(whole[:header_bytes])
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(128, header_bytes)] = chance.randrange(256)
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        assert reindex(settings, ledger) == found(damaged=1)
    assert instances(ledger) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        "link to itself",
        pytest.param(
            "unreadable",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file"),
        ),
    ],
)
def test_what_cannot_be_read_is_told_and_passed_by(settings, ledger, kind):
    path = absolute(settings, leave(settings, scanner.ct_slice()))
    leave(settings, scanner.ct_slice(2))
    if kind == "unreadable":
        path.chmod(0)
    else:
        path.unlink()
        path.mkdir() if kind == "folder" else path.symlink_to(path)
    assert reindex(settings, ledger) == found(indexed=1, damaged=1)
    assert len(event_rows(ledger, "spool_file_damaged")) == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_file_is_repaired_by_sending_the_instance_again(settings, ledger):
    path = absolute(settings, leave(settings, scanner.ct_slice()))
    path.write_bytes(path.read_bytes()[:-300])
    reindex(settings, ledger)
    with listening(settings, ledger) as port:
        assert scanner.send(port, [scanner.ct_slice()])[0].status == 0x0000
    assert stored(settings) == {"1.2.3.4.1": scanner.encode(scanner.ct_slice())}
    assert reindex(settings, ledger) == found()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("first", range(6))
def test_of_two_contents_under_one_uid_the_one_that_came_first_is_the_instance(
    settings, ledger, first
):
    contents = []
    for number in range(6):
        contents.append(scanner.ct_slice())
        contents[-1].PatientID = f"T{number}"
    order = contents[first:] + contents[:first]
    paths = [leave(settings, one) for one in order]
    for seconds, path in enumerate(paths):
        os.utime(absolute(settings, path), (seconds, seconds))
    assert reindex(settings, ledger) == found(indexed=6)
    assert [row["path"] for row in instances(ledger)] == paths[:1]
    assert {row["path"] for row in conflicts(ledger)} == set(paths[1:])


def test_an_instance_whose_file_is_gone_is_told_once_a_study(settings, ledger, monkeypatch):
    monkeypatch.setattr("node.reindex.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("node.reindex.FILES_AT_ONCE", 1)
    for study in ("1.2.3", "1.2.4"):
        for number in range(1, 4):
            leave(settings, scanner.ct_slice(number, study=study, series=f"{study}.4"))
    reindex(settings, ledger)
    for row in instances(ledger):
        if row["study_uid"] == "1.2.4" and row["sop_instance_uid"] != "1.2.4.4.2":
            absolute(settings, row["path"]).unlink()
    assert reindex(settings, ledger) == found(missing=2)
    (told,) = event_rows(ledger, "spool_files_missing")
    assert told["study_uid"] == "1.2.4"
    assert told["detail"].startswith("2 received instances have no file any more.")
    for number in (1, 3):
        leave(settings, scanner.ct_slice(number, study="1.2.4", series="1.2.4.4"))
    assert reindex(settings, ledger) == found()


def test_a_listener_may_run_meanwhile(settings, ledger):
    left = [scanner.ct_slice(number) for number in range(1, 21)]
    for one in left:
        leave(settings, one)
    new = [scanner.ct_slice(number) for number in range(11, 41)]
    with listening(settings, ledger) as port:
        with scanner.associate(port) as ct1:
            ct1.store_bytes(
                scanner.encode(new[0]),
                sop_class_uid=new[0].SOPClassUID,
                sop_instance_uid=new[0].SOPInstanceUID,
                cut_at=100,
            )
            sending = threading.Thread(target=scanner.send, args=(port, new))
            sending.start()
            told = reindex(settings, ledger)
            assert len(parts(settings)) >= 1  # the part of the open association
            sending.join()
        assert (told.swept, told.damaged, told.missing) == (0, 0, 0)
    assert len(instances(ledger)) == len(stored(settings)) == 40
    assert conflicts(ledger) == []


def test_of_several_listeners_one_tells_and_all_index(settings, ledger):
    leave(settings, scanner.ct_slice(1))
    lost = leave(settings, scanner.ct_slice(2))
    reindex(settings, ledger)
    absolute(settings, lost).unlink()
    leave(settings, scanner.ct_slice(3))
    Spool(settings.spool_folder).prepare()
    absolute(settings, f"ab/{'ab' * 32}.dcm").write_bytes(b"damaged")
    assert reindex(settings, ledger, tells=False) == found(indexed=1, damaged=1)
    kinds = ("spool_files_missing", "spool_file_damaged")
    assert [len(event_rows(ledger, kind)) for kind in kinds] == [0, 0]
    assert reindex(settings, ledger) == found(damaged=1, missing=1)
    assert [len(event_rows(ledger, kind)) for kind in kinds] == [1, 1]
