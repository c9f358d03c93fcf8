"""Relay: hand every bell in the outbox to the broker, and ring again for forgotten jobs.

Its process also completes, routes and plans: these stages only move rows, and one after
the other is their natural order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from node import bell, complete, plan, wake
from node.crashpoint import reach
from node.errors import BrokerAway, NodeError
from node.log import get_logger
from node.store import bells

if TYPE_CHECKING:
    import threading

    from celery import Celery

    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

SHORTEST_S = 0.01
"""Between two looks, whatever is due."""
SHORTEST_POLL_S = 0.2
"""Where a quiet time is even shorter."""
AWAY_S = 5.0
"""How long to leave an absent broker alone. Workers poll the ledger meanwhile."""


def run_once(app: Celery, ledger: Ledger) -> int:
    """Ring every bell not yet rung, oldest first; at least once each.

    Raises:
        BrokerAway: The rest stays in the outbox.
    """
    with ledger.read() as db:
        waiting = bells.unrung(db)
    for sequence, job_id in waiting:
        bell.ring(app, job_id)
        reach("relay.rung_unmarked")
        with ledger.write() as db:
            bells.mark_rung(db, [sequence])
    return len(waiting)


def ring_forgotten(app: Celery, ledger: Ledger) -> int:
    """Ring for jobs that wait although their bell was handed over long ago.

    Raises:
        BrokerAway: The broker does not answer.
    """
    with ledger.read() as db:
        waiting = bells.forgotten(db)
    if not waiting or bell.unheard(app):
        return 0  # no worker hears what rang already: more would only fill the broker
    for job_id in waiting:
        bell.ring(app, job_id)
    return len(waiting)


def run(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    """Complete, route, plan and ring until ``stop``. Nothing but ``stop`` ends it."""
    app = bell.make_app(settings)
    alarm = wake.alarm(settings, wake.Stage.RELAY, stop)
    poll_s = min(wake.POLL_S, max(SHORTEST_POLL_S, complete.shortest_s(settings.complete)))
    replanned = False
    broker_back_at = rung_again_at = 0.0
    while not stop.is_set():
        heard, now = alarm.rung, time.monotonic()
        wait_s = poll_s
        try:
            if not replanned:
                plan.plan_again(settings, ledger)
                replanned = True
            wait_s = min(wait_s, complete.due_in_s(settings.complete, ledger))
            complete.run_once(settings.complete, ledger)
            plan.run_once(settings, ledger)
            if now >= broker_back_at:
                if run_once(app, ledger):
                    wait_s = 0.0  # there may be more than it takes at once
                if now - rung_again_at >= bells.FORGOTTEN_S:
                    rung_again_at = now
                    ring_forgotten(app, ledger)
        except BrokerAway as error:
            broker_back_at = now + AWAY_S
            wait_s = min(wait_s, AWAY_S)
            log.warning("broker_away", what=error.what, do=error.do)
        except NodeError as error:
            log.error("relay_failed", what=error.what, do=error.do)
            stop.wait(AWAY_S)
        except Exception as error:
            log.error("relay_failed", what=type(error).__name__, do="Report this as a fault.")
            stop.wait(AWAY_S)
        alarm.wait(heard, max(SHORTEST_S, now + wait_s - time.monotonic()))
