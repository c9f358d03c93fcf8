"""Start-up: what a crash left in the spool gets its row, or goes.

A file without a row was renamed into place and then the process died: nobody was told Success,
but the sender may never come again, so it is indexed. Parts of dead processes are removed. Safe
to repeat, and while listeners run: whoever writes the row second finds a resent instance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError
from pynetdicom.dsutils import split_dataset

from node.dimse import gate
from node.dimse.receive import index
from node.errors import RejectedInstance
from node.log import get_logger
from node.spool import Spool
from node.store import studies

if TYPE_CHECKING:
    from node.domain import Receipt
    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)


@dataclass(frozen=True)
class Reindexed:
    """What was found.

    Attributes:
        swept: Parts removed.
        indexed: Files that got a row, conflicts among them.
        damaged: Files that are not what their name says, or no instance; they stay, without row.
    """

    swept: int
    indexed: int
    damaged: int


def reindex(settings: Settings, ledger: Ledger) -> Reindexed:
    """Bring the spool and the ledger together."""
    spool = Spool(settings.spool_folder)
    swept = spool.sweep()
    indexed = damaged = 0
    for path in spool.files():
        with ledger.read() as db:
            if studies.instance_of_path(db, path):
                continue
        try:
            receipt = _index(spool, ledger, path)
        except FileNotFoundError:  # released meanwhile
            continue
        except (RejectedInstance, InvalidDicomError, ValueError) as error:
            damaged += 1
            log.error(
                "spool_file_damaged",
                path=path,
                what=error.what if isinstance(error, RejectedInstance) else type(error).__name__,
                do="Check the disk; have the study sent again; then remove the file.",
            )
            continue
        indexed += 1
        log.warning("spool_file_indexed", path=path, receipt=receipt.value)
    log.info("reindexed", swept=swept, indexed=indexed, damaged=damaged)
    return Reindexed(swept, indexed, damaged)


def _index(spool: Spool, ledger: Ledger, path: str) -> Receipt:
    file = spool.absolute(path)
    meta, data_offset = split_dataset(file)
    syntax = str(meta.get("TransferSyntaxUID", ""))
    with file.open("rb") as opened:
        opened.seek(data_offset)
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size_bytes = opened.tell() - data_offset
    if digest != file.stem:
        raise ValueError("The content is not what the name says.")
    return index(
        ledger,
        gate.identify(file, data_offset, syntax, spool),
        transfer_syntax_uid=syntax,
        digest=digest,
        path=path,
        size_bytes=size_bytes,
        calling_ae=str(meta.get("SourceApplicationEntityTitle", "")),
        association_id="",
    )
