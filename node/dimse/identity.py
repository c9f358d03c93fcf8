"""Who uses the calling system: User Identity Negotiation with passcodes (PS3.7 section D.3.3.7)."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from typing import TYPE_CHECKING, Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pynetdicom.pdu_primitives import UserIdentityNegotiation

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_AND_PASSCODE = 2
"""User Identity Type. The others prove nothing here (1), or to somebody else (3 to 5)."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's least: 19 MiB. A scanner that opens an association for each image pays it once."""


def hashed(passcode: str) -> str:
    """Return what ``listen.users`` holds in place of a passcode."""
    return _HASHER.hash(passcode)


class Users:
    """Who may use the listener.

    Args:
        hashes: User name -> ``hashed`` passcode; empty: nobody is asked.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes
        self._nobody = hashed(os.urandom(16).hex()) if hashes else ""
        self._key = os.urandom(32)
        self._right: dict[str, bytes] = {}
        # One at a time: guessing on many connections takes no more memory, and is no faster.
        self._turn = threading.Lock()

    def admit(self, association: Any) -> bool:
        """Whether an association that is being negotiated (pynetdicom's) names a user.

        Where it asks for the answer that it does, it is given one (PS3.7 section D.3.3.7.2).
        """
        if not self._hashes:
            return True
        asked = association.requestor.user_identity
        if asked is None or asked.user_identity_type != NAME_AND_PASSCODE:
            return False
        name = asked.primary_field.decode(errors="replace")
        if not self._knows(name, asked.secondary_field or b""):
            return False
        if asked.positive_response_requested:
            answer = UserIdentityNegotiation()
            answer.server_response = b""
            association.acceptor.add_negotiation_item(answer)
        return True

    def _knows(self, name: str, passcode: bytes) -> bool:
        """Whether it is the user's passcode; takes as long for a name that is not there."""
        mark = hmac.digest(self._key, name.encode() + b"\0" + passcode, hashlib.sha256)
        with self._turn:
            if hmac.compare_digest(self._right.get(name, b""), mark):
                return True
            try:
                _HASHER.verify(self._hashes.get(name, self._nobody), passcode)
            except (VerificationError, InvalidHashError):
                return False
            self._right[name] = mark
            return True
