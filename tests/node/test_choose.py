"""Choose: the same series for the same input, in whatever order they came."""

from __future__ import annotations

from itertools import permutations

from node.choose import Candidate, candidate, choose
from node.domain import JobInput

THICK = Candidate("1.1", images=25, number=3)
FINE = Candidate("1.2", images=176, number=2)
REPEATED = Candidate("1.3", images=176, number=9)
OTHER = Candidate("1.4", images=30, number=5)


def test_the_finest_series_is_chosen_and_of_its_repeats_the_last():
    for order in permutations([THICK, FINE, REPEATED]):
        assert choose({"t1c": order}) == {"t1c": JobInput("t1c", "1.3", fitting=3)}


def test_no_series_serves_as_two_inputs():
    for order in permutations([FINE, THICK]):
        chosen = choose({"t1": order, "t1c": [FINE]})
        assert {name: one.series_uid for name, one in chosen.items()} == {"t1": "1.1", "t1c": "1.2"}


def test_an_input_that_nothing_fits_or_that_another_needs_more_is_not_chosen():
    assert choose({"t1": [FINE], "flair": []}) == {"t1": JobInput("t1", "1.2", 1)}
    assert list(choose({"t1": [FINE], "t2": [FINE]})) == ["t1"]


def test_the_choice_is_in_the_order_of_the_pipeline():
    assert list(choose({"t1c": [FINE, THICK], "t1": [OTHER]})) == ["t1c", "t1"]


def test_frames_of_a_multi_frame_series_count_as_images():
    frames = {"NumberOfFrames": frozenset({"40", "60"}), "SeriesNumber": frozenset({"7"})}
    assert candidate("1.5", 2, frames) == Candidate("1.5", images=120, number=7)
    assert candidate("1.6", 3, {"SeriesNumber": frozenset({"no"})}) == Candidate("1.6", 3, 0)
