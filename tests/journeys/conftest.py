"""One department for every journey, in the two set-ups that differ most."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.journeys.department import department as run_department
from tests.peers import bright_spot
from tests.peers.pacs import Script
from tests.peers.valkey import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.department import Department, Study


@pytest.fixture(scope="package", params=["sqlite-embedded", "postgresql-redis"])
def _department(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Department]:
    folder = tmp_path_factory.mktemp("department")
    with ExitStack() as stack:
        database, broker = "sqlite", None
        if request.param == "postgresql-redis":
            database = stack.enter_context(request.getfixturevalue("postgresql").database())
            server = redis_server(folder / "redis")

            def broker() -> tuple[str, Path]:
                server.start()
                stack.callback(server.stop)
                return server.url, folder / "redis"

        yield stack.enter_context(run_department(folder, database=database, broker=broker))


@pytest.fixture
def department(_department: Department) -> Iterator[Department]:
    """The department; whatever its PACS was told is forgotten afterwards."""
    yield _department
    _department.pacs.script = Script()


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """What the UIDs of this test's studies derive from."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


@pytest.fixture
def study(root: str) -> Study:
    """A CT with a bright spot that nobody has seen."""
    return bright_spot.ct_series(root)
