"""When the next thing is due: what a stage that has nothing to do may sleep for.

All that is asked here is answered by an index, however much the ledger holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from node.clock import LONGEST_WAIT_S, database_now
from node.domain import DeliveryState, StudyState
from node.store.commitments import longest_wait_s
from node.store.studies import quiet_s
from node.store.tables import delivery, series, study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    Quiet = tuple[float, Mapping[str, float]]


def quiet_ends_in_s(
    db: Connection, series_quiet: Quiet, study_quiet: Quiet, *, held_s: float
) -> float:
    """Return in how many seconds the next quiet time ends; infinity if none is still to end.

    Args:
        db: A connection.
        series_quiet: Quiet time of most series, and by modality that of the others.
        study_quiet: The same for the studies that they belong to.
        held_s: At most this, where the quiet time of a series is over: it is complete, or an
            open association holds it, whose end is no moment that is known before.
    """
    of_series = series.c.last_instance_at + quiet_s(*series_quiet) - database_now()
    soonest, is_over = db.execute(
        select(
            func.min(case((of_series > 0.0, of_series))),
            func.max(case((of_series <= 0.0, 1), else_=0)),
        ).where(series.c.state == StudyState.RECEIVING)
    ).one()
    of_study = study.c.last_instance_at + quiet_s(*study_quiet) - database_now()
    # Each of its series is asked: too early for a study is one look too many, and no harm.
    study_soonest = db.execute(
        select(func.min(case((of_study > 0.0, of_study))))
        .join_from(study, series, series.c.study_uid == study.c.study_uid)
        .where(study.c.state == StudyState.RECEIVING)
    ).scalar_one()
    return min(
        math.inf if soonest is None else soonest,
        math.inf if study_soonest is None else study_soonest,
        held_s if is_over else math.inf,
    )


def delivery_due_in_s(
    db: Connection,
    destination: str,
    state: DeliveryState,
    *,
    longest_wait_s: float = LONGEST_WAIT_S,
) -> float:
    """Return in how many seconds something for ``destination`` is due; infinity if nothing waits.

    Args:
        db: A connection.
        destination: Its name.
        state: Of the deliveries that are asked for.
        longest_wait_s: As ``clock.is_due``, which it foretells.
    """
    at = delivery.c.next_attempt_at
    these = (
        select(at).where(delivery.c.destination == destination, delivery.c.state == state).limit(1)
    )
    first, last = db.execute(
        select(
            these.order_by(at).scalar_subquery() - database_now(),
            these.order_by(at.desc()).scalar_subquery() - database_now(),
        )
    ).one()
    if first is None:
        return math.inf
    return 0.0 if last > longest_wait_s else max(0.0, first)


def commitment_due_in_s(db: Connection, destination: str, *, timeout_s: float) -> float:
    """Return in how many seconds commitment is to be asked for; infinity if nothing was sent.

    Args:
        db: A connection.
        destination: Its name.
        timeout_s: As ``commitments.claim_uncommitted``, which it foretells.
    """
    return delivery_due_in_s(
        db, destination, DeliveryState.SENT, longest_wait_s=longest_wait_s(timeout_s)
    )
