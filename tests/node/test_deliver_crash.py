"""The deliverer is killed at every named point; each object is in the PACS once, committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from node import commit, deliver
from node.settings import DimseDestination
from node.wake import Alarm
from tests.node.results import data_set_digest, make_due, states, waiting_result
from tests.peers import REPOSITORY, wait_until
from tests.peers.pacs import pacs

if TYPE_CHECKING:
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

RUN = """
import sys
from node import commit, deliver
from node.settings import Settings
from node.store.ledger import open_ledger
settings = Settings.model_validate_json(sys.argv[1])
ledger = open_ledger(settings)
deliver.run_once(settings, ledger)
commit.run_once(settings, ledger, hold_s=1.0)
"""


@pytest.mark.parametrize(
    "point",
    [
        "deliver.before_send",
        "deliver.sent_unmarked",
        "deliver.sent_unmarked:2",
        "deliver.marked",
        "commit.row_written",
        "commit.requested",
        "commit.answered",
    ],
)
def test_a_deliverer_that_is_killed_leaves_one_object_each_and_all_committed(
    settings: Settings, ledger: Ledger, tmp_path: Path, point: str
) -> None:
    with pacs(tmp_path / "pacs") as archive:
        destination = DimseDestination(
            kind="dimse", ae_title="PACS", host="127.0.0.1", port=archive.port
        )
        settings = settings.model_copy(update={"destinations": {"pacs": destination}})
        made = waiting_result(settings, ledger, ["pacs"])
        killed = subprocess.run(
            [sys.executable, "-c", RUN, settings.model_dump_json()],
            env=os.environ | {"RADNODE_CRASH_AT": point},
            cwd=REPOSITORY,
            check=False,
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL

        alarm, stop = Alarm(), threading.Event()
        again = threading.Thread(target=deliver.run, args=(settings, ledger, alarm, stop))
        again.start()
        wait_until(lambda: "pending" not in states(ledger))
        stop.set()
        alarm.ring()
        again.join(30.0)
        if states(ledger) != ["committed", "committed"]:
            make_due(ledger)  # the time-out of the question that was lost
            commit.run_once(settings, ledger)
        assert states(ledger) == ["committed", "committed"]

        assert {path.stem for path in archive.files()} == {one.sop_instance_uid for one in made}
        digests = {data_set_digest(settings.artifact_folder / one.path) for one in made}
        assert {entry["digest"] for entry in archive.journal("store")} == digests
