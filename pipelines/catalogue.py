"""Which public weights are known: ``catalogue.toml``, read and checked."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("catalogue.toml")
_PINNED = re.compile(r"https://[a-z0-9./_-]+/(?P<commit>[0-9a-f]{12,40})/[\w./-]*", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A model that its authors have published.

    Attributes:
        name: As in ``radnode models add NAME``.
        title: What it finds, on what.
        pipelines: Which pipelines use it.
        licence: SPDX identifier.
        citation: What its authors ask to be cited.
        sources: Where its files are, each at one commit: ``https://.../COMMIT/.../``. They are
            tried in turn.
        files: Path within the model, and within a source -> SHA-256 (hex); empty: not known.
    """

    name: str
    title: str
    pipelines: tuple[str, ...]
    licence: str
    citation: str
    sources: tuple[str, ...]
    files: dict[str, str]

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The files whose digest is not known: who adds them must state it."""
        return tuple(path for path, sha256 in self.files.items() if not sha256)

    @property
    def commits(self) -> tuple[str, ...]:
        """The commit of each source."""
        found = (_PINNED.fullmatch(source) for source in self.sources)
        return tuple(dict.fromkeys(one["commit"] for one in found if one))


@cache
def entries() -> dict[str, Entry]:
    """Return every model of the catalogue by its name.

    Raises:
        ValueError: The catalogue names a source that may change, or a digest that is none.
    """
    stated = tomllib.loads(_FILE.read_text("utf-8"))
    return {name: _entry(name, one) for name, one in stated.items()}


def _entry(name: str, stated: dict[str, object]) -> Entry:
    entry = Entry(
        name=name,
        title=str(stated["title"]),
        pipelines=_texts(stated["pipelines"]),
        licence=str(stated["licence"]),
        citation=str(stated["citation"]),
        sources=_texts(stated["sources"]),
        files=dict(stated["sha256"]),  # type: ignore[call-overload]
    )
    for source in entry.sources:
        if not (_PINNED.fullmatch(source) and source.endswith("/")) or "/.." in source:
            raise ValueError(f"{name}: {source} is not an https folder at one commit.")
    for path, sha256 in entry.files.items():
        if sha256 and not _SHA256.fullmatch(sha256):
            raise ValueError(f"{name}: the digest of {path} is no SHA-256.")
    return entry


def _texts(stated: object) -> tuple[str, ...]:
    if not isinstance(stated, list):
        raise TypeError("a list of texts was expected")
    return tuple(str(one) for one in stated)
