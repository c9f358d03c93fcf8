"""Check: what would keep a node from working is found, and comes with what to do."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from node import check, route
from node.settings import DimseDestination, FolderDestination, Route, Settings, Spool
from tests.node.receiving import listening
from tests.node.results import waiting_result
from tests.peers import bright_spot, dcmtk, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.peers.valkey import Broker

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def found(settings: Settings, about: str) -> check.Finding:
    """Return the one finding that says ``about``."""
    (finding,) = [one for one in check.check(settings) if about in one.what]
    assert finding.ok or finding.do
    return finding


def changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


def test_a_ledger_that_answers_is_well(settings: Settings, ledger: Ledger) -> None:
    assert found(settings, "database answers").ok


def test_checking_makes_nothing(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "not" / "yet")
    check.check(settings)
    assert list(tmp_path.iterdir()) == []
    settings.data.mkdir(parents=True)
    assert found(settings, "ledger is made when").ok
    assert list(settings.data.iterdir()) == []


def test_a_database_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://user:hunter2@127.0.0.1:{free_port()}/name"
    finding = found(Settings(data=tmp_path, database=url), "database does not answer")
    assert not finding.ok
    assert "hunter2" not in finding.what + finding.do


@once
def test_a_full_disk_is_told(settings: Settings) -> None:
    full = changed(settings, spool=Spool(minimum_free_bytes=1 << 60))
    assert not found(full, "GB free").ok
    assert found(settings, "GB free").ok


@once
def test_a_broker_outside_is_asked(settings: Settings, broker: Broker) -> None:
    outside = changed(settings, broker=broker.url)
    assert found(outside, "The broker").ok
    broker.stop()
    assert not found(outside, "The broker").ok


def test_an_embedded_broker_need_not_run_yet(tmp_path: Path) -> None:
    assert found(Settings(data=tmp_path), "embedded broker starts with").ok


# --- the port --------------------------------------------------------------------------------


@once
def test_a_port_is_free_or_the_node_itself_answers_on_it(
    settings: Settings, ledger: Ledger
) -> None:
    port = f"ort {settings.listen.port}"
    assert "is free" in found(settings, port).what
    with listening(settings, ledger):
        assert "RADNODE answers" in found(settings, port).what


@once
def test_a_node_that_does_not_list_itself_is_well(settings: Settings, ledger: Ledger) -> None:
    only = settings.listen.model_copy(update={"accept_from": {"CT1": "10.0.0.1"}})
    closed = changed(settings, listen=only)
    with listening(closed, ledger):
        assert found(closed, f"Port {only.port} is in use").ok


def hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


@once
def test_a_port_that_another_program_has_is_told(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.listen.port)) as other:
        threading.Thread(target=hang_up, args=[other]).start()
        assert not found(settings, f"Port {settings.listen.port} cannot be used").ok


# --- destinations and routes -----------------------------------------------------------------


@once
def test_destinations_are_tried(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with dcmtk.storescp(tmp_path / "pacs") as pacs:
        tried = changed(
            settings,
            destinations={
                "there": FolderDestination(kind="folder", path=tmp_path / "there"),
                "missing": FolderDestination(kind="folder", path=tmp_path / "missing"),
                "pacs": DimseDestination(
                    kind="dimse", ae_title="PACS", host="127.0.0.1", port=pacs.port
                ),
                "away": DimseDestination(
                    kind="dimse", ae_title="AWAY", host="127.0.0.1", port=free_port()
                ),
            },
        )
        findings = {one.what: one.ok for one in check.check(tried)}
    answers = {
        name: [ok for what, ok in findings.items() if f"'{name}'" in what or name.upper() in what]
        for name in ("there", "missing", "away")
    }
    assert answers == {"there": [True], "missing": [False], "away": [False]}
    assert any("'pacs' answered a C-ECHO" in what and ok for what, ok in findings.items())


def test_what_waits_for_a_destination_that_is_gone_is_told(
    settings: Settings, ledger: Ledger
) -> None:
    waiting_result(settings, ledger, ["pacs", "archive"])
    elsewhere = FolderDestination(kind="folder", path=settings.data)
    tried = changed(settings, destinations={"archive": elsewhere})
    assert not found(tried, "2 objects wait for 'pacs'").ok
    assert not [one for one in check.check(tried) if "wait for 'archive'" in one.what]


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    bright_spot.install(folder)
    monkeypatch.syspath_prepend(folder)
    route.registry._installed.cache_clear()
    yield
    route.registry._installed.cache_clear()


@once
@pytest.mark.usefixtures("_installed")
def test_routes_are_tried(settings: Settings, tmp_path: Path) -> None:
    assert not found(settings, "no routes").ok
    out = FolderDestination(kind="folder", path=tmp_path)
    routes = (
        Route(run=(bright_spot.NAME,), send_to=("out",)),
        Route(name="lost", run=("no-such-pipeline",)),
    )
    routed = changed(settings, destinations={"out": out}, routes=routes)
    assert found(routed, f"'{bright_spot.NAME}' is ready").ok
    assert not found(routed, "'no-such-pipeline' cannot be loaded").ok
    assert not found(routed, "Route 'lost' leads nowhere").ok
