"""The peers themselves: each starts, answers, and keeps what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import dcmread, examples
from sqlalchemy import func, select

from node.store.tables import metadata
from tests.peers import dcmtk

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.peers.orthanc import Orthanc
    from tests.peers.valkey import Broker


def test_each_test_gets_an_empty_migrated_ledger(ledger: Ledger) -> None:
    with ledger.read() as db:
        for table in metadata.sorted_tables:
            assert db.scalar(select(func.count()).select_from(table)) == 0


def test_storescp_keeps_what_storescu_sends(tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path) as scp:
        sent = dcmtk.storescu(scp.port, [examples.get_path("ct")], called_ae=scp.ae_title)
        assert sent.returncode == 0, sent.stderr
        (stored,) = scp.datasets()
    assert stored.PixelData == examples.ct.PixelData


def test_orthanc_keeps_what_dcmsend_sends(orthanc: Orthanc) -> None:
    assert orthanc.datasets() == ()
    assert dcmtk.echoscu(orthanc.port, called_ae=orthanc.ae_title).returncode == 0
    sent = dcmtk.dcmsend(orthanc.port, [examples.get_path("mr")], called_ae=orthanc.ae_title)
    assert sent.returncode == 0, sent.stderr
    original = dcmread(examples.get_path("mr"))
    (stored,) = orthanc.datasets(StudyInstanceUID=original.StudyInstanceUID)
    assert stored.PixelData == original.PixelData
    assert "SOPInstanceUID" in dcmtk.dcmdump(examples.get_path("mr"))


def test_a_broker_keeps_its_list_over_a_restart_and_loses_it_with_its_disk(
    broker: Broker,
) -> None:
    broker.client().rpush("bell", "job")
    broker.stop()
    broker.start()
    assert broker.client().llen("bell") == 1
    broker.kill(with_disk=True)
    broker.start()
    assert broker.client().llen("bell") == 0
