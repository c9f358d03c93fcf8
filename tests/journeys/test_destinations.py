"""A PACS that is down, and one that says no: results wait for it, or a person is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.domain import DeliveryState
from tests.journeys.department import FOLDER, SCRIPTED, data_set_bytes
from tests.peers import wait_until
from tests.peers.pacs import Script

if TYPE_CHECKING:
    from tests.journeys.department import Department, Study

pytestmark = pytest.mark.slow


def test_results_wait_for_a_pacs_that_is_down_and_hold_up_nobody_else(
    department: Department, study: Study
):
    with department.pacs_down():
        department.scan(study, "CT2")
        wait_until(
            lambda: department.states(study, FOLDER) == [DeliveryState.SENT] * 2,
            timeout_s=60.0,
            what="The delivery to the folder",
        )
        wait_until(
            lambda: all(row["what"] for row in department.deliveries(study, SCRIPTED)),
            what="The first attempt at the PACS",
        )
        waiting = department.deliveries(study, SCRIPTED)
        assert [row["state"] for row in waiting] == [DeliveryState.PENDING] * 2
        assert all(f"No answer from '{SCRIPTED}'" in row["what"] for row in waiting)
        assert department.held(study, SCRIPTED) == {}
    department.let_back_offs_end()
    department.wait_delivered(study)
    held, copied = department.held(study, SCRIPTED), department.held(study, FOLDER)
    assert held.keys() == copied.keys()
    for uid, content in held.items():
        assert data_set_bytes(content) == data_set_bytes(copied[uid])


def test_a_person_is_told_what_a_pacs_refused_and_retry_sends_it(
    department: Department, study: Study
):
    department.pacs.script = Script(store=("0xA900", "0xA900"))
    department.scan(study, "CT2")
    wait_until(
        lambda: department.states(study, SCRIPTED) == [DeliveryState.REFUSED] * 2,
        timeout_s=60.0,
        what="The refusal",
    )
    (job,) = department.jobs(study)
    told = [
        row
        for row in department.say_json("deliveries", "--state", "refused")
        if row["job_id"] == job["id"]
    ]
    assert {row["role"] for row in told} == {"seg", "sr"}
    for row in told:
        assert row["status"] == 0xA900
        assert "Data set does not match its SOP class" in row["what"]
        assert "radnode retry" in row["do"]
    assert department.events(study).count("refused") == 2
    assert department.say("retry", job["id"][:12]) == "2 objects are sent again.\n"
    department.wait_delivered(study)
    assert department.held(study, SCRIPTED).keys() == department.held(study, FOLDER).keys()
    again = department.node.ask("retry", job["id"])
    assert again.returncode == 1
    assert "nothing refused it" in again.stderr
