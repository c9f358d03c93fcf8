"""Complete: decide that a series, then its study, has arrived whole.

Nothing in DICOM says so. A series is complete when it is quiet and no open association feeds
it; all timers are columns, so a restart forgets nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.log import get_logger, short
from node.store import studies

if TYPE_CHECKING:
    from node.settings import Complete
    from node.store.ledger import Ledger

log = get_logger(__name__)


def run_once(complete: Complete, ledger: Ledger) -> int:
    """Close what is complete now; the number of series and studies closed."""
    with ledger.read() as db:
        if not studies.anything_receiving(db):
            return 0
    series_s = {name: complete.series_quiet_s(name) for name in complete.modality}
    study_s = {name: complete.study_quiet_s(name) for name in complete.modality}
    with ledger.write() as db:
        series = studies.complete_series(db, complete.series_s, series_s)
    # A transaction of its own: a listener locks a study before its series, and would deadlock.
    with ledger.write() as db:
        whole = studies.complete_studies(db, complete.study_s, study_s)
    for one in series:
        log.info(
            "series_complete",
            study=short(one.study_uid),
            series=short(one.series_uid),
            modality=one.modality,
            revision=one.revision,
        )
    for study_uid in whole:
        log.info("study_complete", study=short(study_uid))
    return len(series) + len(whole)
