"""Verbs that run: the whole node, or one role of it. Each imports only what its role needs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click

from node import confine, log, supervise, wake
from node.cli.options import config_option, ready_ledger
from node.store import lifetimes

if TYPE_CHECKING:
    from node.settings import Settings
    from node.store.ledger import Ledger

PART_OF_UP = supervise.SUPERVISED in os.environ
"""Whether 'up' has started this process, and tells the audit trail of both."""

number_option = click.option("--number", default=1, help="Which of several on this host.")


def begin(role: str, settings: Settings) -> None:
    """Make this process one of the node's: it logs, and keeps what it writes to itself."""
    confine.confine(settings.data)
    log.configure(role, settings.log_folder)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM, SIGINT, or the end of our supervisor sets."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    _end_with_supervisor()
    return stop


def _end_with_supervisor() -> None:
    """Send this process SIGTERM when the supervisor's end of standard input closes."""
    if supervise.SUPERVISED not in os.environ:
        return
    del os.environ[supervise.SUPERVISED]

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # unbuffered: no lock is held when we exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def told(ledger: Ledger, role: str) -> AbstractContextManager[None]:
    """Tell the audit trail that a role which runs by itself starts and stops."""
    return nullcontext() if PART_OF_UP else lifetimes.told(ledger, role)


def _check_routes(settings: Settings) -> None:
    """Refuse to start with a route that can run nothing: studies would wait for ever."""
    from node import route

    for one in settings.routes:
        for name in one.run:
            route.pipeline(name)


@click.command()
@config_option
def up(settings: Settings) -> None:
    """Start the whole node on this host: broker, listener, relay, workers, deliverer, audit."""
    _check_routes(settings)
    begin("up", settings)
    with supervise.alone(settings):
        supervise.up(settings, ready_ledger(settings), stop_event())


@click.command()
@config_option
@number_option
def listen(settings: Settings, number: int) -> None:
    """Run one C-STORE listener."""
    from node.dimse import listener
    from node.reindex import reindex

    begin(f"listen-{number}", settings)
    confine.open_many_files()
    ledger = ready_ledger(settings)
    stop = stop_event()
    reindex(settings, ledger, tells=number == 1)
    name = f"listener-{os.uname().nodename}-{number}"
    with told(ledger, f"radnode listen {number}"):
        listener.serve(settings, ledger, stop=stop, name=name)


@click.command()
@config_option
def relay(settings: Settings) -> None:
    """Complete, route and plan studies, and ring for their jobs."""
    from node import relay as stage

    begin("relay", settings)
    _check_routes(settings)
    ledger = ready_ledger(settings)
    with told(ledger, "radnode relay"):
        stage.run(settings, ledger, stop_event())


@click.command()
@config_option
@number_option
def work(settings: Settings, number: int) -> None:
    """Run one worker."""
    from node.worker import Worker

    begin(supervise.worker_name(number), settings)
    _check_routes(settings)
    ledger = ready_ledger(settings)
    _end_with_supervisor()
    with told(ledger, f"radnode work {number}"):
        Worker(settings, ledger, supervise.worker_name(number)).run()


@click.command()
@config_option
def deliver(settings: Settings) -> None:
    """Send results to their destinations, and ask for storage commitment."""
    from node import commit
    from node import deliver as stage

    begin("deliver", settings)
    ledger = ready_ledger(settings)
    stop = stop_event()
    with told(ledger, "radnode deliver"), ThreadPoolExecutor(1) as pool:
        alarm = wake.alarm(settings, wake.Stage.DELIVER, stop)
        committing = pool.submit(commit.run, settings, ledger, alarm, stop)
        committing.add_done_callback(lambda _: stop.set())  # neither goes on without the other
        try:
            stage.run(settings, ledger, alarm, stop)
        finally:
            stop.set()
    committing.result()


VERBS = (up, listen, relay, work, deliver)
