"""Wake: tell a stage that waits, in whatever process, that the ledger has something for it.

Without a word of what: the stage looks by itself, as it also does every ``POLL_S``. So a word
that is lost, doubled or comes late does no harm, and a broker that is away only makes work slower.
"""

from __future__ import annotations

import enum
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from node.embedded import socket_path

if TYPE_CHECKING:
    from node.settings import Settings

POLL_S = 5.0
"""A stage that nobody wakes looks into the ledger this often."""

AWAY_S = 5.0
"""How long to leave an absent broker alone."""

ANSWER_S = 1.0
"""How long whoever wakes another waits for the broker: it has work of its own."""


class Stage(enum.StrEnum):
    """Who can be woken."""

    RELAY = "relay"
    DELIVER = "deliver"


class Alarm:
    """Wakes every thread of this process that waits for it."""

    def __init__(self) -> None:
        self._rung = 0
        self._changed = threading.Condition()

    @property
    def rung(self) -> int:
        """How often it has rung. To be read before the look after which a thread waits."""
        return self._rung

    def ring(self) -> None:
        """Wake all."""
        with self._changed:
            self._rung += 1
            self._changed.notify_all()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait until it has rung more often than ``heard``, but no longer than ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._rung != heard, timeout_s)


class Waker:
    """Wakes stages in other processes, on this host and others."""

    def __init__(self, settings: Settings) -> None:
        self._client = _client(settings, answer_s=ANSWER_S)
        self._back_at = 0.0

    def wake(self, stage: Stage) -> None:
        """Wake ``stage`` wherever it waits, if the broker answers."""
        if time.monotonic() < self._back_at:
            return
        try:
            self._client.publish(_channel(stage), b"")
        except redis.RedisError:
            self._back_at = time.monotonic() + AWAY_S


def alarm(settings: Settings, stage: Stage, stop: threading.Event) -> Alarm:
    """Return what rings when someone wakes ``stage``, and once more when ``stop`` is set."""
    made = Alarm()

    def end() -> None:
        stop.wait()
        made.ring()

    for task in (end, partial(_hear, settings, stage, made, stop)):
        threading.Thread(target=task, name=f"wake-{stage}", daemon=True).start()
    return made


def _hear(settings: Settings, stage: Stage, made: Alarm, stop: threading.Event) -> None:
    """Ring for every word, and whenever words may have been missed; until ``stop``."""
    client = _client(settings, answer_s=None)
    while not stop.is_set():
        try:
            with client.pubsub() as words:  # type: ignore[no-untyped-call]
                words.subscribe(_channel(stage))
                while not stop.is_set():
                    # The first message says that we are subscribed.
                    if words.get_message(timeout=POLL_S) is not None:
                        made.ring()
        except redis.RedisError:
            stop.wait(AWAY_S)


def _channel(stage: Stage) -> str:
    return f"radnode:wake:{stage}"


def _client(settings: Settings, *, answer_s: float | None) -> redis.Redis:
    options: dict[str, Any] = {
        "socket_timeout": answer_s,
        "socket_connect_timeout": ANSWER_S,
        "health_check_interval": 30,  # who only hears learns so that the other end is gone
        "retry": Retry(NoBackoff(), 0),  # default: for four seconds
    }
    if settings.broker == "embedded":
        return redis.Redis(unix_socket_path=str(socket_path(settings)), **options)
    outside: redis.Redis = redis.Redis.from_url(settings.broker, **options)
    return outside
