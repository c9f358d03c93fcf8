"""The system calls of a process and its threads, in their order, as strace writes them down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

STRING_BYTES = 400
"""Of each string that is kept."""

_PATH = re.compile(r"(?<=<)((?:\\x[0-9a-f]{2})+)(?=>)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_LINE = re.compile(r"(\d+) +(.*)")
_BEGUN = re.compile(r"(\w+)\((.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_RESULT = re.compile(r"\) += (-?\d+)[^=]*$")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One system call.

    Attributes:
        name: Of the call.
        text: Its arguments, descriptors with what they are: ``7</spool/tmp/1.part>``.
        strings: What its strings held.
        result: What it returned; None if it never did.
        begun: Place in the order of all beginnings and ends.
        ended: The same; after everything if it never did.
    """

    name: str
    text: str
    strings: tuple[bytes, ...]
    result: int | None
    begun: int
    ended: int

    @property
    def succeeded(self) -> bool:
        """Whether it returned, and no error."""
        return self.result is not None and self.result >= 0


def tracer(output: Path, calls: Iterable[str]) -> list[str | Path]:
    """Return the command that runs another one under strace."""
    options = ["-f", "--seccomp-bpf", "-qq", "-yy", "-xx", "-s", str(STRING_BYTES)]
    return [require("strace"), *options, "-e", f"trace={','.join(calls)}", "-o", output]


def read(output: Path) -> list[Call]:
    """Return the calls that strace has written down, in the order in which they ended."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[int, str, str]] = {}
    lines = output.read_text().splitlines()
    for number, line in enumerate(lines):
        if not (parsed := _LINE.fullmatch(line)):
            continue
        thread, rest = parsed.groups()
        if resumed := _RESUMED.match(rest):
            name = resumed.group(1)
            begun, _, head = open_calls.pop(thread, (number, name, ""))
            calls.append(_call(name, head + resumed.group(2), begun, number))
        elif started := _BEGUN.match(rest):
            name, text = started.groups()
            if text.endswith(_UNFINISHED):
                open_calls[thread] = (number, name, text.removesuffix(_UNFINISHED))
            else:
                calls.append(_call(name, text, number, number))
    for begun, name, head in open_calls.values():
        calls.append(_call(name, head, begun, len(lines)))
    return calls


def last(calls: Sequence[Call]) -> Call | None:
    """Return the call that ended last; None of none."""
    return max(calls, key=lambda call: call.ended, default=None)


def _call(name: str, text: str, begun: int, ended: int) -> Call:
    result = _RESULT.search(text)
    strings = tuple(map(_bytes, _STRING.findall(text)))
    readable = _PATH.sub(lambda found: _bytes(found.group(1)).decode(errors="replace"), text)
    return Call(name, readable, strings, int(result.group(1)) if result else None, begun, ended)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
