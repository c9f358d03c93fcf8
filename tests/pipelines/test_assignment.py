"""Pairs of the least cost in all: held against every way there is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.assignment import assign

COSTS = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    elements=st.floats(0.0, 2.0, width=16),
)


def total(cost, pairs):
    """What it costs, with 1 for each row and column that could have been a pair and is not."""
    return sum(cost[pair] for pair in pairs) + min(cost.shape) - len(pairs)


@given(COSTS)
def test_no_other_pairs_cost_less(cost):
    pairs = assign(cost, limit=1.0)
    assert all(cost[pair] < 1.0 for pair in pairs)
    for axis in (0, 1):
        assert len({pair[axis] for pair in pairs}) == len(pairs)
    wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
    least = min(
        sum(min(wide[row, column], 1.0) for row, column in enumerate(columns))
        for columns in permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert abs(total(cost, pairs) - least) < 1e-9


def test_a_pair_is_not_torn_apart_to_give_another_a_partner():
    """A vanished, B stayed, C is new: A-B and B-C would be two pairs, but worse ones."""
    cost = np.array([[0.8, 1.6], [0.0, 0.8]])
    assert assign(cost, limit=1.0) == ((1, 0),)


def test_nobody_is_paired_with_nobody():
    assert assign(np.zeros((0, 3)), limit=1.0) == ()
    assert assign(np.zeros((3, 0)), limit=1.0) == ()
