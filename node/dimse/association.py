"""One association that the node opens: what was negotiated, one request at a time, no hanging.

pynetdicom's ``send_c_store`` gives up a fixed time after the request was *queued*, however
well the bytes still flow, and spins for ever when the association ends at the wrong moment.
``exchange`` waits as long as there is progress and never longer than the time-out without.
``connected`` does without pynetdicom's threads, for what is large and many: C-STORE.
"""

from __future__ import annotations

import queue
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, _config, evt

from node.dimse.connection import RELEASE_S, Connection, ended, nonsense, stalled
from node.dimse.encrypted import encryption_of, read_ahead
from node.errors import (
    AssociationRejected,
    ClassRefused,
    PeerRefused,
    PeerUnreachable,
)
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import (
        C_ECHO,
        C_FIND,
        C_GET,
        N_ACTION,
        N_EVENT_REPORT,
    )
    from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
    from pynetdicom.presentation import PresentationContext

    from node.settings import DimseDestination, Settings

_config.LOG_HANDLER_LEVEL = "none"  # or it prints every message, UIDs and all, at DEBUG

REJECTED_PERMANENTLY = 0x01
"""Result of A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

PAUSE_S = 1.0
"""A reactor thread that has not paused by then is blocked, ended, or the flag was lost."""

TICK_S = 1.0

ESTABLISHED = "Sta6"
"""State of an association that is ready for data transfer (PS3.8 section 9.2.2)."""


@contextmanager
def associate(  # noqa: PLR0913 - who is called, what is proposed, and how long to wait
    settings: Settings,
    destination: DimseDestination,
    contexts: Sequence[PresentationContext],
    handlers: Sequence[Any] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    *,
    timeout_s: float | None = None,
    tick: Callable[[], None] | None = None,
) -> Iterator[Association]:
    """Open an association with ``destination``; released at the end, aborted on an error.

    Args:
        settings: Of this node.
        destination: Who is called.
        contexts: What is proposed.
        handlers: Of pynetdicom's events.
        roles: Of SOP classes for which this node shall be the SCP (PS3.7 annex D.3.3.4).
        timeout_s: How long to wait for a connection, and for its answer; None: as long as the
            destination is waited for.
        tick: Called about once a second until the peer has answered; may raise.

    Raises:
        PeerUnreachable: No connection, no answer in time, aborted, or no agreement on TLS.
        AssociationRejected: Rejected permanently.
        ClassRefused: None of ``contexts`` was accepted.
    """
    calling = AE(ae_title=destination.calling_ae_title or settings.listen.ae_title)
    calling.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    calling.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    patience_s = destination.timeout_s if timeout_s is None else timeout_s
    encryption = encryption_of(settings, destination)
    tls = None if encryption is None else (encryption, encryption.server_name)
    calling.connection_timeout = patience_s
    calling.acse_timeout = patience_s
    calling.dimse_timeout = patience_s
    calling.network_timeout = None  # exchange() times each request; nothing idles here

    def call() -> Association:
        try:
            return calling.associate(
                destination.host,
                destination.port,
                contexts=list(contexts),
                ae_title=destination.ae_title,
                max_pdu=settings.listen.maximum_pdu_bytes,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, _send_at_once),
                    (evt.EVT_CONN_OPEN, read_ahead),
                    *handlers,
                ],
                ext_neg=list(roles),
                tls_args=tls,
            )
        except OSError as error:  # the name of the host does not resolve
            raise _unreachable(settings, destination) from error

    association = call() if tick is None else _awaited(call, tick)
    if not association.is_established:
        if encryption is not None and encryption.why_not:
            raise _insecure(settings, destination, encryption.why_not)
        raise _why_not(association, settings, destination)
    try:
        yield association
    except BaseException:
        _drop(association)
        raise
    _release(association)


def _awaited(call: Callable[[], Association], tick: Callable[[], None]) -> Association:
    """Return what ``call`` returns, however long it takes; dropped if ``tick`` raises meanwhile."""
    caller = ThreadPoolExecutor(max_workers=1)
    answer = caller.submit(call)
    caller.shutdown(wait=False)
    try:
        while not wait([answer], timeout=TICK_S).done:
            tick()
    except BaseException:
        answer.add_done_callback(_forsake)
        raise
    return answer.result()


def _forsake(answer: Future[Association]) -> None:
    if answer.exception() is None:
        _drop(answer.result())


@contextmanager
def connected(association: Association, *, timeout_s: float) -> Iterator[Connection]:
    """End pynetdicom's threads and use its connection; released at the end, aborted on an error.

    Args:
        association: Established; nothing was asked on it yet, nor will be in any other way.
        timeout_s: How long nothing may move.

    Raises:
        AssociationBroken: The peer ended it, or spoke without being asked.
    """
    peer = association.acceptor.ae_title
    association._kill = True  # noqa: SLF001
    association._reactor_checkpoint.set()  # noqa: SLF001
    association.dul.kill_dul()
    association.join(PAUSE_S)
    association.dul.join(PAUSE_S)
    transport = association.dul.socket
    idle = (
        association.dul.state_machine.current_state == ESTABLISHED
        and not association.dul.is_alive()  # else it waits for the rest of a PDU
        and association.dul.event_queue.empty()
        and association.dul.to_user_queue.empty()
        and association.dimse.msg_queue.empty()
        and association.dimse.message is None
        and not getattr(transport, "ahead", b"")
    )
    association.is_established = False
    if not idle or transport is None or transport.socket is None:
        raise ended(peer)
    connection = Connection(
        transport.socket,
        peer,
        maximum_bytes=association.acceptor.maximum_length or 0,
        own_maximum_bytes=association.requestor.maximum_length or 0,
        timeout_s=timeout_s,
    )
    try:
        yield connection
    except BaseException:
        connection.abort()
        raise
    connection.release()


def exchange(
    association: Association,
    request: C_ECHO | N_ACTION | N_EVENT_REPORT,
    context_id: int,
    *,
    timeout_s: float,
) -> Any:
    """Send one request and return its response primitive.

    Args:
        association: Established; nobody else sends on it meanwhile.
        request: With its Message ID.
        context_id: Of an accepted presentation context.
        timeout_s: How long nothing may move: neither bytes to the peer nor its response.

    Raises:
        AssociationBroken: It ended, stalled, or brought nonsense. Whether the peer acted on the
            request is not known.
    """
    peer = association.acceptor.ae_title
    _pause(association)
    try:
        if not association.is_established:
            raise ended(peer)
        association.dimse.send_msg(request, context_id)
        response = _response(association, timeout_s)
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
    if response is None:
        raise ended(peer)
    if not response.is_valid_response:
        raise nonsense(peer)
    return response


def converse(  # noqa: PLR0913 - a request, and how long to wait for what
    association: Association,
    request: C_FIND | C_GET,
    context_id: int,
    *,
    timeout_s: float,
    received: Callable[[], int],
    tick: Callable[[], None],
) -> Iterator[tuple[int, Any]]:
    """Send one request and yield every message that comes: (context ID, primitive), without end.

    Args:
        association: As for ``exchange``.
        request: With its Message ID; many responses, or requests of the peer, may follow.
        context_id: Of an accepted presentation context.
        timeout_s: How long nothing may move.
        received: Grows with the bytes of a message that is still on its way.
        tick: Called at each message, and about once a second without; may raise.

    Raises:
        AssociationBroken: It ended, stalled, or brought nonsense.
    """
    _pause(association)
    try:
        if not association.is_established:
            raise ended(association.acceptor.ae_title)
        association.dimse.send_msg(request, context_id)
        moved_at, moved = time.monotonic(), received()
        while True:
            tick()
            try:
                answered_in, message = association.dimse.msg_queue.get(timeout=TICK_S)
            except queue.Empty:
                if received() == moved and time.monotonic() - moved_at > timeout_s:
                    raise stalled(association.acceptor.ae_title, timeout_s) from None
                if received() == moved:
                    continue
            else:
                if message is None or answered_in is None:
                    raise ended(association.acceptor.ae_title)
                yield answered_in, message
            moved_at, moved = time.monotonic(), received()
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001


def _send_at_once(event: evt.Event) -> None:
    # Nagle's algorithm and the peer's delayed ACK would cost 40 ms in every exchange.
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _response(association: Association, timeout_s: float) -> Any:
    unsent = association.dul.to_provider_queue
    left = unsent.qsize()
    while True:
        try:
            return association.dimse.msg_queue.get(timeout=timeout_s)[1]
        except queue.Empty:
            if unsent.qsize() < left:
                left = unsent.qsize()
                continue
            raise stalled(association.acceptor.ae_title, timeout_s) from None


def _pause(association: Association) -> None:
    """Keep the reactor thread from taking the response off the queue.

    A thread of pynetdicom that serves an N-EVENT-REPORT may clear ``_is_paused`` after the
    reactor has stopped, so the flag alone is not waited for.
    """
    association._reactor_checkpoint.clear()  # noqa: SLF001
    until = time.monotonic() + PAUSE_S
    while (
        not association._is_paused  # noqa: SLF001
        and association.is_alive()
        and time.monotonic() < until
    ):
        time.sleep(0.0005)


def _release(association: Association) -> None:
    if not association.is_established:
        return
    # A peer that still waits for us itself would let the whole time-out pass.
    association.acse_timeout = RELEASE_S
    _pause(association)
    try:
        if association.is_established:
            association.acse.negotiate_release()
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001


def _drop(association: Association) -> None:
    """End the association without asking the peer, which may have stopped reading.

    ``Association.abort`` would wait for a thread that may be blocked in ``socket.send``;
    shutting the socket down wakes it. Only closing it tells a peer that still sends.
    """
    transport = association.dul.socket
    connection = None if transport is None else transport.socket
    if connection is not None:
        with suppress(OSError):  # the peer was faster
            connection.shutdown(socket.SHUT_RDWR)
    association.kill()
    if connection is not None:
        connection.close()


def _address(settings: Settings, destination: DimseDestination) -> str:
    name = settings.name_of(destination)
    return f"'{name}' ({destination.ae_title} at {destination.host}:{destination.port})"


def _calling_ae(settings: Settings, destination: DimseDestination) -> str:
    return destination.calling_ae_title or settings.listen.ae_title


def _unreachable(settings: Settings, destination: DimseDestination) -> PeerUnreachable:
    return PeerUnreachable(
        f"No answer from {_address(settings, destination)}.",
        do="Check host and port under [destinations] in radnode.toml, then ask the PACS "
        f"administrator whether it accepts calls from AE title "
        f"'{_calling_ae(settings, destination)}'.",
    )


def _insecure(settings: Settings, destination: DimseDestination, why: str) -> PeerUnreachable:
    return PeerUnreachable(
        f"{_address(settings, destination)} and this node do not agree on TLS: {why}.",
        do="Check the certificates and the name that is expected, under its tls in radnode.toml, "
        "and whether the PACS trusts this node's certificate.",
    )


def _why_not(
    association: Association, settings: Settings, destination: DimseDestination
) -> PeerUnreachable | PeerRefused:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        kind = AssociationRejected if answer.result == REJECTED_PERMANENTLY else PeerUnreachable
        return kind(
            f"{_address(settings, destination)} rejected the association: {answer.reason_str}.",
            do="Check ae_title of the destination, and let the PACS administrator enter AE "
            f"title '{_calling_ae(settings, destination)}' with this host's address.",
        )
    if association.rejected_contexts:
        return ClassRefused(
            f"{_address(settings, destination)} accepts none of the SOP classes that were offered.",
            do="Ask its administrator to accept them, then 'radnode retry'.",
        )
    return _unreachable(settings, destination)
