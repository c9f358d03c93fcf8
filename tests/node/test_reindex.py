"""Start-up gives every spool file its row, once, also while a listener runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from node.dimse.receive import part10_header
from node.reindex import Reindexed, reindex
from node.spool import Part, Spool
from tests.node.receiving import conflicts, instances, listening, parts, stored
from tests.peers import scanner

if TYPE_CHECKING:
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
    path = spool.keep(part.path, part.digest)
    part.close()
    return path


def test_a_file_without_a_row_gets_one(settings, ledger):
    path = leave(settings, scanner.ct_slice(), calling_ae="MR2")
    assert reindex(settings, ledger) == Reindexed(swept=0, indexed=1, damaged=0)
    (row,) = instances(ledger)
    assert (row["path"], row["digest"]) == (path, path[3:-4])
    assert (row["sop_instance_uid"], row["study_uid"]) == ("1.2.3.4.1", "1.2.3")
    assert (row["calling_ae"], row["association_id"]) == ("MR2", "")
    assert row["size_bytes"] == len(scanner.encode(scanner.ct_slice()))


def test_doing_it_again_changes_nothing(settings, ledger):
    leave(settings, scanner.ct_slice())
    reindex(settings, ledger)
    before = instances(ledger)
    assert reindex(settings, ledger) == Reindexed(swept=0, indexed=0, damaged=0)
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
    path = Spool(settings.spool_folder).absolute(leave(settings, dataset))
    content = path.read_bytes()
    if damage == "bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(content[:-300])
    elif damage == "junk":
        path.write_bytes(b"junk")
    leave(settings, scanner.ct_slice(2))
    assert reindex(settings, ledger) == Reindexed(swept=0, indexed=1, damaged=1)
    assert path.exists()
    assert [row["sop_instance_uid"] for row in instances(ledger)] == ["1.2.3.4.2"]
    assert "spool_file_damaged" in "".join(capfd.readouterr())


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
            found = reindex(settings, ledger)
            assert len(parts(settings)) >= 1  # the part of the open association
            sending.join()
        assert (found.swept, found.damaged) == (0, 0)
    assert len(instances(ledger)) == len(stored(settings)) == 40
    assert conflicts(ledger) == []
