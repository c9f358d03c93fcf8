"""From PDU to disk: the data set of a C-STORE goes to a part file as its fragments come.

pynetdicom can write it to a temporary file by itself (``STORE_RECV_CHUNKED_DATASET``), but does
so in the thread that reads the network, where a full disk or a missing UID ends the association
without an answer. Here the same thread writes to a ``Part``, which remembers the failure until
the request can be answered.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.errors import RejectedInstance
    from node.spool import Part

COMMAND_BYTES = 65_536
"""A command set is a dozen short elements (PS3.7 section 9.3)."""

MESSAGE_BYTES = 2_000_000
"""Data sets that are held in memory: commitment reports, at some 200 bytes an instance."""

INVALID_MESSAGE = "Evt19"
"""Event of the upper layer's state machine that ends the association with A-ABORT."""


def provider_of(association: Association) -> StreamingProvider:
    """Return the provider that the listener gave to ``association``."""
    return cast("StreamingProvider", association.dimse)


class RefusedPart:
    """Takes a data set whose request is refused already, and drops it."""

    def __init__(self, why: RejectedInstance) -> None:
        self.why = why

    def write(self, data_set: bytes) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""

    def discard(self) -> None:
        """Nothing is there."""


class DataSetFile:
    """Looks to pynetdicom like the temporary file that it would write a data set to.

    It is closed, and its path removed, when the request has been answered.
    """

    def __init__(self, part: Part | RefusedPart, unanswered: set[Part | RefusedPart]) -> None:
        self.part = part
        self.file = self
        self.name = ""  # a part is removed by close()
        self._unanswered = unanswered
        unanswered.add(part)

    def write(self, fragment: bytes) -> None:
        """Append one fragment."""
        self.part.write(fragment)

    def flush(self) -> None:
        """Parts are not buffered."""

    def keep(self) -> None:
        """Leave the part where it is."""
        self.part.close()
        self._unanswered.discard(self.part)

    def close(self) -> None:
        """Remove the part, unless it was kept."""
        self.part.discard()
        self._unanswered.discard(self.part)


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
        self._unanswered: set[Part | RefusedPart] = set()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA, each by itself: a data set may begin between two."""
        for fragment in primitive.presentation_data_value_list:
            one = P_DATA()
            one.presentation_data_value_list.append(fragment)
            super().receive_primitive(one)
            message: Any = self.message
            if message is not None and not self._is_allowed(message, fragment[0]):
                self.dul.event_queue.put(INVALID_MESSAGE)
                return

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send an answer. It proves life: what was slow was our disk, not the peer."""
        self.dul._idle_timer.restart()  # noqa: SLF001 - version pinned, see hardening
        self.stored = isinstance(primitive, C_STORE) and primitive.Status == 0x0000
        super().send_msg(primitive, context_id)

    def discard(self) -> None:
        """Remove what was received and never answered. The association has ended."""
        while self._unanswered:
            self._unanswered.pop().discard()

    def _is_allowed(self, message: Any, context_id: int) -> bool:
        """Whether a message may go on; opens the part as soon as the command asks for one."""
        if message.encoded_command_set.tell() > COMMAND_BYTES:
            return False
        is_store: bool = isinstance(message, C_STORE_RQ)
        if not is_store:
            return int(message.data_set.tell()) <= MESSAGE_BYTES
        if message._data_set_file is not None:  # noqa: SLF001
            return True
        context = self.assoc._accepted_cx.get(context_id)  # noqa: SLF001
        command = message.command_set
        named = "AffectedSOPClassUID" in command and "AffectedSOPInstanceUID" in command
        if context is None or not named:
            return False
        part = self._begin(self.assoc, command, context)
        message._data_set_file = DataSetFile(part, self._unanswered)  # noqa: SLF001
        # Which service answers shall depend on what was negotiated, not on the command.
        command.AffectedSOPClassUID = context.abstract_syntax
        return True
