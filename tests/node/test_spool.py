"""The spool keeps whole files, durable under their digest, and nothing else."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from node.spool import Part, Spool
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = b"meta"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def received(spool: Spool, data_set: bytes) -> Part:
    part = Part(spool.new_part(), HEADER)
    part.write(data_set[:3])
    part.write(data_set[3:])
    return part


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to write more into any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_kept_file_lies_under_the_digest_of_its_data_set(spool):
    part = received(spool, b"data set")
    path = spool.keep(part)
    part.close()
    digest = hashlib.sha256(b"data set").hexdigest()
    assert path == f"{digest[:2]}/{digest}.dcm"
    assert spool.absolute(path).read_bytes() == HEADER + b"data set"
    assert list(spool.files()) == [path]


def test_keeping_the_same_data_set_again_changes_nothing(spool):
    first = received(spool, b"data set")
    path = spool.keep(first)
    inode = spool.absolute(path).stat().st_ino
    again = received(spool, b"data set")
    assert spool.keep(again) == path
    again.discard()
    assert spool.absolute(path).stat().st_ino == inode
    assert not list((spool.folder / "tmp").iterdir())


@pytest.mark.parametrize("damage", ["another byte", "cut", "emptied", "made longer"])
def test_keeping_a_data_set_again_repairs_a_damaged_file(spool, damage):
    first = received(spool, b"data set")
    path = spool.absolute(spool.keep(first))
    whole = path.read_bytes()
    broken = {
        "another byte": b"n" + whole[1:],
        "cut": whole[:-1],
        "emptied": b"",
        "made longer": whole + b"t",
    }
    path.write_bytes(broken[damage])
    again = received(spool, b"data set")
    spool.keep(again)
    again.discard()
    assert path.read_bytes() == whole
    assert not list((spool.folder / "tmp").iterdir())


def test_what_cannot_be_replaced_is_not_kept(spool):
    part = received(spool, b"data set")
    in_the_way = spool.absolute(f"{part.digest[:2]}/{part.digest}.dcm")
    in_the_way.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        spool.keep(part)
    part.discard()


def test_discarding_a_part_after_it_was_kept_leaves_the_file(spool):
    part = received(spool, b"data set")
    path = spool.keep(part)
    part.discard()
    part.discard()
    assert spool.absolute(path).exists()


def test_a_part_that_the_disk_does_not_take_leaves_nothing_behind(spool):
    with files_limited_to(10_000):
        part = Part(spool.new_part(), HEADER)
        for _ in range(5):
            part.write(b"x" * 4000)
    assert isinstance(part.failure, OSError)
    assert not part.path.exists()
    assert part.size_bytes == 8000


def test_a_part_whose_folder_cannot_be_made_says_so(tmp_path):
    (tmp_path / "spool").write_text("a file where a folder should be")
    part = Part(Spool(tmp_path / "spool").new_part(), HEADER)
    part.write(b"data set")
    assert isinstance(part.failure, OSError)


def test_sweeping_removes_what_a_dead_process_left_and_nothing_else(spool):
    living = received(spool, b"data set")
    program = (
        "import os, pathlib, node.spool as s\n"
        f"spool = s.Spool(pathlib.Path({str(spool.folder)!r}))\n"
        "part = s.Part(spool.new_part(), b'meta')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, cwd=REPOSITORY)
    assert len(list((spool.folder / "tmp").iterdir())) == 2
    assert spool.sweep() == 1
    assert list((spool.folder / "tmp").iterdir()) == [living.path]
    living.discard()


def test_sweeping_passes_by_what_it_cannot_remove(spool):
    (spool.folder / "tmp" / "folder.part" / "inside").mkdir(parents=True)
    (spool.folder / "tmp" / "nowhere.part").symlink_to("missing")
    (spool.folder / "tmp" / "left.part").touch()
    assert spool.sweep() == 1


def test_a_file_is_there_or_not(spool):
    part = received(spool, b"data set")
    path = spool.keep(part)
    part.close()
    assert spool.holds(path)
    assert not spool.holds("ab/missing.dcm")
    assert not spool.holds(path[:2])
    assert not spool.holds(f"{path}/below")


def test_sweeping_an_empty_spool_finds_nothing(spool):
    assert spool.sweep() == 0
    assert list(spool.files()) == []


def test_a_scratch_file_is_gone_at_the_end(spool):
    with spool.scratch() as scratch:
        scratch.write(b"something")
        assert scratch.path.exists()
    assert not scratch.path.exists()


def test_room_is_what_the_file_system_has_free(spool):
    spool.folder.mkdir()
    status = os.statvfs(spool.folder)
    free = status.f_bavail * status.f_frsize
    assert spool.has_room(free // 2)
    assert not spool.has_room(free * 2)
