"""Looking for earlier results takes little time, memory and disk, whatever the archive does."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.dimse import retrieve
from node.dimse.retrieve import Limits
from node.errors import AssociationBroken
from node.priors import fetch
from node.priors.fetch import looked_up
from node.priors.results import StoredResult
from node.settings import DimseDestination
from tests.node.earlier import THIRD, asking, installed, lease, series
from tests.peers.archive import archive

NOT_ANSWERED = ("Earlier results could not be looked up: the archive did not answer as it should.",)


@pytest.fixture
def database():
    """No ledger is asked here."""
    return "sqlite"


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory):
    """Run in an environment where the pipeline is installed."""
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def present(tmp_path_factory):
    """An image of the present study."""
    path = tmp_path_factory.mktemp("present") / "image.dcm"
    dcmwrite(path, series("third", THIRD)[0], enforce_file_format=True)
    return (path,)


@contextmanager
def silent_peer():
    """A port whose owner accepts and then says nothing; and whom it has accepted."""
    accepted: list[socket.socket] = []

    def accept(server):
        while True:
            try:
                accepted.append(server.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, args=(server,))
        thread.start()
        try:
            yield server.getsockname()[1], accepted
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in accepted:
                one.close()


def look(settings, present, folder, *, attempt=1, tick=lambda: None):
    """What is found, and which files are there while the job goes on."""
    with looked_up(settings, lease(attempt), present, (), folder=folder, tick=tick) as earlier:
        return earlier, [path for path in folder.rglob("*") if path.is_file()]


def test_a_silent_archive_holds_no_worker_up(settings, present, tmp_path, monkeypatch):
    """It would be killed if it were not heard of, and its job taken for one that kills workers."""
    monkeypatch.setattr(retrieve, "PATIENCE_S", 2.0)
    ticks = []
    with silent_peer() as (port, accepted):
        one = asking(settings, "SILENT", port)
        started = time.monotonic()
        earlier, _ = look(one, present, tmp_path / "p", tick=lambda: ticks.append(time.monotonic()))
        lasted_s = time.monotonic() - started
        assert len(accepted) == 1
    assert earlier.problems == NOT_ANSWERED
    assert lasted_s < one.destinations["pacs"].timeout_s / 2
    heard = [started, *ticks]
    assert max(b - a for a, b in pairwise(heard)) < 1.9
    assert len(ticks) >= 2


def test_a_worker_that_shall_stop_does_not_wait_for_a_silent_archive(settings, present, tmp_path):
    class Stop(Exception):
        pass

    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) > 1:
            raise Stop

    with silent_peer() as (port, _):
        one = asking(settings, "SILENT", port, timeout_s=2.5)
        with pytest.raises(Stop):
            look(one, present, tmp_path / "priors", tick=tick)
    assert not (tmp_path / "priors").exists()


def test_an_archive_that_went_silent_is_not_asked_again(settings, present, tmp_path, monkeypatch):
    source = ("1.2.3", str(CTImageStorage), "1.2.3.4")
    three = [StoredResult(f"1.2.{n}", None, (), frozenset({source})) for n in range(3)]
    monkeypatch.setattr(fetch, "results_in", lambda *_: (three, ()))
    opened = []

    def counted(*args, **limits):
        opened.append(1)
        return retrieve.archive(*args, **limits)

    monkeypatch.setattr(fetch, "archive", counted)
    with archive(get="stall") as slow:
        one = asking(settings, slow.ae_title, slow.port, timeout_s=0.5)
        earlier, left = look(one, present, tmp_path / "priors")
    assert earlier.problems == (
        "3 earlier results could not be compared: the archive did not answer as it should.",
    )
    assert (len(opened), left) == (2, [])


def test_looking_up_ends_when_its_time_is_over(settings, present, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LOOK_UP_S", 0.0)
    with archive(find="stall") as slow:
        started = time.monotonic()
        earlier, _ = look(asking(settings, slow.ae_title, slow.port), present, tmp_path / "priors")
        assert time.monotonic() - started < retrieve.PATIENCE_S / 2
    assert earlier.problems == NOT_ANSWERED


def test_a_second_attempt_does_without_earlier_results(settings, present, tmp_path):
    with silent_peer() as (port, accepted):
        one = asking(settings, "SILENT", port)
        earlier, _ = look(one, present, tmp_path / "priors", attempt=2)
        assert accepted == []
    assert earlier.problems == (
        "Earlier results could not be looked up: a first attempt to analyse this study failed.",
    )


def test_what_new_studies_need_of_the_disk_is_left_to_them(settings, present, tmp_path):
    spool = settings.spool.model_copy(update={"minimum_free_bytes": 10**18})
    with silent_peer() as (port, accepted):
        one = asking(settings.model_copy(update={"spool": spool}), "SILENT", port)
        earlier, left = look(one, present, tmp_path / "priors")
        assert accepted == []
    assert "this node could not keep" in earlier.problems[0]
    assert left == []


def asked(settings, peer, folder):
    """What an archive answers to a query, without asking anything in particular."""
    one = asking(settings, peer.ae_title, peer.port)
    storage = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
    pacs = one.destinations["pacs"]
    assert isinstance(pacs, DimseDestination)
    with retrieve.archive(one, pacs, storage, folder, limits=Limits(), tick=lambda: None) as opened:
        query = Dataset()
        query.QueryRetrieveLevel, query.PatientID = "STUDY", "1"
        return opened.find(query)


def test_a_flood_of_answers_is_cut(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieve, "MAXIMUM_SPOKEN_BYTES", 2_000_000)
    with archive(find="flood") as peer, pytest.raises(AssociationBroken, match="of answers"):
        asked(settings, peer, tmp_path / "flood")


def test_an_answer_as_long_as_an_image_is_none(settings, tmp_path):
    with archive(find="long") as peer, pytest.raises(AssociationBroken, match="no answer"):
        asked(settings, peer, tmp_path / "long")
