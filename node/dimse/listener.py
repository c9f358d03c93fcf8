"""The listener: C-ECHO, C-STORE, and storage commitment reports, from any number of peers."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from node.dimse import gate
from node.dimse.admission import callers, on_requested
from node.dimse.commitment import INVALID_ARGUMENT_VALUE, on_n_event_report
from node.dimse.contexts import listener_contexts
from node.dimse.hardening import ASSOCIATE_S, Door, Server
from node.dimse.identity import Users
from node.dimse.pledges import Pledges
from node.dimse.receive import Receiver, cause_of
from node.errors import ConfigError
from node.log import get_logger
from node.spool import Spool
from node.store import studies
from node.tls import server_context
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.wake import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.dimse.acceptor import AcceptedAssociation
    from node.dimse.admission import Callers
    from node.settings import Listen, Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

HEARTBEAT_S = 15.0
"""A quarter of ``studies.ASSOCIATION_SILENCE_S``."""

POLL_S = 5.0
"""How often the accepting thread looks whether it shall end, where nothing wakes it."""

_config.LOG_HANDLER_LEVEL = "none"  # or it prints every message, UIDs and all, at DEBUG


class Presence:
    """Says in the ledger which associations of this process are open.

    What cannot be written now is written with the next heartbeat: an association that seemed
    open for ever would keep its series from ever being complete.
    """

    def __init__(self, ledger: Ledger, listener: str) -> None:
        self._ledger = ledger
        self._listener = listener
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def on_established(self, event: evt.Event) -> None:
        """Note an association before anything comes on it (EVT_ESTABLISHED)."""
        association: Any = event.assoc
        try:
            with self._ledger.write() as db:
                studies.open_association(
                    db,
                    association.association_id,
                    listener=self._listener,
                    calling_ae=association.calling_ae,
                )
        except SQLAlchemyError as error:  # then no instance of it is acknowledged either
            log.error("ledger_failed", error=cause_of(error))

    def on_ended(self, association: AcceptedAssociation) -> None:
        """Note that an association is over."""
        with self._lock:
            self._ended.add(association.association_id)
        self.write()

    def write(self, *, alive: bool = False) -> None:
        """Write what has ended; with ``alive``, also that the others have not."""
        with self._lock:
            ended = set(self._ended)
        try:
            with self._ledger.write() as db:
                for association_id in ended:
                    studies.close_association(db, association_id)
                if alive:
                    studies.touch_associations(db, self._listener)
        except SQLAlchemyError as error:
            log.error("ledger_failed", error=cause_of(error))
            return
        with self._lock:
            self._ended -= ended

    def forget(self) -> None:
        """Close all associations of this name; none is open before the start and after the end."""
        with self._ledger.write() as db:
            studies.close_associations_of(db, self._listener)


def serve(
    settings: Settings,
    ledger: Ledger,
    *,
    stop: threading.Event,
    ready: Callable[[int], None] | None = None,
    name: str | None = None,
) -> None:
    """Listen until ``stop``; associations still open then are aborted.

    Args:
        settings: Of the node.
        ledger: Migrated.
        stop: Ends the listener.
        ready: Called with the first port once connections are accepted; port 0 takes a free one.
        name: Of this process among all listeners on this ledger; the same after a restart.

    Raises:
        ConfigError: The address cannot be listened on.
        SQLAlchemyError: The ledger does not answer at the start or at the end. In between it may.
    """
    listen = settings.listen
    presence = Presence(ledger, name or f"listener-{os.uname().nodename}-{os.getpid()}")
    receiver = Receiver(Spool(settings.spool_folder), ledger, settings.spool.minimum_free_bytes)
    if not listen.accept_from:
        log.warning("anyone_may_send", do="List your scanners under listen.accept_from.")
    pledges = Pledges(receiver.spool, ledger, Waker(settings), settings.peers)
    servers = _servers(listen, callers(settings), receiver, presence, pledges)
    try:
        presence.forget()  # whoever cannot bind has a living namesake; nothing is accepted yet
    except SQLAlchemyError:
        for server in servers:
            server.server_close()
        raise
    threads = [
        threading.Thread(target=server.serve_forever, args=[POLL_S], name="listener")
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        ports = [int(server.server_address[1]) for server in servers]
        log.info("listening", ports=ports, ae_title=listen.ae_title)
        if ready is not None:
            ready(ports[0])
        while not stop.wait(HEARTBEAT_S):
            presence.write(alive=True)
    finally:
        for server in servers:
            server.end()
        for thread in threads:
            thread.join()
        presence.forget()
        log.info("listener_stopped")


def on_report(event: evt.Event, ledger: Ledger) -> tuple[int, None]:
    """Take a commitment report that is safe to decode (EVT_N_EVENT_REPORT)."""
    # pynetdicom takes it in the context of any class; this one's are not deflated.
    report = event.request.EventInformation  # type: ignore[union-attr]
    if (
        report is not None
        and event.context.abstract_syntax == StorageCommitmentPushModel
        and gate.may_decode(report.getvalue(), str(event.context.transfer_syntax))
    ):
        return on_n_event_report(event, ledger)
    log.warning("report_refused", calling_ae=event.assoc.requestor.ae_title)
    return INVALID_ARGUMENT_VALUE, None


def _servers(
    listen: Listen, known: Callers, receiver: Receiver, presence: Presence, pledges: Pledges
) -> list[Server]:
    """Bind the port, and the one for TLS.

    Raises:
        ConfigError: One is taken, or the certificate cannot be used.
    """
    entity = AE(listen.ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = listen.maximum_pdu_bytes
    entity.maximum_associations = listen.maximum_associations
    entity.acse_timeout = ASSOCIATE_S
    entity.network_timeout = listen.network_timeout_s
    entity.require_called_aet = True

    contexts = listener_contexts(accept_deflated=listen.accept_deflated)
    handlers = [
        (evt.EVT_REQUESTED, on_requested, [listen, known, Users(listen.users), receiver]),
        (evt.EVT_ESTABLISHED, presence.on_established),
        (evt.EVT_N_EVENT_REPORT, on_report, [receiver.ledger]),
        (evt.EVT_N_ACTION, pledges.on_n_action),
    ]
    servers: list[Server] = []
    for door in _doors(listen, known):
        try:
            servers.append(
                Server(entity, door, contexts, handlers, receiver=receiver, ended=presence.on_ended)
            )
        except OSError as error:
            for server in servers:
                server.server_close()
            host, port = door.address
            raise ConfigError(
                f"Nothing can listen on {host}:{port}: {error.strerror}.",
                do="Change host or port under [listen] in radnode.toml, or stop what uses the "
                "port.",
            ) from error
    return servers


def _doors(listen: Listen, known: Callers) -> tuple[Door, ...]:
    door = Door(
        (listen.host, listen.port),
        tuple(chain.from_iterable(known.values())),
        share_port=listen.process_count > 1,
        most=listen.maximum_connections,
        most_per_address=listen.maximum_connections_per_address,
    )
    if listen.tls is None:
        return (door,)
    secure = replace(
        door, address=(listen.host, listen.tls.port), encryption=server_context(listen.tls)
    )
    return (secure,) if listen.tls.only else (door, secure)
