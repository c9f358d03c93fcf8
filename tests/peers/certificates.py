"""A hospital's authority, and the certificates that it gives to scanners, the PACS and the node."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """As a site writes it down."""
        pem = self.certificate.read_text()
        return f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}"


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.certificate = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.certificate)

    def issue(self, name: str, *, expired: bool = False) -> Identity:
        """Return a certificate for a host name or address."""
        ended = datetime.now(UTC) - timedelta(days=1) if expired else None
        issued = self._authority.issue_cert(name, not_after=ended)
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        identity.certificate.write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(identity.key)
        return identity

    def revoke(self, *revoked: Identity) -> Path:
        """Return the list of what is revoked."""
        authority = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        now = datetime.now(UTC)
        listed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + timedelta(days=1))
        )
        for one in revoked:
            certificate = x509.load_pem_x509_certificate(one.certificate.read_bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            listed = listed.add_revoked_certificate(entry.revocation_date(now).build())
        key: EllipticCurvePrivateKey = load_pem_private_key(  # type: ignore[assignment]
            self._authority.private_key_pem.bytes(), None
        )
        path = self._folder / "revoked.pem"
        path.write_bytes(listed.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path
