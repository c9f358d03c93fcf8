"""From PDU to disk: the data set of a C-STORE goes to a part file as its fragments come.

pynetdicom can write it to a temporary file by itself (``STORE_RECV_CHUNKED_DATASET``), but does
so in the thread that reads the network, where a full disk or a missing UID ends the association
without an answer. Here the same thread writes to a ``Part``, which remembers the failure until
the request can be answered. It serves C-GET; what peers send by themselves comes another way, see
``acceptor``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA

from node.dimse.messages import COMMAND_BYTES, MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.dimse.receive import RefusedPart
    from node.spool import Part

INVALID_MESSAGE = "Evt19"
"""Event of the upper layer's state machine that ends the association with A-ABORT."""


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
    """Receives the messages of one association; at most one data set is on its way at a time."""

    def __init__(
        self,
        association: Association,
        begin: Callable[[Association, Dataset, PresentationContext], Part | RefusedPart],
    ) -> None:
        super().__init__(association)
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
