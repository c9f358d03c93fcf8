"""Relay: every job rings at least once, whatever happens to the broker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from node import bell, complete, relay, wake
from node.errors import BrokerAway
from node.store import bells
from node.store.tables import outbox, series, study
from tests.node.ledger_rows import (
    arrived,
    claimed,
    events,
    let_leases_expire,
    let_waiting_end,
    plan,
    planned,
    receive,
    rows,
)
from tests.peers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.valkey import Broker

pytestmark = pytest.mark.parametrize("broker", ["valkey"], indirect=True)


@pytest.fixture
def app(settings: Settings, broker: Broker) -> Celery:
    return bell.make_app(settings.model_copy(update={"broker": broker.url}))


def unrung(ledger: Ledger) -> int:
    with ledger.read() as db:
        return len(bells.unrung(db))


def test_every_planned_job_rings_once(app: Celery, ledger: Ledger) -> None:
    plan(ledger, planned("one"), planned("two"))
    assert relay.run_once(app, ledger) == 2
    assert relay.run_once(app, ledger) == 0
    assert bell.unheard(app) == 2
    assert all(row.sent_at is not None for row in rows(ledger, outbox))


def test_the_outbox_keeps_what_an_absent_broker_did_not_get(
    app: Celery, ledger: Ledger, broker: Broker
) -> None:
    plan(ledger, planned("one"), planned("two"))
    broker.stop()
    with pytest.raises(BrokerAway):
        relay.run_once(app, ledger)
    assert unrung(ledger) == 2
    broker.start()
    assert relay.run_once(app, ledger) == 2
    assert bell.unheard(app) == 2


def test_a_job_whose_bell_was_lost_with_the_broker_rings_again(
    app: Celery, ledger: Ledger, broker: Broker
) -> None:
    plan(ledger, planned())
    relay.run_once(app, ledger)
    broker.client().flushall()
    assert relay.ring_forgotten(app, ledger) == 0  # it waits no longer than a busy worker takes
    let_waiting_end(ledger)
    assert relay.ring_forgotten(app, ledger) == 1
    assert bell.unheard(app) == 1


def test_a_job_of_a_dead_worker_rings_again(app: Celery, ledger: Ledger) -> None:
    plan(ledger, planned())
    claimed(ledger)
    assert relay.ring_forgotten(app, ledger) == 0
    let_leases_expire(ledger)
    assert relay.ring_forgotten(app, ledger) == 1


def test_bells_that_nobody_hears_do_not_pile_up(app: Celery, ledger: Ledger) -> None:
    """No worker for a weekend: the broker must not fill up meanwhile."""
    plan(ledger, planned("one"), planned("two"))
    relay.run_once(app, ledger)
    let_waiting_end(ledger)
    for _ in range(5):
        relay.ring_forgotten(app, ledger)
    assert bell.unheard(app) == 2


def test_it_is_woken(
    settings: Settings, ledger: Ledger, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complete, "shortest_s", lambda _: 3600.0)
    monkeypatch.setattr(wake, "POLL_S", 3600.0)
    outside = settings.model_copy(update={"broker": broker.url})
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(outside, ledger, stop))
    thread.start()
    try:
        for name in ("one", "two"):  # the first it may have seen when it began
            plan(ledger, planned(name))
            _woken_until(outside, lambda: unrung(ledger) == 0)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def _woken_until(settings: Settings, condition: Callable[[], bool]) -> None:
    """Wake it until then: it may not hear yet."""
    waker = wake.Waker(settings)

    def woken() -> bool:
        waker.wake(wake.Stage.RELAY)
        return condition()

    wait_until(woken, what="Waking")


def test_it_goes_on_without_a_broker_and_rings_when_there_is_one(
    settings: Settings, ledger: Ledger, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "AWAY_S", 0.1)
    broker.stop()
    outside = settings.model_copy(update={"broker": broker.url})
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(outside, ledger, stop))
    thread.start()
    try:
        receive(ledger, arrived())
        plan(ledger, planned())
        wait_until(lambda: events(ledger, "study_complete"), what="Completion without a broker")
        wait_until(lambda: events(ledger, "not_planned"), what="Routing without a broker")
        assert unrung(ledger) == 1
        broker.start()
        wait_until(lambda: unrung(ledger) == 0, what="Ringing")
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert {row.state for table in (series, study) for row in rows(ledger, table)} == {"complete"}
