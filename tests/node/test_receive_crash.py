"""The listener is killed at a named point, and nothing that it acknowledged is lost."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from node.reindex import reindex
from tests.node.receiving import (
    instances,
    listener_process,
    open_associations,
    parts,
    stored,
)
from tests.peers import absent, accepts, scanner, wait_until

SERIES = [scanner.ct_slice(number) for number in range(1, 6)]
EVERYTHING = {str(one.SOPInstanceUID): scanner.encode(one) for one in SERIES}


def send_until_it_dies(port: int) -> list[int | None]:
    """Send the series; the status of each, None where no answer came."""
    statuses: list[int | None] = []
    try:
        with scanner.associate(port) as ct1:
            statuses.extend(ct1.store(one).status for one in SERIES)
    except ConnectionError:
        pass
    return statuses + [None] * (len(SERIES) - len(statuses))


@pytest.mark.parametrize(
    ("point", "indexed_at_once", "in_doubt"),
    [
        ("receive.part_written", 2, 0),  # in doubt: kept, but the sender was not told
        ("receive.renamed", 2, 1),
        ("receive.row_written", 3, 1),
        ("receive.answered", 3, 0),
    ],
)
def test_killed_at_the_third_instance(settings, ledger, tmp_path, point, indexed_at_once, in_doubt):
    environment = {"RADNODE_CRASH_AT": f"{point}:3"}
    with listener_process(settings, tmp_path / "1.log", **environment) as process:
        statuses = send_until_it_dies(settings.listen.port)
        assert process.wait(30) == -9
    acknowledged = {
        str(one.SOPInstanceUID)
        for one, status in zip(SERIES, statuses, strict=True)
        if status == 0x0000
    }
    assert len(acknowledged) == (3 if point == "receive.answered" else 2)
    assert len(instances(ledger)) == indexed_at_once

    for _ in range(2):  # starting twice is starting once
        reindex(settings, ledger)
        assert parts(settings) == []
        kept = {row["sop_instance_uid"] for row in instances(ledger)}
        assert acknowledged <= kept == stored(settings).keys()
        assert len(kept) == len(acknowledged) + in_doubt

    with listener_process(settings, tmp_path / "2.log"):
        assert [one.status for one in scanner.send(settings.listen.port, SERIES)] == [0x0000] * 5
    assert stored(settings) == EVERYTHING
    assert len(instances(ledger)) == 5


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_what_does_not_fit_and_recovers_by_itself(settings, ledger, tmp_path):
    """The spool is a file system of 4 MB, in a mount namespace of the listener's own."""
    unshare = shutil.which("unshare") or absent("unshare is not installed")
    spool = settings.spool_folder
    spool.mkdir()
    small_disk = f'mount -t tmpfs -o size=4m none "{spool}" && exec "$@"'
    own_mounts = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*own_mounts, small_disk, "sh", "true"], check=False).returncode != 0:
        absent("no file system can be mounted here")
    big = []
    for number in range(1, 6):
        dataset = scanner.ct_slice(number)
        dataset.PixelData = bytes([number]) * 1_200_000
        big.append(dataset)
    with listener_process(
        settings, tmp_path / "listener.log", before=[*own_mounts, small_disk, "sh"]
    ) as process:
        theirs = Path(f"/proc/{process.pid}/root{spool}")
        seen = settings.model_copy(update={"data": theirs.parent})
        with scanner.associate(settings.listen.port) as ct1:
            answers = [ct1.store(one) for one in big]
            assert [one.status for one in answers] == [0, 0, 0, 0xA700, 0xA700]
            assert answers[-1].comment == "The receiver's disk takes no more. Try again later."
            assert parts(seen) == []
            assert stored(seen) == {one.SOPInstanceUID: scanner.encode(one) for one in big[:3]}
            assert len(instances(ledger)) == 3
            for kept in theirs.glob("??/*.dcm"):  # as a retention purge would
                kept.unlink()
            assert [ct1.store(one).status for one in big[3:]] == [0, 0]
        assert stored(seen) == {one.SOPInstanceUID: scanner.encode(one) for one in big[3:]}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_association_of_a_killed_listener_is_closed_when_it_starts_again(
    settings, ledger, tmp_path
):
    with listener_process(settings, tmp_path / "1.log") as process:
        try:
            with scanner.associate(settings.listen.port) as ct1:
                ct1.store(SERIES[0])
                process.kill()
                process.wait()
        except ConnectionError:
            pass
    wait_until(lambda: not accepts(settings.listen.port))
    with listener_process(settings, tmp_path / "2.log"):
        wait_until(lambda: open_associations(ledger) == [])
