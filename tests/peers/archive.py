"""An archive that answers queries as it is told: generously, wrongly, or not at all.

It holds data sets and matches nothing: whoever asks is given everything it holds.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from pynetdicom.transport import ThreadedAssociationServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Archive:
    """A running archive.

    Attributes:
        holds: Objects with pixel data; C-GET sends all of the series that was asked for.
        find: ``ok``, ``refuse``, ``nonsense``, ``stall``, ``flood`` (answers without end) or
            ``long`` (one that is).
        get: ``ok``, ``refuse``, ``fail`` (each sub-operation), ``forget``, ``cut`` or ``stall``.
    """

    holds: list[Dataset] = field(default_factory=list)
    find: str = "ok"
    get: str = "ok"
    port: int = 0
    ae_title: str = "ARCHIVE"
    _closing: threading.Event = field(default_factory=threading.Event)

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a C-FIND."""
        asked = event.identifier
        if self.find == "stall":
            self._closing.wait()
        if self.find == "refuse":
            yield 0xA900, None
            return
        if self.find in ("flood", "long"):
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            answer.TextValue = "x" * (100_000 if self.find == "long" else 50_000)
            while not self._closing.is_set() and event.assoc.is_established:
                yield 0xFF00, answer
            return
        if self.find == "nonsense":
            event.assoc.abort()
            return
        keyword = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}.get(
            asked.QueryRetrieveLevel, "SOPInstanceUID"
        )
        for one in {str(held[keyword].value): held for held in self.holds}.values():
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for element in asked:
                if element.keyword in one and element.keyword != "QueryRetrieveLevel":
                    answer[element.tag] = one[element.tag]
            yield 0xFF00, answer

    def on_get(self, event: Any) -> Iterator[Any]:
        """Answer a C-GET."""
        if self.get == "stall":
            self._closing.wait()
        if self.get == "refuse":
            yield 1
            yield 0xA900, None
            return
        series = str(event.identifier.SeriesInstanceUID)
        wanted = [one for one in self.holds if one.SeriesInstanceUID == series]
        if self.get == "forget":
            wanted = []
        yield len(wanted)
        for number, one in enumerate(wanted):
            if self.get == "cut" and number == 1:
                event.assoc.abort()
                return
            if self.get == "fail":
                broken = deepcopy(one)
                broken.SOPClassUID = "1.2.3.4"  # for which no context was proposed
                yield 0xFF00, broken
            else:
                yield 0xFF00, one


@contextmanager
def archive(**script: Any) -> Iterator[Archive]:
    """Run an archive on a free port, in threads of this process."""
    peer = Archive(**script)
    application = AE(ae_title=peer.ae_title)
    application.maximum_pdu_size = 131_072
    for model in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
    ):
        application.add_supported_context(model, ExplicitVRLittleEndian)
    for sop_class in sorted({str(one.SOPClassUID) for one in peer.holds}):
        application.add_supported_context(
            sop_class, ExplicitVRLittleEndian, scu_role=True, scp_role=True
        )
    server: Any = application.make_server(
        ("127.0.0.1", 0),
        server_class=ThreadedAssociationServer,
        evt_handlers=[(evt.EVT_C_FIND, peer.on_find), (evt.EVT_C_GET, peer.on_get)],
    )
    peer.port = server.server_address[1]
    # By default it looks twice a second whether it shall end.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield peer
    finally:
        peer._closing.set()
        BaseServer.shutdown(server)  # pynetdicom's own expects a server that it has started
        server.server_close()
