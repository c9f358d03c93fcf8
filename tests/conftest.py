"""Fixtures that every room's tests share: the ledger on both databases, settings, real peers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from node.settings import Complete, Listen, Settings, Spool, Work
from node.store.ledger import Ledger, open_ledger
from node.store.migrate import migrate
from tests import parallel
from tests.every_object import KEPT, Kept
from tests.peers import free_port, postgres, valkey
from tests.peers import orthanc as orthanc_peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext
    from xdist.workermanage import WorkerController

    from tests.peers.orthanc import Orthanc
    from tests.peers.postgres import Postgres
    from tests.peers.valkey import Broker


def pytest_configure(config: pytest.Config) -> None:
    """Keep what encoders return, for the validators at the end of the session."""
    config.stash[KEPT] = Kept(parallel.shared_folder(config))
    config.stash[KEPT].watch()


def pytest_xdist_setupnodes() -> None:
    """Before the processes start."""
    parallel.prepare()


def pytest_configure_node(node: WorkerController) -> None:
    """Have every process keep what encoders return in one place."""
    parallel.share(node, node.config.stash[KEPT].folder)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> parallel.Scheduler:
    """Share out the tests in our way."""
    return parallel.Scheduler(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let what looks at the objects of all processes begin."""
    parallel.say_finished(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last what looks at the objects of all other tests."""
    items.sort(key=lambda item: item.path.name == "test_every_object.py")


@pytest.fixture
def broken_source(request: pytest.FixtureRequest) -> Iterator[None]:
    """The source of this test breaks the standard, and what is made of it does for that reason."""
    with request.config.stash[KEPT].paused():
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests."""
    with postgres.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ledger.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgresql(postgresql: Postgres) -> Iterator[str]:
    with postgresql.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """``database`` of the settings. The whole suite passes on both.

    A test for which it cannot matter asks for one:
    ``@pytest.mark.parametrize("database", ["sqlite"], indirect=True)``.
    """
    if request.param == "sqlite":
        return "sqlite"
    server: Postgres = request.getfixturevalue("postgresql")
    url: str = request.getfixturevalue("_migrated_postgresql")
    server.empty(url)
    return url


@pytest.fixture
def settings(database: str, _migrated_sqlite: Path, tmp_path: Path) -> Settings:
    """A node of its own: empty data folder, migrated ledger, free port, short quiet times."""
    data = tmp_path / "data"
    data.mkdir()
    if database == "sqlite":
        shutil.copyfile(_migrated_sqlite, data / "ledger.sqlite")
    return Settings(
        data=data,
        database=database,
        listen=Listen(host="127.0.0.1", port=free_port(), processes=1),
        spool=Spool(minimum_free_bytes=0),
        complete=Complete(series_s=0.2, study_s=0.4),
        work=Work(threads=1),
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger of ``settings``: empty, on SQLite and on PostgreSQL."""
    opened = open_ledger(settings)
    yield opened
    opened.close()


@pytest.fixture(params=["valkey", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker outside the node, started: Valkey, then Redis."""
    start = {"valkey": valkey.valkey, "redis": valkey.redis_server}[request.param]
    server = start(tmp_path / request.param)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """Chromium, empty at first; its tabs share a cache. Playwright runs once in a process."""
    from tests.peers.chromium import chromium

    with chromium() as context:
        yield context


@pytest.fixture(scope="session")
def _orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc_peer.orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def orthanc(_orthanc: Orthanc, settings: Settings) -> Orthanc:
    """Orthanc, empty, with the node of ``settings`` registered for commitment reports."""
    _orthanc.clear()
    _orthanc.register(settings.listen.ae_title, settings.listen.port)
    return _orthanc
