"""Complete: the quiet times of the configuration, applied to what the ledger holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from node import complete
from node.settings import Complete, Quiet
from node.store import studies
from node.store.tables import series, study
from tests.node.ledger_rows import arrived, let_time_pass, receive, rows, uid

if TYPE_CHECKING:
    from node.store.ledger import Ledger

CT_FAST = Complete(series_s=60.0, study_s=60.0, modality={"CT": Quiet(series_s=10.0, study_s=10.0)})


def states(ledger: Ledger) -> dict[str, str]:
    return {row.modality: row.state for row in rows(ledger, series)}


def test_each_modality_waits_its_own_time(ledger: Ledger) -> None:
    receive(ledger, arrived(1), arrived(2, modality="MR", series_uid=uid("mr")))
    assert complete.run_once(CT_FAST, ledger) == 0
    with ledger.write() as db:
        let_time_pass(db, 20.0)
    assert complete.run_once(CT_FAST, ledger) == 1
    assert states(ledger) == {"CT": "complete", "MR": "receiving"}
    with ledger.write() as db:
        let_time_pass(db, 60.0)
    assert complete.run_once(CT_FAST, ledger) == 2
    assert [row.state for row in rows(ledger, study)] == ["complete"]


def test_a_series_is_closed_before_the_study_that_waits_longer(ledger: Ledger) -> None:
    receive(ledger, arrived())
    with ledger.write() as db:
        let_time_pass(db, 20.0)
    assert complete.run_once(Complete(series_s=10.0, study_s=60.0), ledger) == 1
    assert [row.state for row in rows(ledger, study)] == ["receiving"]


def test_it_is_known_from_the_ledger_when_the_next_quiet_time_ends(ledger: Ledger) -> None:
    slow = Complete(series_s=2000.0, study_s=5000.0, modality={"CT": Quiet(series_s=1000.0)})
    assert complete.due_in_s(slow, ledger) == math.inf
    receive(ledger, arrived(1, modality="MR"))
    assert complete.due_in_s(slow, ledger) == pytest.approx(2000.0, abs=100.0)
    receive(ledger, arrived(2, series_uid=uid("ct")))
    assert complete.due_in_s(slow, ledger) == pytest.approx(1000.0, abs=100.0)
    with ledger.write() as db:
        let_time_pass(db, 2500.0)
    complete.run_once(slow, ledger)
    assert complete.due_in_s(slow, ledger) == pytest.approx(2500.0, abs=100.0)  # the study's


def test_a_series_that_an_open_association_holds_is_looked_at_again_soon(ledger: Ledger) -> None:
    with ledger.write() as db:
        studies.open_association(db, "open", listener="listener", calling_ae="CT1")
    receive(ledger, arrived(association_id="open"))
    at_once = Complete(series_s=0.0, study_s=1000.0)
    assert complete.run_once(at_once, ledger) == 0
    assert complete.due_in_s(at_once, ledger) == complete.HELD_S


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_idle_node_takes_no_lock(ledger: Ledger) -> None:
    receive(ledger, arrived())
    complete.run_once(Complete(series_s=0.0, study_s=0.0), ledger)
    with ledger.write():  # holds the one write lock there is; a second writer would wait 30 s
        assert complete.run_once(Complete(series_s=0.0, study_s=0.0), ledger) == 0
