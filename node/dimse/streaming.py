"""From PDU to disk: the data set of a C-STORE goes to a part file as its fragments come.

pynetdicom can write it to a temporary file by itself (``STORE_RECV_CHUNKED_DATASET``), but does
so in the thread that reads the network, where a full disk or a missing UID ends the association
without an answer. Here the same thread writes to a ``Part``, which remembers the failure until
the request can be answered.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.spool import Part

COMMAND_BYTES = 65_536
"""A command set is a dozen short elements (PS3.7 section 9.3)."""

MESSAGE_BYTES = 16_000_000
"""Data sets that are held in memory: commitment reports, at some 200 bytes an instance."""

INVALID_MESSAGE = "Evt19"
"""Event of the upper layer's state machine that ends the association with A-ABORT."""


class RefusedPart:
    """Takes a data set whose request is refused already, and drops it."""

    def __init__(self, why: Exception) -> None:
        self.failure = why

    def write(self, data_set: bytes) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""

    def discard(self) -> None:
        """Nothing is there."""


class DataSetFile:
    """Looks to pynetdicom like the temporary file that it would write a data set to."""

    def __init__(self, part: Part | RefusedPart) -> None:
        self.part = part
        self.file = self
        self.name = "/dev/null/kept-or-discarded"  # pynetdicom unlinks this, in vain

    def write(self, fragment: bytes) -> None:
        """Append one fragment."""
        self.part.write(fragment)

    def flush(self) -> None:
        """Parts are not buffered."""

    def close(self) -> None:
        """Remove the part, unless it was kept."""
        self.part.discard()


class StreamingProvider(DIMSEServiceProvider):
    """Receives the messages of one association; at most one data set is on its way at a time.

    Attributes:
        association_id: Names the association in the ledger.
        stored: Whether a C-STORE has been answered with Success and the answer not yet sent.
    """

    def __init__(
        self,
        association: Association,
        begin: Callable[[Association, Dataset, PresentationContext], Part | RefusedPart],
    ) -> None:
        super().__init__(association)
        self.association_id = uuid.uuid4().hex
        self.stored = False
        self._begin = begin
        self._open: set[Part | RefusedPart] = set()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA, each by itself: a data set may begin between two."""
        for fragment in primitive.presentation_data_value_list:
            one = P_DATA()
            one.presentation_data_value_list.append(fragment)
            super().receive_primitive(one)
            if self.message is not None and not self._prepare(self.message, fragment[0]):
                self.dul.event_queue.put(INVALID_MESSAGE)
                return

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send an answer. It proves life: what was slow was our disk, not the peer."""
        self.dul._idle_timer.restart()  # noqa: SLF001 - version pinned, see hardening
        self.stored = isinstance(primitive, C_STORE) and primitive.Status == 0x0000
        super().send_msg(primitive, context_id)

    def discard(self) -> None:
        """Remove what was received and never answered. The association has ended."""
        for part in self._open:
            part.discard()
        self._open.clear()

    def _prepare(self, message: Any, context_id: int) -> bool:
        """Open the part as soon as the command is known; False if the message is not allowed."""
        if message.encoded_command_set.tell() > COMMAND_BYTES:
            return False
        if not isinstance(message, C_STORE_RQ):
            return message.data_set.tell() <= MESSAGE_BYTES
        if message._data_set_file is None:  # noqa: SLF001
            context = self.assoc._accepted_cx.get(context_id)  # noqa: SLF001
            command = message.command_set
            if context is None or not {"AffectedSOPClassUID", "AffectedSOPInstanceUID"} <= set(
                command.dir("Affected")
            ):
                return False
            part = self._begin(self.assoc, command, context)
            # Which service answers shall depend on what was negotiated, not on the command.
            command.AffectedSOPClassUID = context.abstract_syntax
            self._open.add(part)
            message._data_set_file = DataSetFile(part)  # noqa: SLF001
        return True
