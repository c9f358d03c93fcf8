"""Who may open an association, and when."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from node.dimse.contexts import choose, transfer_syntaxes
from node.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from pynetdicom import evt

    from node.dimse.receive import Receiver
    from node.settings import Listen

log = get_logger(__name__)

CALLING_AE_NOT_RECOGNISED = (0x01, 0x01, 0x03)
TEMPORARY_CONGESTION = (0x02, 0x03, 0x01)
"""Result, source and reason of A-ASSOCIATE-RJ (PS3.8 table 9-21): try again later."""


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether ``address`` lies in one of ``networks``; IPv4 within IPv6 counts as IPv4."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def all_networks(listen: Listen) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return where anyone may call from; empty: from anywhere."""
    return tuple(
        network for calling_ae in listen.accept_from for network in listen.networks_of(calling_ae)
    )


def on_requested(event: evt.Event, listen: Listen, receiver: Receiver) -> None:
    """Reject the association if its caller is unknown or the disk is full (EVT_REQUESTED).

    pynetdicom itself checks the called AE title, and the number of associations. Of the transfer
    syntaxes proposed for a context only the chosen one is left to it.
    """
    accepted = frozenset(transfer_syntaxes(accept_deflated=listen.accept_deflated))
    requestor: Any = event.assoc.requestor
    calling_ae = requestor.primitive.calling_ae_title.strip()
    address = requestor.address_info.address
    for context in requestor.primitive.presentation_context_definition_list:
        syntax = choose(context.transfer_syntax, accepted)
        if syntax is not None:
            context.transfer_syntax = [syntax]
    known = not listen.accept_from or is_within(address, listen.networks_of(calling_ae))
    if known and receiver.has_room():
        return
    why = TEMPORARY_CONGESTION if known else CALLING_AE_NOT_RECOGNISED
    log.warning(
        "association_rejected",
        calling_ae=calling_ae,
        address=address,
        reason="the disk is nearly full" if known else "not in listen.accept_from",
    )
    event.assoc.acse.send_reject(*why)
    event.assoc.kill()
