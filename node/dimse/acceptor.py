"""One association that a peer has opened, from the moment it is established to its end.

pynetdicom negotiates it, in two threads that look for work every millisecond. Then its thread
that reads the network ends, and the association's own thread waits in the kernel for what comes:

    C-STORE            bytes ─▶ part file, hashed on the way ─▶ ``Receiver`` ─▶ answer
    any other message  ─▶ pynetdicom's messages and service classes ─▶ answer
    A-RELEASE, A-ABORT, silence, nonsense ─▶ the end (PS3.8 section 9.2)
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from node.crashpoint import reach
from node.dimse.messages import (
    COMMAND_BYTES,
    MESSAGE_BYTES,
    MalformedCommand,
    StoreRequest,
    command_elements,
    command_pdu,
    store_request,
    store_response,
)
from node.dimse.pdata import (
    ABORT_BY_USER,
    ABORT_UNEXPECTED,
    LAST,
    PDU_HEADER_BYTES,
    RELEASE_RESPONSE,
    Ended,
    FragmentReader,
    InvalidPdu,
    Released,
)
from node.dimse.pdata import COMMAND as IS_COMMAND
from node.dimse.receive import SUCCESS, Sender, place_of
from node.log import get_logger
from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.dimse_primitives import N_EVENT_REPORT

    from node.dimse.pdata import Fragment
    from node.dimse.receive import Receiver, RefusedPart
    from node.spool import Part

log = get_logger(__name__)

PDU_S = 30.0
"""Seconds in which a PDU that has begun must be complete, and an answer be taken."""


class _Question(NamedTuple):
    """What is asked of a peer that has opened an association."""

    request: N_EVENT_REPORT
    context_id: int
    answered: Callable[[int | None], None]


class AcceptedAssociation(Association):
    """Takes the place of pynetdicom's, whose negotiation it keeps. See ``adopt``.

    Attributes:
        association_id: Names the association in the ledger.
    """

    @classmethod
    def adopt(cls, association: Association, receiver: Receiver) -> None:
        """Make an association, not yet started, one of these."""
        association.__class__ = cls
        cast("AcceptedAssociation", association)._take_over(receiver)  # noqa: SLF001 - ours now

    def _take_over(self, receiver: Receiver) -> None:
        self.association_id = uuid.uuid4().hex
        self.dimse = DIMSEServiceProvider(self)
        self._receiver = receiver
        self._sending = threading.Lock()
        self._incoming: _Store | _Other | None = None
        self._received = self._refused = self._received_bytes = 0
        self._questions: deque[_Question] = deque()
        self._asked: _Question | None = None
        self.bind(evt.EVT_PDU_SENT, self._after_accept)

    def _after_accept(self, event: evt.Event) -> None:
        """End the network thread as soon as it has sent the A-ASSOCIATE-AC (EVT_PDU_SENT).

        It runs this itself, so that it reads nothing of what the peer sends next.
        """
        if event.pdu.pdu_type == 0x02:
            self.dul.kill_dul()

    def _run_reactor(self) -> None:
        """Serve the association until it ends; called by pynetdicom once it is established."""
        self.dul.join()
        transport = self.dul.socket
        connection = None if transport is None else transport.socket
        if connection is None:
            return
        self.dul.send_pdu = self._send_primitive  # type: ignore[method-assign]
        try:
            # Only who sent something before the association was accepted has left an event.
            if self.dul.event_queue.empty():
                self._serve(connection)
            self._abort_with(ABORT_UNEXPECTED)
        except Released:
            self.is_released = True
            with suppress(OSError):
                self._send(RELEASE_RESPONSE)
        except (InvalidPdu, MalformedCommand) as error:
            log.warning("association_aborted", calling_ae=self.calling_ae, what=str(error))
            self._abort_with(ABORT_UNEXPECTED)
        except TimeoutError:
            log.warning("association_silent", calling_ae=self.calling_ae)
            self._abort_with(ABORT_BY_USER)
        except OSError:
            self._broken()
        except Exception as error:  # the process's edge: the others go on
            # Neither the message nor the arguments: they may quote the data set.
            log.error("association_failed", error=type(error).__name__, where=place_of(error))
            self._abort_with(ABORT_BY_USER)
        finally:
            self._close()

    def _close(self) -> None:
        self._kill = True
        self.is_established = False
        if self._incoming is not None:
            self._incoming.discard()
        for question in (*([self._asked] if self._asked else ()), *self._questions):
            question.answered(None)
        if self._received or self._refused:
            log.info(
                "association_ended",
                calling_ae=self.calling_ae,
                received=self._received,
                refused=self._refused,
                bytes=self._received_bytes,
            )

    def _broken(self) -> None:
        """End without the peer, which is gone or has aborted, unless it is this node that ends."""
        self.is_aborted = True
        if self._kill:
            self._abort_with(ABORT_BY_USER)

    @property
    def calling_ae(self) -> str:
        """AE title of the peer."""
        return str(self.requestor.ae_title)

    def _serve(self, connection: socket.socket) -> None:
        reader = FragmentReader(
            connection,
            maximum_bytes=(self.acceptor.maximum_length or 0) + PDU_HEADER_BYTES,
            pdu_s=min(PDU_S, self.network_timeout or PDU_S),
            idle_s=self.network_timeout,
        )
        command, context_id = bytearray(), 0
        for fragment in reader.fragments():
            if command and fragment.context_id != context_id:
                raise InvalidPdu("Two messages are mixed")
            context_id = fragment.context_id
            if self._incoming is not None:
                self._take(self._incoming, fragment)
                continue
            if not fragment.is_command:
                raise InvalidPdu("A data set came without a command")
            command += fragment.content
            if len(command) > COMMAND_BYTES:
                raise InvalidPdu("A command set is too long")
            if fragment.is_last:
                self._begin(bytes(command), context_id)
                command.clear()
            if self._kill:
                return

    def count(self, size_bytes: int, *, success: bool) -> None:
        """Count an instance that has been answered, for the log."""
        self._received += success
        self._refused += not success
        self._received_bytes += size_bytes * success

    def ask(
        self, request: N_EVENT_REPORT, context_id: int, answered: Callable[[int | None], None]
    ) -> None:
        """Ask the peer something, after the message that is being answered.

        Args:
            request: With its Message ID.
            context_id: Of an accepted presentation context.
            answered: Called with the status of its response; with None if none came.
        """
        self._questions.append(_Question(request, context_id, answered))

    def _ask_next(self) -> None:
        """Ask one question at a time (PS3.7 annex D.3.3.3: no operations window was agreed on)."""
        if self._asked is None and self._questions:
            self._asked = self._questions.popleft()
            self.dimse.send_msg(self._asked.request, self._asked.context_id)

    def _hear(self, response: Any) -> None:
        """Take the response to what was asked."""
        question, self._asked = self._asked, None
        if question is None or response.MessageIDBeingRespondedTo != question.request.MessageID:
            raise InvalidPdu("A response to nothing that was asked")
        question.answered(response.Status)

    def _begin(self, command: bytes, context_id: int) -> None:
        """Begin a message; a data set follows, or it is whole already."""
        elements = command_elements(command)
        request = store_request(elements)
        if request is None:
            self._incoming = _Other(self, context_id, command)
            if self.dimse.message is None:  # it has no data set
                self._finish()
            return
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise InvalidPdu("A presentation context was not accepted")
        sender = Sender(self.calling_ae, self.association_id)
        syntax = str(context.transfer_syntax[0])
        abstract = str(context.abstract_syntax)
        part = self._receiver.begin(request, abstract, syntax, sender)
        self._incoming = _Store(self, context_id, request, syntax, sender, part)
        if not request.has_data_set:
            self._finish()

    def _take(self, incoming: _Store | _Other, fragment: Fragment) -> None:
        if fragment.is_command or fragment.context_id != incoming.context_id:
            raise InvalidPdu("Two messages are mixed")
        incoming.write(fragment.content, is_last=fragment.is_last)
        if fragment.is_last:
            self._finish()

    def _finish(self) -> None:
        if self._incoming is not None:
            self._incoming.answer()
        self._incoming = None

    def _send(self, pdu: bytes) -> None:
        transport = self.dul.socket
        connection = None if transport is None else transport.socket
        if connection is None:
            raise Ended("The connection is closed")
        with self._sending:
            connection.settimeout(PDU_S)
            connection.sendall(pdu)

    def _send_primitive(self, primitive: Any) -> None:
        """Send what pynetdicom's service classes answer, in place of its network thread."""
        if not isinstance(primitive, P_DATA):
            return
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        try:
            self._send(pdu.encode())
        except OSError:  # whoever reads will find the same
            self._kill = True

    def _abort_with(self, pdu: bytes) -> None:
        self.is_aborted = True
        if self._sending.locked():  # by a peer that does not read: it would not read this either
            return
        with suppress(OSError):
            self._send(pdu)

    def _abort_blocking(self, block: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - pynetdicom's
        """Wake the association's own thread, which aborts: no other may use a TLS connection."""
        self._kill = True
        transport = self.dul.socket
        if transport is not None and transport.socket is not None:
            shut(transport.socket, socket.SHUT_RD)


def shut(connection: socket.socket, how: int) -> None:
    """Shut a connection down, so that whoever waits for it wakes.

    Not by the method of ``ssl.SSLSocket``, which makes of it a connection without encryption.
    """
    with suppress(OSError):  # the peer was faster
        socket.socket.shutdown(connection, how)


class _Store:
    """A C-STORE whose data set is on its way to the disk."""

    def __init__(  # noqa: PLR0913, PLR0917 - what an answer needs to know
        self,
        association: AcceptedAssociation,
        context_id: int,
        request: StoreRequest,
        transfer_syntax_uid: str,
        sender: Sender,
        part: Part | RefusedPart,
    ) -> None:
        self.context_id = context_id
        self._association = association
        self._request = request
        self._syntax = transfer_syntax_uid
        self._sender = sender
        self._part = part
        self._bytes = 0

    def write(self, content: memoryview, *, is_last: bool) -> None:  # noqa: ARG002 - as _Other
        self._part.write(content)
        self._bytes += len(content)

    def discard(self) -> None:
        self._part.discard()

    def answer(self) -> None:
        """Keep the instance, and say so or why not."""
        association = self._association
        try:
            answer = association._receiver.store(  # noqa: SLF001 - two halves of one thing
                self._part, self._request, self._syntax, self._sender
            )
        finally:
            self._part.discard()
        association.count(self._bytes, success=answer.status == SUCCESS)
        response = store_response(self._request, answer.status, answer.comment)
        association._send(command_pdu(self.context_id, response))  # noqa: SLF001
        if answer.status == SUCCESS:
            reach("receive.answered")


class _Other:
    """Any other message: held in memory, decoded and answered by pynetdicom."""

    def __init__(self, association: AcceptedAssociation, context_id: int, command: bytes) -> None:
        self.context_id = context_id
        self._association = association
        self._bytes = 0
        self._hand_over(IS_COMMAND | LAST, command)

    def write(self, content: memoryview, *, is_last: bool) -> None:
        self._bytes += len(content)
        if self._bytes > MESSAGE_BYTES:
            raise InvalidPdu("A message is too long to be held in memory")
        self._hand_over(LAST if is_last else 0, content)

    def discard(self) -> None:
        """Nothing is on the disk."""

    def answer(self) -> None:
        """Let pynetdicom's service class answer what has been put together."""
        association = self._association
        context_id, message = association.dimse.get_msg(block=False)
        if message is None or context_id is None:
            return
        if message.is_valid_response:
            association._hear(message)  # noqa: SLF001 - two halves of one thing
        else:
            association._serve_request(message, context_id)  # noqa: SLF001
        association._ask_next()  # noqa: SLF001

    def _hand_over(self, control: int, content: bytes | memoryview) -> None:
        one = P_DATA()
        one.presentation_data_value_list.append(
            (self.context_id, bytes([control]) + bytes(content))
        )
        try:
            self._association.dimse.receive_primitive(one)
        except (KeyError, *MALFORMED) as error:
            raise InvalidPdu("A message is malformed") from error
        if not self._association.dul.event_queue.empty():  # pynetdicom says the same
            raise InvalidPdu("A message is malformed")
