"""Confine: what a process of the node gives up before it sees the first patient.

No core dump, no file that others of this host may read, no temporary file outside the data
folder: each would be patient data where nobody looks for them, and nobody removes them.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


def dump_no_core() -> None:
    """Let neither this process nor what it starts dump core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def open_many_files() -> None:
    """Let this process open as many files as the site allows: the usual limit is for select(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def confine(data: Path) -> None:
    """Keep what this process writes, and what it starts, to the data folder and its owner.

    Raises:
        OSError: There is no data folder, and it cannot be made.
    """
    dump_no_core()
    os.umask(0o077)
    data.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):  # a volume of root's, open to a group: the site decides
        data.chmod(0o700)
    folder = data.resolve() / "tmp"
    with suppress(OSError):  # on a full disk there are no temporary files, rather than elsewhere
        folder = _own_folder(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _own_folder(parent: Path) -> Path:
    """Make a folder in ``parent`` for this process; remove those of processes that have died.

    A process holds the lock in its folder for as long as it lives; the kernel frees it.

    Raises:
        OSError: The disk does not take it.
    """
    parent.mkdir(exist_ok=True)
    with (parent / "lock").open("a") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for left in parent.glob("*/"):
            with suppress(OSError), (left / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=""))
        fcntl.flock(os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
        return folder
