"""Records: how the audit trail lies on the disk, each sealed by a MAC over all before it.

    <first number>.chain   a segment: a line for each record
    <mac> <record>         HMAC-SHA256 in hex of the MAC before and the record; canonical JSON

The record states its number, counted from 1 through all segments. A head, the number and MAC of
the last record, is kept in other places too: without it nobody could tell that the end is missing.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.errors import AuditBroken
from node.spool import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SUFFIX = ".chain"
KEY_BYTES = 32
_KEY = re.compile(rb"[0-9a-f]{%d}" % (2 * KEY_BYTES))
_HEAD = re.compile(rb"\A(0|[1-9][0-9]{0,14}) ([0-9a-f]{64})\n\Z")


@dataclass(frozen=True)
class Head:
    """The last record of a chain: its number, 0 if there is none, and its MAC in hex."""

    number: int
    mac: str

    def __str__(self) -> str:
        return f"{self.number}:{self.mac}"


START = Head(0, "0" * 64)
"""Of an empty chain."""


@dataclass(frozen=True)
class Record:
    """One record as it was sealed."""

    head: Head
    body: Mapping[str, Any]


# --- the key ---------------------------------------------------------------------------------


def key_for(path: Path, *, make: bool) -> bytes:
    """Return the key of the seals; with ``make``, a new one if there is none.

    Raises:
        AuditBroken: There is none, or it is no key.
        OSError: It can be neither read nor made.
    """
    if make:
        with suppress(FileExistsError):
            _make_key(path)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise AuditBroken("The key of the audit trail is gone.") from None
    if not _KEY.fullmatch(text):
        raise AuditBroken("The key of the audit trail is not what was written.")
    return bytes.fromhex(text.decode("ascii"))


def _make_key(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(KEY_BYTES).encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync_directory(path.parent)


# --- lines -----------------------------------------------------------------------------------


def canonical(body: Mapping[str, Any]) -> bytes:
    """Return the one JSON text that says ``body``: sorted, without spaces, ASCII."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sealed(key: bytes, before: Head, body: Mapping[str, Any]) -> tuple[Head, bytes]:
    """Return the head after ``body`` is added to a chain that ends with ``before``, and its line.

    ``body`` gets its number here.
    """
    number = before.number + 1
    text = canonical({**body, "number": number})
    head = Head(number, _mac(key, before, text))
    return head, b"%s %s\n" % (head.mac.encode("ascii"), text)


def _mac(key: bytes, before: Head, text: bytes) -> str:
    return hmac.digest(key, bytes.fromhex(before.mac) + text, "sha256").hex()


def opened(key: bytes, before: Head, line: bytes) -> Record:
    """Return the record in a line that follows ``before``.

    Raises:
        AuditBroken: It is not the line that was written after ``before``.
    """
    expected = before.number + 1
    mac, _, text = line.removesuffix(b"\n").partition(b" ")
    right = _mac(key, before, text)
    if line.endswith(b"\n") and hmac.compare_digest(right.encode("ascii"), mac):
        return Record(Head(expected, right), json.loads(text))
    if not line.endswith(b"\n"):
        raise AuditBroken(f"Record {expected} is cut off.", number=expected, cut=True)
    stated = _number_in(text)
    if stated in {None, expected}:
        raise AuditBroken(f"Record {expected} is not what was written.", number=expected)
    raise AuditBroken(
        f"Record {expected} is not in its place: {stated} stands there.", number=expected
    )


def _number_in(text: bytes) -> int | None:
    """Return the number that a line claims; None if it is no record at all."""
    try:
        body = json.loads(text)
    except ValueError:
        return None
    number = body.get("number") if isinstance(body, dict) else None
    return number if isinstance(number, int) else None


# --- segments --------------------------------------------------------------------------------


def segments(folder: Path) -> tuple[Path, ...]:
    """Return the segments of a chain, the oldest first."""
    return tuple(sorted(folder.glob(f"*{SUFFIX}")))


def segment(folder: Path, first: int) -> Path:
    """Return the path of the segment that begins with record ``first``."""
    return folder / f"{first:015d}{SUFFIX}"


def first_of(path: Path) -> int:
    """Return the number of the first record of a segment.

    Raises:
        AuditBroken: It is not called as a segment is.
    """
    if not path.stem.isascii() or not path.stem.isdigit():
        raise AuditBroken(f"{path.name} is no segment of the audit trail.")
    return int(path.stem)


def walk(paths: Sequence[Path], key: bytes, before: Head = START) -> Iterator[Record]:
    """Yield every record of consecutive segments, checked.

    Args:
        paths: Of the segments.
        key: Of the seals.
        before: What the first of them follows.

    Raises:
        AuditBroken: At the first record that is not what was written. Where the very last line
            lacks its end, ``cut`` is set: that is also what a power cut leaves.
    """
    for path in paths:
        if first_of(path) != before.number + 1:
            raise AuditBroken(
                f"Record {before.number + 1} is not there: the next segment begins with "
                f"{first_of(path)}.",
                number=before.number + 1,
            )
        with path.open("rb") as file:
            for line in file:
                try:
                    record = opened(key, before, line)
                except AuditBroken as broken:
                    if broken.cut and path != paths[-1]:
                        raise AuditBroken(broken.what, number=broken.number) from None
                    raise
                before = record.head
                yield record


# --- heads -----------------------------------------------------------------------------------


def write_head(path: Path, head: Head) -> None:
    """Put ``head`` into a file, durably, in the stead of the one before.

    Raises:
        OSError: The disk does not take it.
    """
    put(path, f"{head.number} {head.mac}\n")


def put(path: Path, text: str) -> None:
    """Make ``text`` the content of a file, durably, in the stead of what it was.

    Raises:
        OSError: The disk does not take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    fsync_directory(path.parent)


def read_head(path: Path) -> Head:
    """Return the head in a file.

    Raises:
        AuditBroken: It is not there, or not what was written.
    """
    try:
        found = _HEAD.match(path.read_bytes())
    except FileNotFoundError:
        raise AuditBroken(f"The copy of the head in {path} is gone.") from None
    if found is None:
        raise AuditBroken(f"The copy of the head in {path} is not what was written.")
    return Head(int(found[1]), found[2].decode("ascii"))


def agree(here: Head, heads: Sequence[Head]) -> None:
    """Compare a record with every head that has its number.

    Raises:
        AuditBroken: One of them is of another chain.
    """
    for head in heads:
        if head.number == here.number and head.mac != here.mac:
            raise AuditBroken(
                f"Record {here.number} is not the one that a copy of the head states.",
                number=here.number,
            )


def gone(first: int, last: int) -> AuditBroken:
    """Return what to say of records at the end that are not there."""
    what = f"Record {first} is" if first == last else f"Records {first} to {last} are"
    return AuditBroken(f"{what} gone from the end.", number=first)
