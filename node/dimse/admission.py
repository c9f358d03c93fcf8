"""Who may open an association, and when."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import getaddrinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from node.dimse.alerts import tell
from node.dimse.contexts import choose, transfer_syntaxes
from node.log import get_logger
from node.settings import DimseDestination
from node.tls import is_one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pynetdicom import evt

    from node.dimse.identity import Users
    from node.dimse.receive import Receiver
    from node.settings import Listen, Settings

log = get_logger(__name__)

Network = IPv4Network | IPv6Network
Callers = Mapping[str, tuple[Network, ...]]
"""Calling AE title -> where it may call from."""

CALLING_AE_NOT_RECOGNISED = (0x01, 0x01, 0x03)
NO_REASON_GIVEN = (0x01, 0x02, 0x01)
TEMPORARY_CONGESTION = (0x02, 0x03, 0x01)
"""Result, source and reason of A-ASSOCIATE-RJ (PS3.8 table 9-21); the last one: try again later."""


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether ``address`` lies in one of ``networks``; IPv4 within IPv6 counts as IPv4."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def callers(settings: Settings) -> Callers:
    """Return who may call, and from where. Empty: anyone, from anywhere.

    Beside the scanners of ``listen.accept_from`` these are the destinations that are asked for
    storage commitment: they may report on an association of their own (PS3.4 section J.3.3).
    """
    listen = settings.listen
    known = {calling_ae: listen.networks_of(calling_ae) for calling_ae in listen.accept_from}
    if not known:
        return known
    for name, destination in settings.destinations.items():
        if isinstance(destination, DimseDestination) and destination.commit:
            from_host = _networks_of_host(name, destination.host)
            known[destination.ae_title] = (*known.get(destination.ae_title, ()), *from_host)
    return known


def _networks_of_host(name: str, host: str) -> tuple[Network, ...]:
    try:
        addresses = {str(found[4][0]) for found in getaddrinfo(host, None)}
    except OSError:
        log.warning(
            "destination_unknown",
            destination=name,
            do="Its commitment reports are rejected until its host name resolves and radnode "
            "is restarted, or its address stands in listen.accept_from.",
        )
        return ()
    return tuple(ip_network(address.partition("%")[0]) for address in sorted(addresses))


def on_requested(
    event: evt.Event, listen: Listen, known: Callers, users: Users, receiver: Receiver
) -> None:
    """Reject the association if its caller is unknown or the disk is full (EVT_REQUESTED).

    pynetdicom itself checks the called AE title, and the number of associations. Of the transfer
    syntaxes proposed for a context only the chosen one is left to it.
    """
    accepted = frozenset(transfer_syntaxes(accept_deflated=listen.accept_deflated))
    requestor: Any = event.assoc.requestor
    for context in requestor.primitive.presentation_context_definition_list:
        syntax = choose(context.transfer_syntax, accepted)
        if syntax is not None:
            context.transfer_syntax = [syntax]
    calling_ae = requestor.primitive.calling_ae_title.strip()
    address = requestor.address_info.address
    why = _why_not(event.assoc, listen, known, users, receiver)
    if why is None:
        if listen.users:
            user = requestor.user_identity.primary_field.decode(errors="replace")
            tell(receiver.ledger, "logged_in", user, f"{address}: as {calling_ae}")
        return
    log.warning("association_rejected", calling_ae=calling_ae, address=address, reason=why.reason)
    event.assoc.acse.send_reject(*why.answer)
    event.assoc.kill()
    if why.answer != TEMPORARY_CONGESTION:
        # Not the user it names: a passcode may have been typed there.
        kind = "login_refused" if why.answer == NO_REASON_GIVEN else "association_rejected"
        tell(receiver.ledger, kind, calling_ae, f"{address}: {why.reason}")


class _Rejection(NamedTuple):
    answer: tuple[int, int, int]
    reason: str


def _why_not(
    association: Any, listen: Listen, known: Callers, users: Users, receiver: Receiver
) -> _Rejection | None:
    requestor = association.requestor
    calling_ae = requestor.primitive.calling_ae_title.strip()
    if known and not is_within(requestor.address_info.address, known.get(calling_ae, ())):
        return _Rejection(CALLING_AE_NOT_RECOGNISED, "not in listen.accept_from")
    if not _has_its_certificate(association, listen, calling_ae):
        return _Rejection(CALLING_AE_NOT_RECOGNISED, "without its certificate of listen.tls")
    if not users.admit(association):
        return _Rejection(NO_REASON_GIVEN, "names no user of listen.users")
    if not receiver.has_room():
        return _Rejection(TEMPORARY_CONGESTION, "the disk is nearly full")
    return None


def _has_its_certificate(association: Any, listen: Listen, calling_ae: str) -> bool:
    """Whether the caller shows the certificate that belongs to its AE title, if one does."""
    stated = () if listen.tls is None else listen.tls.certificates_of(calling_ae)
    connection = association.dul.socket.socket
    return not stated or (isinstance(connection, ssl.SSLSocket) and is_one_of(connection, stated))
