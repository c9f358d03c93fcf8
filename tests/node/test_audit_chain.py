"""The chain: what was written is there after any crash, and nothing can be changed unnoticed."""

from __future__ import annotations

import os
import random
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.audit import records
from node.audit.chain import Chain, Places
from node.audit.records import START, read_head, segments
from node.audit.verify import verify
from node.errors import AuditBroken, ConfigError
from tests.node.audit_tampering import (
    MUTATIONS,
    contents,
    delete,
    flip,
    lose_a_file,
    restore,
    rewritten,
    truncate,
)
from tests.node.trails import bodies_of, body, lines_of, places_in, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.audit_tampering import Mutation

COUNT = 70
TAMPERINGS = 1_000


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_in(tmp_path)


# --- writing ---------------------------------------------------------------------------------


def test_records_are_numbered_through_all_segments_and_read_back_as_they_were(places: Places):
    written(places, COUNT)
    assert len(segments(places.folder)) > 2
    said = bodies_of(places)
    assert said == [{**body(n), "number": n} for n in range(1, COUNT + 1)]
    assert [read_head(path).number for path in places.heads] == [COUNT, COUNT]


def test_the_key_is_made_once_and_nobody_else_may_read_it(places: Places):
    written(places, 1)
    key = places.key.read_bytes()
    assert stat.S_IMODE(places.key.stat().st_mode) == 0o600
    written(places, 1)
    assert places.key.read_bytes() == key
    for path in segments(places.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_chain_goes_on_where_it_ended(places: Places):
    for _ in range(5):
        written(places, 11, segment_bytes=1_500)
    assert verify(places).head.number == 55


def test_a_chain_without_records_is_unbroken(places: Places):
    written(places, 0)
    assert verify(places).head == START


def test_only_one_process_writes(places: Places):
    with Chain(places, segment_bytes=4_000), pytest.raises(ConfigError, match="Another process"):
        Chain(places, segment_bytes=4_000)


def test_a_share_that_is_away_keeps_nothing_from_being_written(tmp_path: Path):
    places = places_in(tmp_path)
    (tmp_path / "elsewhere").write_text("no folder")
    written(places, 3)
    assert read_head(places.heads[0]).number == 3


@pytest.mark.parametrize("left", [1, 40, 90, -1])
def test_what_a_power_cut_left_of_a_record_is_taken_off_and_written_again(
    places: Places, left: int
):
    written(places, 10, segment_bytes=1_500)
    key = records.key_for(places.key, make=False)
    _, line = records.sealed(key, read_head(places.heads[0]), body(11))
    with segments(places.folder)[-1].open("ab") as file:
        file.write(line[:left])
    with pytest.raises(AuditBroken, match="Record 11 is cut off"):
        verify(places)
    written(places, 3, segment_bytes=1_500)
    assert [said["number"] for said in bodies_of(places)] == list(range(1, 14))


def test_records_whose_head_was_not_yet_copied_stay(places: Places):
    written(places, 10)
    old = [path.read_bytes() for path in places.heads]
    written(places, 5)
    for path, content in zip(places.heads, old, strict=True):
        path.write_bytes(content)
    assert verify(places).head.number == 15
    written(places, 0)
    assert read_head(places.heads[0]).number == 15


def test_a_line_that_is_being_written_is_no_tampering(places: Places):
    written(places, 10)
    with Chain(places, segment_bytes=4_000):
        with segments(places.folder)[-1].open("ab") as file:
            file.write(b"0123")
        assert verify(places).head.number == 10


def test_an_empty_segment_is_what_a_crash_may_leave(places: Places):
    written(places, 10, segment_bytes=100)
    records.segment(places.folder, 11).touch()
    assert verify(places).head.number == 10
    written(places, 2, segment_bytes=100)
    assert verify(places).head.number == 12


def test_a_full_disk_loses_nothing_that_was_said_to_be_written(
    places: Places, monkeypatch: pytest.MonkeyPatch
):
    written(places, 10)
    write, calls = os.write, []

    def half(descriptor: int, content: memoryview) -> int:
        calls.append(content)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: len(content) // 2])

    with Chain(places, segment_bytes=4_000) as chain:
        with monkeypatch.context() as patched:
            patched.setattr("node.audit.chain.os.write", half)
            with pytest.raises(OSError, match="No space"):
                chain.append([body(11), body(12), body(13)])
        assert chain.head.number == 10
    written(places, 2)
    numbers = [said["number"] for said in bodies_of(places)]
    assert numbers == list(range(1, numbers[-1] + 1))
    assert numbers[-1] >= 12


# --- tampering -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    written(places_in(folder), COUNT)
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A chain of the same length with another key and other content."""
    places = places_in(tmp_path_factory.mktemp("stranger"))
    written(places, COUNT, subject="another")
    return places


def test_of_a_thousand_tamperings_every_one_is_found(
    whole: Path, stranger: Places, tmp_path: Path
) -> None:
    found: dict[str, int] = {}
    original = contents(whole)
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    places = places_in(folder)
    assert verify(places).head.number == COUNT

    @settings(
        max_examples=TAMPERINGS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(MUTATIONS), st.integers(0, 2**32))
    def tamper(mutate: Mutation, seed: int) -> None:
        mutate(places, stranger, random.Random(seed))
        now = contents(folder)
        try:
            assert now != original, f"{mutate.__name__} changed nothing"
            with pytest.raises(AuditBroken):
                verify(places)
        finally:
            restore(folder, original, now)
        found[mutate.__name__] = found.get(mutate.__name__, 0) + 1

    tamper()
    assert verify(places).head.number == COUNT
    print(f"{sum(found.values())} tamperings, every one found: {found}")
    assert sum(found.values()) >= TAMPERINGS
    assert set(found) == {mutate.__name__ for mutate in MUTATIONS}


@pytest.mark.parametrize("number", [1, 2, 37, COUNT - 1, COUNT])
def test_the_first_record_that_is_wrong_is_named(whole: Path, tmp_path: Path, number: int) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    places = places_in(tmp_path / "copy")
    lines = lines_of(places)
    lines[number - 1] = lines[number - 1].replace(b'"pacs"', b'"pacz"')
    rewritten(places, lines)
    with pytest.raises(AuditBroken, match=f"Record {number} is not what was written") as broken:
        verify(places)
    assert broken.value.number == number


def test_a_trail_that_was_cut_with_both_its_heads_is_found_by_a_head_from_elsewhere(
    places: Places,
) -> None:
    written(places, 20, segment_bytes=100_000)
    shorter = [path.read_bytes() for path in (*places.heads, *segments(places.folder))]
    written(places, 3, segment_bytes=100_000)
    elsewhere = read_head(places.heads[0])
    for path, content in zip((*places.heads, *segments(places.folder)), shorter, strict=True):
        path.write_bytes(content)
    assert verify(places).head.number == 20  # nobody can tell from what lies here
    with pytest.raises(AuditBroken, match="Records 21 to 23 are gone") as broken:
        verify(places, [elsewhere])
    assert broken.value.number == 21


@pytest.mark.parametrize("mutate", [flip, delete, truncate, lose_a_file], ids=lambda m: m.__name__)
def test_nothing_is_added_to_a_trail_whose_end_was_tampered_with(
    places: Places, stranger: Places, mutate: Mutation
) -> None:
    written(places, 9, segment_bytes=100_000)
    mutate(places, stranger, random.Random(3))
    with pytest.raises(AuditBroken):
        Chain(places, segment_bytes=100_000)


def test_a_trail_that_was_removed_is_not_begun_anew(places: Places) -> None:
    written(places, 9)
    shutil.rmtree(places.folder)
    with pytest.raises(AuditBroken, match="gone"):
        Chain(places, segment_bytes=4_000)
