"""The bell: a message on a real broker that wakes a real process, and says almost nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from node import bell
from node.errors import BrokerAway
from tests.peers import REPOSITORY, wait_until
from tests.peers.radnode import write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

    from node.settings import Settings
    from tests.peers.valkey import Broker

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

LISTENER = """
import sys
from pathlib import Path
from node import bell
from node.configuration import load_settings

app = bell.make_app(load_settings(Path(sys.argv[1])))
bell.on_ring(app, lambda: print("heard", flush=True))
bell.listen(app, "ear")
"""
KEY = "radnode:radnode"


@pytest.fixture
def outside(settings: Settings, broker: Broker) -> Settings:
    """The settings with a broker outside the node."""
    return settings.model_copy(update={"broker": broker.url})


@pytest.fixture
def app(outside: Settings) -> Celery:
    return bell.make_app(outside)


class Ear:
    def __init__(self, log: Path) -> None:
        self._log = log

    def heard(self, times: int) -> None:
        wait_until(lambda: self.count() >= times, what=f"Hearing {times} bells")

    def count(self) -> int:
        return self._log.read_text().count("heard")


@contextmanager
def listening(settings: Settings, folder: Path) -> Iterator[Ear]:
    config = write_config(settings, folder / "radnode.toml")
    log = folder / "ear.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", LISTENER, config], cwd=REPOSITORY, stdout=output, stderr=output
        )
    try:
        yield Ear(log)
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()


def held(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in broker.client().lrange(KEY, 0, -1)]


def test_a_bell_says_the_job_and_nothing_else(broker: Broker, app: Celery) -> None:
    bell.ring(app, "0123abcd")
    (message,) = held(broker)
    arguments, options, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, options) == (["0123abcd"], {})
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == bell.TASK
    assert bell.unheard(app) == 1


def test_bells_are_heard_also_after_the_broker_lost_everything_and_after_it_was_away(
    broker: Broker, outside: Settings, app: Celery, tmp_path: Path
) -> None:
    with listening(outside, tmp_path) as ear:
        bell.ring(app, "one")
        ear.heard(1)
        broker.client().flushall()
        bell.ring(app, "two")
        ear.heard(2)
        broker.kill(with_disk=True)
        with pytest.raises(BrokerAway):
            bell.ring(app, "nobody hears this")
        broker.start()
        bell.ring(app, "three")
        ear.heard(3)
        wait_until(lambda: bell.unheard(app) == 0, what="An empty queue")


POISON = {
    "a pickle": {"content-type": "application/x-python-serialize"},
    "another content type": {"content-type": "text/html"},
    "an unknown task": {"headers": {"task": "os.system", "id": "1", "lang": "py"}},
    "no headers": {"headers": {}},
    "no properties": {"properties": {}},
    "no arguments": {"body": base64.b64encode(b"[[], {}, {}]").decode()},
}


@pytest.mark.parametrize("broker", ["valkey"], indirect=True)
def test_a_message_that_is_no_bell_keeps_no_bell_from_being_heard(
    app: Celery, outside: Settings, broker: Broker, tmp_path: Path
) -> None:
    """C15: whoever reaches the broker may write into the queue."""
    bell.ring(app, "some job")
    (raw,) = broker.client().lrange(KEY, 0, -1)
    with listening(outside, tmp_path) as ear:
        ear.heard(1)
        for changes in POISON.values():
            broker.client().lpush(KEY, json.dumps(json.loads(raw) | changes))
        bell.ring(app, "the next job")
        ear.heard(2)


def test_an_absent_broker_is_told_without_its_password(broker: Broker, outside: Settings) -> None:
    url = outside.broker.replace("redis://", "redis://:hunter2@")
    broker.stop()
    away = bell.make_app(outside.model_copy(update={"broker": url}))
    for ask in (lambda: bell.ring(away, "job"), lambda: bell.unheard(away)):
        with pytest.raises(BrokerAway) as raised:
            ask()
        assert "hunter2" not in str(raised.value)


def test_a_broker_that_is_full_counts_as_away(broker: Broker, app: Celery) -> None:
    client = broker.client()
    client.config_set("maxmemory", "1")
    with pytest.raises(BrokerAway):
        bell.ring(app, "job")
    client.config_set("maxmemory", "0")
    bell.ring(app, "job")
    assert bell.unheard(app) == 1


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("redis://h:6380/1", "redis://h:6380/1"),
        ("rediss://:p@h/0", "rediss://:p@h/0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_a_broker_is_addressed_as_celery_wants_it(
    settings: Settings, address: str, url: str
) -> None:
    assert bell.broker_url(settings.model_copy(update={"broker": address})) == url
