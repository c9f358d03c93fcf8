"""What ``naive_control`` tortures: tasks that are the work itself, kept by Celery alone.

As well as it can: late acknowledgement, redelivery when the worker is lost, one task at
a time. No ledger.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

QUEUE = "naive"
TASK = "naive.do"
DONE = "done"
FOLDER, BROKER = "NAIVE_FOLDER", "NAIVE_BROKER"
"""Environment variables: where the work shows, and the broker's address."""

app = Celery("naive", broker=os.environ.get(BROKER), set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_backend=None,
    task_serializer="json",
    accept_content=["json"],
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 4,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(name=TASK)
def do(number: int) -> None:
    """Leave a line: one write, so that it is whole or not there."""
    done = os.open(Path(os.environ[FOLDER]) / DONE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(done, f"{number}\n".encode())
    os.close(done)
