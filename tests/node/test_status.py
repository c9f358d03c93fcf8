"""What a C-STORE status does to a delivery: PS3.4 table B.2-1, PS3.7 annex C."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from node.dimse.status import TABLE, Verdict, meaning_of


def test_all_65536_codes_have_exactly_one_meaning() -> None:
    verdicts = Counter(meaning_of(status).verdict for status in range(0x10000))
    assert sum(verdicts.values()) == 0x10000
    # Accepted: success, two duplicates, the three general warnings and the whole Bxxx class.
    assert verdicts[Verdict.ACCEPTED] == 6 + 0x1000
    # Busy: A7xx save what dcm4chee says of rejection notes, processing failure, duplicate
    # invocation, resource limitation.
    assert verdicts[Verdict.BUSY] == 0x100 - 9 + 3


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0x0111, 0x0001, 0x0107, 0x0116])
def test_success_warnings_and_a_duplicate_are_accepted(status: int) -> None:
    assert meaning_of(status).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF, 0x0213, 0x0110])
def test_a_peer_without_room_is_tried_again(status: int) -> None:
    assert meaning_of(status).verdict is Verdict.BUSY


NAMED = (0xA900, 0xA9FF, 0xC000, 0xC123, 0xCFFF, 0x0117, 0x0122, 0x0124)
UNKNOWN = (0xA6FF, 0xA800, 0xAA00, 0xD000, 0xFE00, 0xFF00, 0xFF01, 0xFFFF, 0x0002)


@pytest.mark.parametrize("status", [*NAMED, *UNKNOWN])
def test_what_will_not_pass_goes_to_a_person_with_something_to_do(status: int) -> None:
    meaning = meaning_of(status)
    assert meaning.verdict is Verdict.REFUSED
    assert meaning.do


def test_the_table_is_sorted_and_no_two_rows_overlap() -> None:
    assert all(row.first <= row.last for row in TABLE)
    assert all(before.last < after.first for before, after in pairwise(TABLE))


@pytest.mark.parametrize("status", [-1, 0x10000])
def test_a_status_has_16_bits(status: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        meaning_of(status)
