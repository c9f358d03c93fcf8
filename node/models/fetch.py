"""Fetch one file by HTTPS: streamed, limited, and kept only if it is the one asked for."""

from __future__ import annotations

import hashlib
import os
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from node import __version__
from node.errors import ModelRefused

if TYPE_CHECKING:
    from http.client import HTTPMessage
    from pathlib import Path

TIMEOUT_S = 30.0
"""Of connecting, and of each wait for more bytes."""
LARGEST_BYTES = 8 << 30
_CHUNK_BYTES = 1 << 20


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to anything but HTTPS."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse what is not encrypted."""
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError("it redirects to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, target: Path, sha256: str, *, largest_bytes: int = LARGEST_BYTES) -> None:
    """Write what is at ``url`` to ``target``, durable.

    A proxy is taken from the environment (``https_proxy``), authorities from the system.

    Args:
        url: ``https://...``.
        target: A new file; it is removed again where anything goes wrong.
        sha256: What its digest must be (hex).
        largest_bytes: More is refused unread.

    Raises:
        ModelRefused: No HTTPS, not there, too large, cut off, or other bytes.
    """
    if urlsplit(url).scheme != "https":
        raise ModelRefused(
            f"{url} is no https address.", do="Name one, or fetch it yourself and use --from."
        )
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsOnly(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(  # noqa: S310 - https, as checked above
        url, headers={"User-Agent": f"radnode/{__version__}"}
    )
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            found = write(answer, target, largest_bytes)
    except (OSError, urllib.error.URLError) as error:
        target.unlink(missing_ok=True)
        reason = getattr(error, "reason", None) or type(error).__name__
        if isinstance(error, urllib.error.HTTPError):
            reason = f"{error.code} {reason}"
        raise ModelRefused(
            f"{url} could not be fetched: {reason}.",
            do="Check the network and the proxy, or fetch it elsewhere and use --from FOLDER.",
        ) from error
    if found != sha256:
        target.unlink()
        raise ModelRefused(
            f"{url} is not the file that was asked for: its SHA-256 is {found}.",
            do="Do not use it. Ask its authors, or compare the digest that you have.",
        )


def write(source: IO[bytes], target: Path, largest_bytes: int) -> str:
    """Copy a stream to a new file, durable, and return its SHA-256 (hex).

    Raises:
        ModelRefused: It is longer than allowed; what was written is gone again.
    """
    digest = hashlib.sha256()
    left_bytes = largest_bytes
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            left_bytes -= len(chunk)
            if left_bytes < 0:
                target.unlink()
                raise ModelRefused(
                    f"{target.name} is larger than {largest_bytes / (1 << 20):.0f} MB.",
                    do="Check that this is the model you mean.",
                )
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
