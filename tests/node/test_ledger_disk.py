"""The disk of the ledger is full: nothing is acknowledged, nothing is lost, and it heals itself."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from node.store.ledger import Ledger
from tests.node.receiving import instances, listener_process, stored
from tests.peers import absent, scanner

if TYPE_CHECKING:
    from node.settings import Settings

ONE_DISK_EACH = """
cp "{data}/ledger.sqlite" "{outside}" && mount -t tmpfs -o size=3m none "{data}"
cp "{outside}" "{data}" && mkdir "{data}/spool" && mount --bind "{spool}" "{data}/spool"
exec "$@"
"""
"""The ledger on a file system of 3 MB, the spool on another, in a mount namespace of its own."""


def fill(path: Path) -> None:
    """Leave no byte free on the disk of ``path``."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - that it ends so is the point


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_of_the_ledger_refuses_and_heals(settings: Settings, tmp_path: Path) -> None:
    unshare = shutil.which("unshare") or absent("unshare is not installed")
    spool, outside = tmp_path / "another disk", tmp_path / "ledger.sqlite"
    spool.mkdir()
    script = ONE_DISK_EACH.format(data=settings.data, spool=spool, outside=outside)
    own_mounts = [unshare, "--user", "--map-root-user", "--mount", "sh", "-e", "-c", script, "sh"]
    if subprocess.run([*own_mounts, "true"], check=False).returncode != 0:
        absent("no file system can be mounted here")
    slices = [scanner.ct_slice(number) for number in range(1, 8)]
    with listener_process(settings, tmp_path / "listener.log", before=own_mounts) as process:
        theirs = Path(f"/proc/{process.pid}/root{settings.data}")
        filler = theirs / "filler"
        with scanner.associate(settings.listen.port) as ct1:
            assert ct1.store(slices[0]).status == 0x0000
            fill(filler)
            answers = [ct1.store(one) for one in slices[1:4]]
            assert {one.status for one in answers} == {0xA700}
            assert answers[0].comment == (
                "The receiver's database does not answer. Try again later."
            )
            filler.unlink()
            assert [ct1.store(one).status for one in slices[1:4]] == [0, 0, 0]
            fill(filler)
            assert ct1.store(slices[4]).status == 0xA700
            # Who calls while it is full is put off, or refused instance by instance; never taken.
            try:
                answered = scanner.send(settings.listen.port, slices[5:6])
            except scanner.Rejected:
                answered = []
            assert [one.status for one in answered if one.status == 0x0000] == []
            filler.unlink()
            assert ct1.store(slices[4]).status == 0x0000
        assert [one.status for one in scanner.send(settings.listen.port, slices[5:])] == [0, 0]
        # SQLite would resolve the link, and open the file that lies below the mount.
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copyfile(theirs / name, tmp_path / name)
        with Ledger.open(f"sqlite:///{outside}") as ledger:
            kept = {row["sop_instance_uid"] for row in instances(ledger)}
        seen = settings.model_copy(update={"data": theirs})
        assert kept == stored(seen).keys() == {one.SOPInstanceUID for one in slices}
