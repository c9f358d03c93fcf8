"""Names that want to be paths, commands or statements, wherever DICOM lets a peer state a name.

The listener runs under strace, which writes down every file that it makes, changes or removes.
"""

from __future__ import annotations

import itertools
import random
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.peers import by_hand, scanner
from tests.torture import trace
from tests.torture.listeners import listeners
from tests.torture.stores import Answers, Request, request_pdus
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.torture.listeners import Listeners
    from tests.torture.trace import Call

TIMEOUT_S = 20.0
MARK = "evil"
"""In every name, so that it is found wherever it got to."""
NAMES = (
    "../../../../{mark}", "/tmp/{mark}", "..\\..\\{mark}", "~/{mark}", "./{mark}/../..",
    "{mark}\0.dcm", "{mark}\n", "%2e%2e%2f{mark}", "....//....//{mark}", "C:\\{mark}",
    "\\\\host\\{mark}", "/proc/self/{mark}", "/dev/shm/{mark}", "$(touch {mark})", "`touch {mark}`",
    ";touch {mark};", "|touch {mark}", "'); DROP TABLE instance;--{mark}", "%s%n{mark}",
    "{mark}{{0.__class__}}", "../{mark}\r\nX: y", "1.2.3/../{mark}", "1.2.3.{mark}", "{mark}" * 20,
)  # fmt: skip
ELEMENTS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "PatientName", "PatientID", "Manufacturer", "ImageType", "SpecificCharacterSet",
)  # fmt: skip
PLACES = (
    "calling AE title", "called AE title", "abstract syntax", "transfer syntax",
    "Affected SOP Class UID", "Affected SOP Instance UID", *ELEMENTS,
)  # fmt: skip

_OPENS = ("openat", "open", "openat2")
_CHANGES = (
    "creat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "link", "linkat", "symlink",
    "symlinkat", "unlink", "unlinkat", "rmdir", "mknod", "mknodat", "truncate", "chmod", "fchmodat",
)  # fmt: skip
_WRITING = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC")


def _element(keyword: str, value: bytes) -> dict[int, bytes]:
    """Return an element in explicit VR little endian by its tag, whatever the value."""
    tag = tag_for_keyword(keyword) or 0
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, dictionary_VR(tag).encode(), len(value))
    return {tag: head + value}


def _sound() -> dict[int, bytes]:
    """Return the elements of a sound instance by their tags."""
    elements = {}
    for element in scanner.ct_slice():
        alone = Dataset()
        alone.add(element)
        elements[int(element.tag)] = scanner.encode(alone)
    return elements


_SOUND = _sound()


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Say every name in every place, and look at what was touched."""
    wanted = size.choose(quick=50, submission=500, long=5_000)
    rng = random.Random(seed)
    cases = list(itertools.islice(_cases(rng), wanted))
    output = folder / "trace"
    before = trace.tracer(output, (*_OPENS, *_CHANGES))
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    with listeners(
        folder / "node", before=before, environment=environment, processes=1
    ) as listening:
        answers = Answers()
        for number, (place, name) in enumerate(cases):
            _say(listening, number, place, name, answers)
        wrong = answers.judge(listening)
        dead, damaged = listening.dead(), listening.damaged()
    paths = touched(trace.read(output))
    own = (folder / "node" / "data").resolve()
    outside = [path for path in paths if not _within(path, own)]
    named = [path for path in paths if MARK in path]
    note = "; ".join(outside[:3])
    return [
        Figure("files touched outside the spool", len(outside), wanted, at_most=0, note=note),
        Figure("files whose path has a name of a peer", len(named), wanted, at_most=0),
        Figure("wrong 0x0000", len(wrong), wanted, at_most=0, note="; ".join(wrong[:3])),
        Figure("listener processes that died", dead, at_most=0),
        Figure("files of the spool that are damaged", len(damaged), at_most=0),
    ]


def touched(calls: list[Call]) -> list[str]:
    """Return the paths that a traced process made, changed or removed, or wanted to."""
    return [
        text.decode(errors="replace")
        for call in calls
        if call.name in _CHANGES or (call.name in _OPENS and _WRITING.search(call.text))
        for text in call.strings
    ]


def _within(path: str, folder: Path) -> bool:
    return path == "/dev/null" or Path(path).resolve().is_relative_to(folder)


def _cases(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield every name in every place, then more of their mixtures."""
    yield from itertools.product(PLACES, (name.format(mark=MARK) for name in NAMES))
    while True:
        name = "".join(rng.sample(NAMES, 2)).format(mark=MARK)
        yield rng.choice(PLACES), name


def _say(listening: Listeners, number: int, place: str, name: str, answers: Answers) -> None:
    """Store one instance with ``name`` in ``place``."""
    sop_class, syntax = str(CTImageStorage), str(ExplicitVRLittleEndian)
    uid = f"1.2.3.4.{5_000_000 + number}"
    elements = dict(_SOUND)
    elements |= _element("SOPInstanceUID", uid.encode())
    if place in ELEMENTS:
        elements |= _element(place, name.encode())
    data_set = b"".join(elements[tag] for tag in sorted(elements))
    rq = by_hand.request([(sop_class, syntax)], called_ae=listening.called_ae)
    raw = name.encode()
    if place == "calling AE title":
        rq = rq[:26] + raw[:16].ljust(16) + rq[42:]
    elif place == "called AE title":
        rq = rq[:10] + raw[:16].ljust(16) + rq[26:]
    elif place in ("abstract syntax", "transfer syntax"):
        stated = (sop_class if place == "abstract syntax" else syntax).encode()
        rq = rq.replace(stated, raw[: len(stated)].ljust(len(stated), b"x"))
    sent = Request(7, name if place == "Affected SOP Instance UID" else uid, data_set)
    pdus = request_pdus(sent, name if place == "Affected SOP Class UID" else sop_class)
    status = None
    connection = socket.create_connection(("127.0.0.1", listening.port), TIMEOUT_S)
    with connection, suppress(OSError):
        connection.sendall(rq)
        if by_hand.pdu(connection)[:1] == bytes([by_hand.ASSOCIATE_AC]):
            connection.sendall(b"".join(pdus))
            status = by_hand.number_in(by_hand.pdu(connection), 0x0900)
    answers.add(status, sent, syntax)
