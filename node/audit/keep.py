"""Keep: take every event of the ledger over into the audit trail, and tell the syslog server.

Its process does nothing else. While it is away, or the disk is, events wait in the ledger; while
the server is away, they wait in the trail.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node import part10
from node.audit import trail
from node.audit.chain import Chain, Places
from node.audit.messages import KINDS, Source
from node.audit.outbox import Outbox
from node.errors import AuditBroken
from node.log import get_logger
from node.malformed import MALFORMED
from node.store import spooled
from node.wake import POLL_S

if TYPE_CHECKING:
    import threading

    from node.settings import Settings
    from node.store.events import Event
    from node.store.ledger import Ledger

log = get_logger(__name__)

PAUSE_S = 5.0
"""After an error of the ledger or the disk."""
BROKEN_PAUSE_S = 60.0
"""How often a person is told that the trail was tampered with."""
KEPT_PATIENTS = 1_000
_AFTER_PATIENT_ID = 0x00100021


def places(settings: Settings) -> Places:
    """Return where the audit trail of a node lies."""
    folder, data = settings.audit_folder, settings.data
    return Places(
        folder,
        data / "audit.key",
        (folder / "head", settings.audit.head or data / "audit.head"),
    )


def source(settings: Settings) -> Source:
    """Return how the node calls itself in messages."""
    host = os.uname().nodename
    audit = settings.audit
    return Source(audit.source or host, audit.enterprise_site, settings.listen.ae_title, host)


def run(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    """Keep the trail until ``stop``, and take over then what has happened until then.

    Raises:
        ConfigError: Another process keeps it, or the certificate cannot be used.
    """
    while not stop.is_set():
        try:
            _keep(settings, ledger, stop)
        except AuditBroken as error:
            # Nothing is lost: the events stay in the ledger. But a person must look.
            log.error("audit_broken", what=error.what, do=error.do)
            stop.wait(BROKEN_PAUSE_S)
        except OSError as error:
            log.error("audit_disk_failed", reason=error.strerror)
            stop.wait(PAUSE_S)
        except SQLAlchemyError:
            log.warning("ledger_away")
            stop.wait(PAUSE_S)


def _keep(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    where = places(settings)
    with Chain(where, segment_bytes=settings.audit.segment_bytes) as chain:
        server = settings.audit.syslog
        outbox = None if server is None else Outbox(server, where.folder, source(settings))
        keeper = Keeper(settings, ledger, chain, outbox)
        log.info("audit_ready", records=chain.head.number)
        while not stop.is_set():
            if not keeper.turn():
                stop.wait(POLL_S)
        keeper.finish()


class Keeper:
    """Moves events from the ledger into the chain, and records from there to the server.

    Args:
        settings: Of the node.
        ledger: Migrated.
        chain: To which records are added.
        outbox: Of the server; None: nobody is told.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, chain: Chain, outbox: Outbox | None
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._chain = chain
        self._outbox = outbox
        self._patient_id = lru_cache(KEPT_PATIENTS)(self._read_patient_id)
        self._sequence, notes = trail.resume(ledger, chain.last)
        chain.append(notes)

    def turn(self) -> bool:
        """Take over some events and send some messages; whether there are more at once."""
        found = trail.new_events(self._ledger, self._sequence)
        if found:
            bodies = [
                trail.body_of(event, self._settings, self._patient_of(event)) for event in found
            ]
            self._chain.append(bodies)
            self._sequence = found[-1].sequence
        unsent = self._outbox is not None and self._outbox.turn(self._chain.head)
        return unsent or len(found) == trail.BATCH

    def finish(self) -> None:
        """Take over and send what is left, as far as the server takes it now."""
        while self.turn():
            pass
        if self._outbox is not None:
            self._outbox.finish(self._chain.head)

    def _patient_of(self, event: Event) -> str | None:
        if not self._settings.audit.patient_id or event.study_uid is None:
            return None
        return self._patient_id(event.study_uid) if event.kind in KINDS else None

    def _read_patient_id(self, study_uid: str) -> str | None:
        """Return the Patient ID (0010,0020) of a study; None if no file of it states one."""
        with self._ledger.read() as db:
            path = spooled.path_of(db, study_uid)
        if path is None:
            return None
        try:
            header = part10.read(self._settings.spool_folder / path, stop_at=_AFTER_PATIENT_ID)
            return str(header.PatientID).strip() or None
        except (*MALFORMED, OSError):
            log.warning("patient_id_unknown")
            return None
