"""Wake: a word on a real broker rings in whoever waits for it, and its loss stops nobody."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from node import wake
from node.wake import Stage, Waker
from tests.peers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from tests.peers.valkey import Broker

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def outside(settings: Settings, broker: Broker) -> Settings:
    """The settings with a broker outside the node."""
    return settings.model_copy(update={"broker": broker.url})


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hearing(settings: Settings, stop: threading.Event) -> wake.Alarm:
    """Return the deliverer's alarm, once it hears."""
    alarm = wake.alarm(settings, Stage.DELIVER, stop)
    wait_until(lambda: alarm.rung > 0, what="Hearing")
    return alarm


def test_only_the_stage_that_is_meant_is_woken(outside: Settings, stop: threading.Event) -> None:
    alarm = hearing(outside, stop)
    waker = Waker(outside)
    for stage in (Stage.RELAY, Stage.DELIVER, Stage.RELAY, Stage.DELIVER):
        waker.wake(stage)
    wait_until(lambda: alarm.rung >= 3)
    assert alarm.rung == 3


@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_a_broker_that_was_away_is_no_error_and_words_that_were_missed_ring(
    outside: Settings, broker: Broker, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "AWAY_S", 0.1)
    alarm = hearing(outside, stop)
    broker.stop()
    heard = alarm.rung
    waker = Waker(outside)
    waker.wake(Stage.DELIVER)
    assert alarm.rung == heard
    broker.start()
    alarm.wait(heard, 30.0)
    assert alarm.rung == heard + 1

    def heard_again() -> bool:
        waker.wake(Stage.DELIVER)
        return alarm.rung > heard + 1

    wait_until(heard_again, what="A word")


@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_the_end_wakes_whoever_waits(outside: Settings, stop: threading.Event) -> None:
    alarm = hearing(outside, stop)
    heard = alarm.rung
    stop.set()
    alarm.wait(heard, 30.0)
    assert alarm.rung == heard + 1
