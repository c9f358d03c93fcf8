"""The bell: a Celery message on Redis that says "look into the ledger", and nothing else.

It carries a job id, which is not secret and not needed: a worker that hears a bell claims
whatever is most urgent. A lost, late or doubled bell does no harm.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import Celery, signals
from kombu.exceptions import OperationalError
from redis import RedisError

from node.embedded import socket_path
from node.errors import BrokerAway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node.settings import Settings

QUEUE = "radnode"
TASK = "radnode.ring"


def broker_url(settings: Settings) -> str:
    """Return Celery's address of the broker."""
    if settings.broker == "embedded":
        return f"redis+socket://{socket_path(settings)}"
    return settings.broker.replace("unix://", "redis+socket://", 1)


def make_app(settings: Settings) -> Celery:
    """Return the Celery application of this node."""
    app = Celery("radnode", broker=broker_url(settings), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_acks_late=False,  # losing a bell is harmless, the ledger rings again
        worker_prefetch_multiplier=1,  # none hoarded
        result_backend=None,
        task_ignore_result=True,  # the ledger holds results
        task_serializer="json",
        accept_content=["json"],  # never pickle from the network
        worker_enable_remote_control=False,  # nothing to attack, nothing to time out
        worker_send_task_events=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # default 100: then the worker gives up for good
        broker_connection_timeout=4,
        broker_pool_acquire_timeout=5,  # default: waits for ever
        broker_transport_options={
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "max_retries": 0,  # who rings has other work, and comes back by itself
            "health_check_interval": 10,  # default: a dead link hangs for ever
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,  # default 10: sweeps only every 100 s
            "global_keyprefix": "radnode:",
        },
    )
    return app


def ring(app: Celery, job_id: str) -> None:
    """Hand one bell to the broker.

    Raises:
        BrokerAway: It does not answer.
    """
    with _broker_answers():
        app.send_task(TASK, args=[job_id], retry=False)


def unheard(app: Celery) -> int:
    """Return how many bells the broker holds that no worker has taken.

    Raises:
        BrokerAway: It does not answer.
    """
    with _broker_answers(), app.pool.acquire(block=True) as connection:
        count: int = connection.default_channel.queue_declare(queue=QUEUE).message_count
        return count


@contextmanager
def _broker_answers() -> Iterator[None]:
    try:
        yield
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerAway(
            "The broker does not answer.",
            do="Workers go on by asking the ledger; start the broker again, or see 'broker' "
            "in radnode.toml.",
        ) from error


def on_ring(app: Celery, wake: Callable[[], None]) -> None:
    """Call ``wake`` for every bell that this process hears."""

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def ring_received(_job_id: str) -> None:
        wake()


def listen(app: Celery, name: str) -> None:
    """Hear bells until SIGTERM. Blocks, and survives any absence of the broker."""
    signals.setup_logging.connect(_leave_logging_alone)
    # solo: the loop only sets an event, so that it is never busy and needs no pool.
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=solo",
            "--concurrency=1",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=WARNING",
            f"--queues={QUEUE}",
            f"--hostname={name}",
        ]
    )


def _leave_logging_alone(**_: object) -> None:
    """Listen to ``setup_logging``: then Celery keeps its hands off the root logger."""
