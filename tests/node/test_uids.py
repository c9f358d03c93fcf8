"""Identifiers: the same work has the same, other work another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derived_uid, is_uid

PARTS = st.lists(
    st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=4,
)


def test_a_derived_uid_never_changes() -> None:
    """Results are in archives under these: another value would double every one of them."""
    assert derived_uid("job", "1.2.3", "sr") == "2.25.173653819544576013871836743233943351744"


@given(PARTS)
def test_a_derived_uid_is_a_uid_of_at_most_44_characters(parts: list[str]) -> None:
    uid = derived_uid(*parts)
    assert UID(uid).is_valid
    assert is_uid(uid)
    assert len(uid) <= 44


@given(PARTS, PARTS)
def test_other_parts_make_another_uid(one: list[str], other: list[str]) -> None:
    assert (derived_uid(*one) == derived_uid(*other)) is (one == other)


@pytest.mark.parametrize("parts", [(), ("",), ("a", ""), ("a|b",), ("a", "b|")])
def test_ambiguous_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="non-empty"):
        derived_uid(*parts)


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25.1", "1." + "9" * 62])
def test_a_uid_is_known(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1..2", "01.2", "1.02", "1.2 ", "1.2\n", "1.a", "1." + "9" * 63]
)
def test_what_is_no_uid_is_known(text: str) -> None:
    assert not is_uid(text)


def test_this_implementation_names_itself_as_the_standard_allows() -> None:
    """PS3.7 section D.3.3.2."""
    assert is_uid(IMPLEMENTATION_CLASS_UID)
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
