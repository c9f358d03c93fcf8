"""Folder destinations: whole and durable, or not there."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import folder
from node.errors import PeerBusy, PeerRefused, PeerUnreachable
from tests.peers import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_copy_has_the_same_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    source = tmp_path / "sr.dcm"
    source.write_bytes(os.urandom(100_000))
    destination = tmp_path / "out"
    destination.mkdir()
    for _ in range(2):  # twice is once
        copied = folder.copy(source, destination, study_uid="1.2", sop_instance_uid="1.2.3")
        assert copied.read_bytes() == source.read_bytes()
    assert [path for path in destination.rglob("*") if path.is_file()] == [copied]


def test_a_copy_interrupted_by_a_crash_is_replaced(tmp_path: Path) -> None:
    source = tmp_path / "sr.dcm"
    source.write_bytes(b"whole")
    copied = folder.copy(source, tmp_path, study_uid="1.2", sop_instance_uid="1.2.3")
    copied.rename(copied.with_suffix(".part"))
    copied.with_suffix(".part").write_bytes(b"wh")
    again = folder.copy(source, tmp_path, study_uid="1.2", sop_instance_uid="1.2.3")
    assert again == copied
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


@given(uid=st.text(max_size=80))
def test_no_uid_leads_out_of_the_folder(uid: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    destination = tmp_path_factory.mktemp("out")
    source = tmp_path_factory.mktemp("in") / "x"
    source.write_bytes(b"x")
    copied = folder.copy(source, destination, study_uid=uid, sop_instance_uid=uid)
    assert copied.resolve().parent.parent == destination.resolve()
    assert copied.stem.isalnum()


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    source = tmp_path / "sr.dcm"
    source.write_bytes(b"x")
    missing = tmp_path / "mount"
    with pytest.raises(PeerUnreachable, match=r"mount.*Check that the folder exists"):
        folder.copy(source, missing, study_uid="1.2", sop_instance_uid="1.2.3")
    assert not missing.exists()


def test_a_full_disk_leaves_no_half_object_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "sr.dcm"
    source.write_bytes(b"x")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.folder.os.fsync", full)
    with pytest.raises(PeerBusy, match="No space left"):
        folder.copy(source, tmp_path, study_uid="1.2", sop_instance_uid="1.2.3")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]


def test_an_object_that_cannot_be_opened_says_nothing_about_the_folder(tmp_path: Path) -> None:
    with pytest.raises(PeerRefused, match=r"sr\.dcm"):
        folder.copy(tmp_path / "sr.dcm", tmp_path, study_uid="1.2", sop_instance_uid="1.2.3")


def test_two_deliverers_that_copy_the_same_object_do_not_damage_it(tmp_path: Path) -> None:
    whole, slow = tmp_path / "sr.dcm", tmp_path / "slow"
    whole.write_bytes(b"whole")
    os.mkfifo(slow)
    out = tmp_path / "out"
    out.mkdir()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(folder.copy, slow, out, study_uid="1.2", sop_instance_uid="1.2.3")
        with slow.open("wb") as writing:
            wait_until(lambda: list(out.rglob("*.part")))
            copied = folder.copy(whole, out, study_uid="1.2", sop_instance_uid="1.2.3")
            writing.write(b"wh")
        with pytest.raises(PeerBusy):
            other.result()
    assert copied.read_bytes() == b"whole"
    assert [path for path in out.rglob("*") if path.is_file()] == [copied]
