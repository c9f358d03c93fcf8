"""The control: the same kills on tasks that only Celery keeps. They must lose some.

A harness that finds no loss where there are losses would be blind. After each kill, while no worker
lives, every task must be waiting, in flight, or done; one that is nowhere is lost for ever.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.peers import REPOSITORY, valkey, wait_until
from tests.torture import naive_queue
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.valkey import Broker

WAITING = 1_000
"""Tasks in the queue when a worker starts: it does not come to their end."""
ENOUGH = 2
"""Losses; then it is shown."""


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Kill a Celery worker until tasks are lost, at most as often as the node is killed."""
    chances = random.Random(seed)
    most = size.choose(quick=20, submission=60, long=1000)
    enough = size.choose(quick=1, submission=ENOUGH, long=most)
    broker = valkey.valkey(folder / "broker")
    broker.start()
    published: set[int] = set()
    kills, lost = 0, 0
    try:
        while kills < most and lost < enough:
            _fill(broker, published)
            worker = _started(folder, broker)
            time.sleep(chances.uniform(0.05, 0.4))
            worker.kill()
            worker.wait()
            kills += 1
            lost = len(published - _somewhere(broker, folder / naive_queue.DONE))
    finally:
        broker.stop()
    return [
        Figure("kills of a plain Celery worker (acks_late)", kills, most),
        Figure(
            "tasks that it lost",
            lost,
            kills,
            at_least=1,
            note="the control: a harness that finds none here is blind; it ends once that is shown",
        ),
    ]


def _started(folder: Path, broker: Broker) -> subprocess.Popen[bytes]:
    """Return a worker that has done its first task."""
    options = ("--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=ERROR")
    done = folder / naive_queue.DONE
    before = done.stat().st_size if done.exists() else 0
    with (folder / "log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", naive_queue.__name__, "worker", *options],
            cwd=REPOSITORY,
            env={**os.environ, naive_queue.BROKER: broker.url, naive_queue.FOLDER: str(folder)},
            stdout=log,
            stderr=log,
        )
    wait_until(lambda: done.exists() and done.stat().st_size > before, what="The first task")
    return worker


def _fill(broker: Broker, published: set[int]) -> None:
    """Let the queue hold as many tasks as a worker does until it is killed, and more."""
    waiting = broker.client().llen(naive_queue.QUEUE)
    with naive_queue.app.connection_for_write(broker.url) as connection:
        for number in range(len(published), len(published) + WAITING - waiting):
            naive_queue.app.send_task(naive_queue.TASK, args=[number], connection=connection)
            published.add(number)


def _somewhere(broker: Broker, done: Path) -> set[int]:
    """Return every task that waits, is in flight, or is done."""
    client = broker.client()
    messages = client.lrange(naive_queue.QUEUE, 0, -1)
    in_flight = [json.loads(entry)[0] for entry in client.hvals("unacked")]
    return (
        {int(line) for line in done.read_text().split()}
        | {_number(json.loads(message)) for message in messages}
        | {_number(message) for message in in_flight}
    )


def _number(message: dict[str, Any]) -> int:
    """Return the argument of a task, as Celery prints it in the headers."""
    return int(message["headers"]["argsrepr"].strip("[(,)]"))
