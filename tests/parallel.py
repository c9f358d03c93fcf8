"""How the tests are shared out when pytest runs in several processes (``-n 2``).

The tests of a file stay together, for what they build once. So do those on a department of the
journeys, whichever file they are in. Each process has its own servers: PostgreSQL, Orthanc, and
whatever else a test starts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

from tests.peers import wait_until

if TYPE_CHECKING:
    import pytest
    from xdist.workermanage import WorkerController

DEPARTMENTS = ("sqlite-embedded", "postgresql-redis")
"""The set-ups of a department, as names of tests spell them."""

_SHARED = "radnode_shared"


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out the tests in the order of their collection, a file or a department at a time."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        on = (department for department in DEPARTMENTS if department in nodeid)
        return next(on, nodeid.partition("::")[0])


def prepare() -> None:
    """Keep numerical libraries of the processes to come to one thread each: they share the cores.

    Threads that wait for a core that another process has make a network many times slower.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def share(node: WorkerController, folder: Path) -> None:
    """Name to a process a folder that all processes of this run see."""
    node.workerinput[_SHARED] = str(folder)


def shared_folder(config: pytest.Config) -> Path | None:
    """Return the folder that all processes see; None where there is but one."""
    given = getattr(config, "workerinput", {}).get(_SHARED)
    return Path(given) if given else None


def say_finished(config: pytest.Config) -> None:
    """Tell the other processes that this one has no more tests."""
    folder = shared_folder(config)
    if folder is not None:
        (folder / f"{config.workerinput['workerid']}.finished").touch()


def wait_for_others(config: pytest.Config, timeout_s: float) -> None:
    """Return when every process but this one has no more tests."""
    folder = shared_folder(config)
    if folder is not None:
        others = config.workerinput["workercount"] - 1
        wait_until(
            lambda: len(list(folder.glob("*.finished"))) >= others,
            timeout_s=timeout_s,
            what="The end of the tests of other processes",
        )
