"""Complete: decide that a series, then its study, has arrived whole.

Nothing in DICOM says so. A series is complete when it is quiet and no open association feeds
it; all timers are columns, so a restart forgets nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from node.crashpoint import reach
from node.log import get_logger, short
from node.store import studies, timers

if TYPE_CHECKING:
    from node.settings import Complete
    from node.store.ledger import Ledger

log = get_logger(__name__)

HELD_S = 1.0
"""A series that only an open association keeps from being complete is looked at this often."""


def run_once(complete: Complete, ledger: Ledger) -> int:
    """Close what is complete now; the number of series and studies closed."""
    with ledger.read() as db:
        if not studies.anything_receiving(db):
            return 0
    with ledger.write() as db:
        series = studies.complete_series(db, *_series_quiet(complete))
    # A transaction of its own: a listener locks a study before its series, and would deadlock.
    with ledger.write() as db:
        whole = studies.complete_studies(db, *_study_quiet(complete))
    if series or whole:
        reach("complete.closed")
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


def due_in_s(complete: Complete, ledger: Ledger) -> float:
    """Return when the next quiet time ends, in seconds; infinity if none is known to.

    To be asked before ``run_once``, or what ends between the two would be forgotten.
    """
    with ledger.read() as db:
        if not studies.anything_receiving(db):
            return math.inf
        return timers.quiet_ends_in_s(
            db, _series_quiet(complete), _study_quiet(complete), held_s=HELD_S
        )


def shortest_s(complete: Complete) -> float:
    """Return the shortest wait that the configuration asks for.

    Who looks this often has seen the first instance before its quiet time ends.
    """
    of_series, of_study = _series_quiet(complete), _study_quiet(complete)
    several = [*of_series[1].values(), *of_study[1].values()]
    return min(of_series[0], of_study[0], complete.missing_s, *several)


def _series_quiet(complete: Complete) -> tuple[float, dict[str, float]]:
    own = {name: complete.series_quiet_s(name) for name in complete.modality}
    return complete.series_s, own


def _study_quiet(complete: Complete) -> tuple[float, dict[str, float]]:
    own = {name: complete.study_quiet_s(name) for name in complete.modality}
    return complete.study_s, own
