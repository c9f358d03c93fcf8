"""The ledger's connections: none waits for ever, and there is one for every association."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from node.settings import Listen
from node.store import workers
from node.store.ledger import Ledger, open_ledger
from node.store.tables import worker
from tests.node.ledger_rows import rows

if TYPE_CHECKING:
    from node.settings import Settings

on_a_server = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.mark.timeout(60)
def test_a_server_that_accepts_and_says_nothing_is_away() -> None:
    """A host whose network broke half-way, or that is out of memory."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing"
        with (
            Ledger.open(url) as ledger,
            pytest.raises(OperationalError),
            ledger.read() as db,
        ):
            db.execute(text("SELECT 1"))


@on_a_server
def test_a_server_that_vanishes_is_noticed_by_the_kernel(ledger: Ledger) -> None:
    """Without FIN or RST: nothing but these ends the wait for its answer."""
    with ledger.read() as db:
        connection = db.connection.dbapi_connection
        assert connection is not None
        stated = connection.info.get_parameters()
        assert {
            "tcp_user_timeout": "30000",
            "keepalives_idle": "15",
            "keepalives_interval": "5",
            "keepalives_count": "3",
        }.items() <= stated.items()
        assert db.execute(text("SHOW lock_timeout")).scalar_one() == "30s"


@on_a_server
def test_a_lock_that_is_never_released_is_an_error(settings: Settings) -> None:
    soon = f"{settings.database_url}?options=-c%20lock_timeout%3D200ms"
    with Ledger.open(soon) as ledger, ledger.write() as first:
        workers.touch_worker(first, "worker", None)
        with pytest.raises(OperationalError), ledger.write() as second:
            workers.touch_worker(second, "worker", None)


@on_a_server
def test_what_the_address_says_of_the_connection_stands(settings: Settings) -> None:
    with (
        Ledger.open(f"{settings.database_url}?connect_timeout=2&keepalives_idle=7") as ledger,
        ledger.read() as db,
    ):
        connection = db.connection.dbapi_connection
        assert connection is not None
        stated = connection.info.get_parameters()
        assert (stated["connect_timeout"], stated["keepalives_idle"]) == ("2", "7")


@pytest.mark.timeout(25)
def test_every_association_has_a_connection_and_so_have_the_other_threads(
    settings: Settings,
) -> None:
    """More threads than that would wait for each other, and fail with no error of a database."""
    listen = Listen(maximum_associations=20)
    threads = listen.maximum_associations + 5
    together = Barrier(threads)
    with open_ledger(settings.model_copy(update={"listen": listen})) as ledger:

        def hold(number: int) -> None:
            with ledger.read() as db:
                db.execute(text("SELECT 1"))
                together.wait(20)
            with ledger.write() as db:
                workers.touch_worker(db, f"worker-{number}", None)

        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(hold, number) for number in range(threads)]:
                done.result()
        assert len(rows(ledger, worker)) == threads
