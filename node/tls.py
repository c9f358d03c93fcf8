"""DICOM over TLS: the BCP 195 RFC 8996, 9325 profile (PS3.15 section B.12).

TLS 1.2 or 1.3, ephemeral keys, authenticated encryption, and a certificate on both sides. Which
certificate may use which AE title is the site's to say: ``ListenTls.callers``.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import Field

from node.errors import ConfigError
from node.section import AETitle, Port, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

Context = TypeVar("Context", bound=ssl.SSLContext)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""Of TLS 1.2 (RFC 9325 section 4.2); those of TLS 1.3 are all good."""

FINGERPRINT = "sha256:"


class Tls(Section):
    """What one side needs: files in PEM, relative to the configuration file."""

    certificate: Path
    """This node's, then those that lead from it to an authority the other side trusts."""
    key: Path
    """Of the certificate, without a password; readable by the node's user alone."""
    trusted: Path
    """Authorities, or single certificates, that the other side's certificate must come from."""
    revoked: Path | None = None
    """Certificate revocation lists of these authorities; a certificate on one is refused."""

    def beside(self, folder: Path) -> Self:
        """Return the same with paths that are taken from ``folder``."""
        paths = {
            name: folder / path
            for name in ("certificate", "key", "trusted", "revoked")
            if (path := getattr(self, name)) is not None
        }
        return self.model_copy(update=paths)


class ListenTls(Tls):
    """The encrypted port of the listener."""

    port: Port = 2762
    """The well-known one of DICOM over TLS."""
    only: bool = False
    """Listen on this port alone: nothing comes unencrypted."""
    callers: dict[AETitle, str | tuple[str, ...]] = Field(default_factory=dict)
    """Calling AE title -> what its certificate must be: one with this name (DNS name, address or
    common name), or "sha256:" and its fingerprint. These may not call in any other way. Empty:
    any trusted certificate will do for every AE title."""

    def certificates_of(self, calling_ae: str) -> tuple[str, ...]:
        """Return what the certificate of ``calling_ae`` may be; empty: anything trusted."""
        stated = self.callers.get(calling_ae, ())
        return (stated,) if isinstance(stated, str) else stated


class DestinationTls(Tls):
    """A destination that is called over TLS."""

    server_name: str | None = None
    """That its certificate is for; left out: ``host`` of the destination."""


def server_context(tls: ListenTls) -> ssl.SSLContext:
    """Return how the listener speaks TLS.

    Raises:
        ConfigError: A file is missing, or is not what it should be.
    """
    return _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls, "listen.tls")


def client_context(tls: DestinationTls, name: str, kind: type[Context]) -> Context:
    """Return how a destination is spoken to.

    Args:
        tls: Of the destination.
        name: Of the destination, for errors.
        kind: Of the context.

    Raises:
        ConfigError: A file is missing, or is not what it should be.
    """
    return _prepared(kind(ssl.PROTOCOL_TLS_CLIENT), tls, f"destinations.{name}.tls")


def syslog_context(tls: DestinationTls) -> ssl.SSLContext:
    """Return how the syslog server is spoken to (RFC 5425).

    Raises:
        ConfigError: A file is missing, or is not what it should be.
    """
    return _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls, "audit.syslog")


def is_one_of(connection: ssl.SSLSocket, certificates: tuple[str, ...]) -> bool:
    """Whether the peer's certificate has one of these names or fingerprints."""
    encoded = connection.getpeercert(binary_form=True) or b""
    fingerprint = hashlib.sha256(encoded).hexdigest()
    names = set(_names(connection))
    return any(
        stated.removeprefix(FINGERPRINT).replace(":", "").lower() == fingerprint
        if stated.startswith(FINGERPRINT)
        else stated.lower() in names
        for stated in certificates
    )


def _names(connection: ssl.SSLSocket) -> Iterator[str]:
    certificate: dict[str, Any] = connection.getpeercert() or {}
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in {"DNS", "IP Address"}:
            yield str(name).lower()
    for part in certificate.get("subject", ()):
        for kind, name in part:
            if kind == "commonName":
                yield str(name).lower()


def _prepared(context: Context, tls: Tls, place: str) -> Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    # A scanner's own certificate can be trusted, without an authority above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
        context.load_verify_locations(tls.trusted)
        if tls.revoked is not None:
            context.load_verify_locations(tls.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:  # an SSLError is one
        raise ConfigError(
            f"{place}: {error.strerror or 'a file'} cannot be used.",
            do="Check that certificate, key, trusted and revoked are PEM files that this user "
            "can read, and that the key is that of the certificate, without a password.",
        ) from error
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal, and wait."""
    return ""
