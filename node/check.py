"""Check: everything that would keep the node from working, found before a study is lost to it."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from node import embedded, mode, route
from node.audit import syslog
from node.bell import broker_url
from node.dimse import sender
from node.domain import Mode
from node.errors import NodeError
from node.settings import DimseDestination, FolderDestination
from node.store import deliveries, modes
from node.store.ledger import open_ledger
from node.tls import server_context
from pipelines import models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.tls import ListenTls


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what it is, and what to do if not."""

    ok: bool
    what: str
    do: str = ""


def check(settings: Settings) -> tuple[Finding, ...]:
    """Look at everything the configuration names."""
    return (
        *_disk(settings),
        *_database(settings),
        *_broker(settings),
        *_listener(settings),
        *_destinations(settings),
        *_syslog(settings),
        *_routes(settings),
        *_models(),
    )


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        yield Finding(False, f"{folder} is not writable.", "Give it to the user radnode runs as.")
        return
    free = shutil.disk_usage(folder).free
    needed = settings.spool.minimum_free_bytes
    yield Finding(
        free > needed,
        f"{free / 1e9:.1f} GB free under {settings.data}; instances are refused below "
        f"{needed / 1e9:.1f} GB.",
        "" if free > needed else "Free some space, or lower spool.minimum_free_bytes.",
    )


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database == "sqlite" and not (settings.data / "ledger.sqlite").exists():
        yield Finding(True, "The SQLite ledger is made when the node first starts.")
        return
    name = settings.database.partition(":")[0]
    try:
        ledger = open_ledger(settings)
        with ledger.read() as db:
            db.execute(text("SELECT 1"))
        ledger.close()
    except SQLAlchemyError:
        yield Finding(False, f"The {name} database does not answer.", "Check 'database'.")
    else:
        yield Finding(True, f"The {name} database answers.")


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.broker == "embedded":
        running = embedded.is_alive(settings)
        yield Finding(
            True, "The embedded broker " + ("answers." if running else "starts with 'radnode up'.")
        )
        return
    address = broker_url(settings).replace("redis+socket://", "unix://", 1)
    try:
        with redis.Redis.from_url(address, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except redis.RedisError:
        yield Finding(False, "The broker does not answer.", "Check 'broker', and that it runs.")
    else:
        yield Finding(True, "The broker answers.")


def _listener(settings: Settings) -> Iterator[Finding]:
    listen = settings.listen
    for port in listen.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen.host, port))
            except OSError as error:
                yield _who_listens(settings, port, error.strerror or "")
            else:
                yield Finding(True, f"Port {port} is free for {listen.ae_title}.")
    if listen.tls is not None:
        yield _certificate(listen.tls)
    if not listen.accept_from:
        yield Finding(
            True,
            "Any AE title from any address may send.",
            "List your scanners in listen.accept_from.",
        )


def _certificate(tls: ListenTls) -> Finding:
    try:
        server_context(tls)
    except NodeError as error:
        return Finding(False, error.what, error.do)
    return Finding(True, f"The certificate for port {tls.port} can be used.")


def _who_listens(settings: Settings, port: int, error: str) -> Finding:
    """Tell a running node of ours from another program on its port."""
    listen = settings.listen
    if port != listen.port or listen.users:
        return Finding(True, f"Port {port} is in use; if this node runs, by itself.")
    if listen.accept_from and listen.ae_title not in listen.accept_from:
        return Finding(
            True,
            f"Port {port} is in use; if this node runs, by itself.",
            f"To have that checked, list {listen.ae_title} in listen.accept_from.",
        )
    itself = DimseDestination(
        kind="dimse",
        ae_title=listen.ae_title,
        host="127.0.0.1" if listen.host == "0.0.0.0" else listen.host,  # noqa: S104 - compared
        port=port,
        timeout_s=5.0,
    )
    try:
        sender.echo(settings, itself)
    except NodeError:
        return Finding(
            False,
            f"Port {port} cannot be used: {error}.",
            "Stop the program that has it, or change listen.port. Ports below 1024 need a "
            "privilege.",
        )
    return Finding(True, f"{listen.ae_title} answers on port {port}.")


def _destinations(settings: Settings) -> Iterator[Finding]:
    for name, destination in settings.destinations.items():
        if isinstance(destination, FolderDestination):
            there = destination.path.is_dir() and os.access(destination.path, os.W_OK)
            yield Finding(
                there,
                f"'{name}' is the folder {destination.path}.",
                "" if there else "Make it, and give it to the user radnode runs as.",
            )
            continue
        try:
            milliseconds = sender.echo(settings, destination)
        except NodeError as error:
            yield Finding(False, error.what, error.do)
        else:
            yield Finding(True, f"'{name}' answered a C-ECHO in {milliseconds:.0f} ms.")
    for name, objects in _unknown_destinations(settings).items():
        yield Finding(
            False,
            f"{objects} objects wait for '{name}', which is not under [destinations].",
            "Put it back and 'radnode retry' their jobs, or 'radnode cancel' them.",
        )


def _syslog(settings: Settings) -> Iterator[Finding]:
    server = settings.audit.syslog
    if server is None:
        return
    try:
        connection = syslog.Connection(server)
        connection.send(0, ())
        connection.close()
    except NodeError as error:
        yield Finding(False, error.what, error.do)
    else:
        yield Finding(True, f"The syslog server {server.host} answers, for audit messages.")


def _unknown_destinations(settings: Settings) -> dict[str, int]:
    if settings.database == "sqlite" and not (settings.data / "ledger.sqlite").exists():
        return {}
    try:
        with open_ledger(settings) as ledger, ledger.read() as db:
            return deliveries.unknown_destinations(db, settings.destinations)
    except SQLAlchemyError:  # told already, or still without a schema
        return {}


def _decided(settings: Settings) -> dict[str, Mode]:
    if settings.database == "sqlite" and not (settings.data / "ledger.sqlite").exists():
        return {}
    try:
        with open_ledger(settings) as ledger, ledger.read() as db:
            return modes.decided(db)
    except SQLAlchemyError:  # told already, or still without a schema
        return {}


def _routes(settings: Settings) -> Iterator[Finding]:
    decided = _decided(settings)
    if not settings.routes:
        yield Finding(False, "There are no routes.", "Add [[routes]]: see 'radnode pipelines'.")
    for number, one in enumerate(settings.routes, start=1):
        if not one.send_to:
            name = route.name_of(one, number)
            yield Finding(
                False,
                f"Route '{name}' leads nowhere: its results are made and then not sent.",
                "Name destinations in send_to.",
            )
    for name in sorted({name for one in settings.routes for name in one.run}):
        try:
            route.pipeline(name).warm_up()
        except (NodeError, OSError, ValueError, RuntimeError, ImportError) as error:
            yield Finding(
                False,
                f"Pipeline '{name}' cannot be loaded: {error}",
                "Install radnode with its models again: pipx install 'radnode[models]'.",
            )
        else:
            yield Finding(True, f"Pipeline '{name}' is ready, its weights have the right digest.")
        goes = mode.mode_of(name, decided)
        if goes is not Mode.ENABLED:
            yield Finding(True, mode.in_words(name, goes))


def _models() -> Iterator[Finding]:
    try:
        for model in models.added():
            model.verify()
            yield Finding(True, f"The model {model.name} is as it was added.")
    except models.ModelChanged as error:
        what, _, do = str(error).partition(". ")
        yield Finding(False, f"{what}.", do)
